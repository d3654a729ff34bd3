"""What is said to a Kubernetes API server, and what it says: names of objects, lists, changes, and errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from selfhost.errors import ClusterError

# A Kubernetes object as the API server writes it. Read it with selfhost.cluster.values.
Object = dict[str, Any]
ChangeType = Literal["listed", "set", "gone", "trouble"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of objects.

    Args:
        api_version: group and version, as `apps/v1`; `v1` of the core group.
        name: as an object's `kind`.
        plural: in addresses and in roles.
        namespaced: whether its objects are in a namespace.
    """

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """Its API group, empty for the core group."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Ref:
    """Which object. `namespace` is empty for one that is in none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Objects of a kind at one moment; a watch goes on from `resource_version`."""

    items: tuple[Object, ...]
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of an object that was applied.

    Args:
        object: as it is now, or would be.
        created: it is new.
        unchanged: nothing of it is different from before, so that `object` is what was there. The server keeps the time
            of our last change in it (metadata.managedFields) where an apply changes nothing; False where that time is
            too near to tell.
    """

    object: Object
    created: bool
    unchanged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a watch tells.

    Args:
        kind: whose objects changed.
        type: `listed`: `items` is all that there is (at the start, and after a watch that expired); `set`: `items` is
            one object that is new or changed; `gone`: one that is no more; `trouble`: the server does not answer at
            present, `because` says how; the watch goes on by itself.
        items: objects.
        because: one sentence, of `trouble` alone.
    """

    kind: Kind
    type: ChangeType
    items: tuple[Object, ...] = ()
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A field that another field manager owns, where ours wants another value."""

    manager: str
    field: str


class ApiError(ClusterError):
    """An answer of the API server that is a refusal.

    Args:
        message: one sentence.
        status: of HTTP.
        reason: the Status object's word, as `NotFound`, `AlreadyExists`, `Invalid`; empty where it has none.
        said: the server's own words.
        hint: what to do.
    """

    def __init__(
        self, message: str, *, status: int, reason: str = "", said: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.said = said


class AbsentError(ApiError):
    """No such object, or no such API (404)."""


class ForbiddenError(ApiError):
    """The credentials do not permit it (403 of the authorizer); admission refuses with RefusedError."""


class TakenError(ApiError):
    """It exists already, or changed in the meantime (409 without field managers)."""


class ConflictError(ApiError):
    """Other field managers own fields that were to be changed (409 of server-side apply).

    Args:
        claims: field by field.
    """

    def __init__(self, message: str, *, claims: tuple[Claim, ...], said: str, hint: str | None) -> None:
        super().__init__(message, status=409, reason="Conflict", said=said, hint=hint)
        self.claims = claims


class RefusedError(ApiError):
    """The object is not accepted: invalid, quota, Pod Security, a policy or a webhook (400, 403 of admission, 422)."""


class ExpiredError(ApiError):
    """The resource version is too old for a watch or the next page of a list (410)."""
