"""What was read of a cluster, once, for every check: plain objects, or why they could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from selfhost.cluster.types import Object
from selfhost.deploy.claims import Supply, supply_of
from selfhost.deploy.preflight.rights import Rights
from selfhost.deploy.types import Desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What could not be looked at.

    Args:
        what: for people: `nodes`.
        permission: the right that is missing, as `list nodes`; empty where it is something else.
        because: why, where it is no permission.
    """

    what: str
    permission: str = ""
    because: str = ""

    @property
    def sentence(self) -> str:
        """Why it is not known."""
        why = f"no permission to {self.permission}" if self.permission else self.because.rstrip(".")
        return f"{self.what} could not be looked at: {why}"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.permission:
            return "`selfhost preflight PLAN --request` writes the role that is missing."
        return "Run `selfhost preflight PLAN`, which looks at everything."


Read: TypeAlias = tuple[Object, ...] | Unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Which APIs the server has: group and version -> plurals of its kinds; None where those were not told."""

    versions: Mapping[str, frozenset[str] | None] = field(default_factory=dict)

    def has(self, api_version: str, plural: str) -> bool:
        """Whether a kind can be asked for."""
        if api_version not in self.versions:
            return False
        plurals = self.versions[api_version]
        return plurals is None or plural in plurals

    def of_group(self, group: str) -> tuple[str, ...]:
        """Versions of a group."""
        return tuple(version for version in self.versions if version.startswith(f"{group}/"))


NOTHING: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A cluster as the checks see it. What nothing in the deployment needs was not read, and is empty.

    Args:
        version: what `/version` says; empty where it does not answer.
        served: which APIs there are; None where the server does not say.
        namespace: the deployment's; None where there is none.
        nodes: of the cluster.
        pods: of every namespace that have not ended.
        storage_classes: of the cluster.
        claims: PersistentVolumeClaims of the namespace.
        quotas: ResourceQuotas of the namespace.
        limits: LimitRanges of the namespace.
        services: of the namespace.
        deployments: of the namespace.
        secrets: metadata alone of the namespace's Secrets.
        pull_secrets: metadata alone of those that are registry credentials.
        priority_classes: of the cluster.
        runtime_classes: of the cluster.
        ingress_classes: of the cluster.
        gateways: of the namespace that the HTTPRoute names.
        slices: ResourceSlices.
        device_claims: ResourceClaims of every namespace.
        rights: what the credentials permit.
        requests: how many requests it took.
    """

    version: Object = field(default_factory=dict)
    served: Served | None = None
    namespace: Object | Unread | None = None
    nodes: Read = NOTHING
    pods: Read = NOTHING
    storage_classes: Read = NOTHING
    claims: Read = NOTHING
    quotas: Read = NOTHING
    limits: Read = NOTHING
    services: Read = NOTHING
    deployments: Read = NOTHING
    secrets: Read = NOTHING
    pull_secrets: Read = NOTHING
    priority_classes: Read = NOTHING
    runtime_classes: Read = NOTHING
    ingress_classes: Read = NOTHING
    gateways: Read = NOTHING
    slices: Read = NOTHING
    device_claims: Read = NOTHING
    rights: Rights = field(default_factory=Rights)
    requests: int = 0

    @property
    def supply(self) -> Supply | Unread:
        """Devices that can be claimed (DRA)."""
        for read in (self.slices, self.device_claims):
            if isinstance(read, Unread):
                return read
        assert not isinstance(self.slices, Unread)
        assert not isinstance(self.device_claims, Unread)
        return supply_of(self.slices, self.device_claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a check sees.

    Args:
        facts: of the cluster.
        desired: what is to be deployed.
        before: what was deployed last; None for a first deployment.
    """

    facts: Facts
    desired: Desired
    before: Desired | None = None
