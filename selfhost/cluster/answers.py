"""The server's Status objects -> errors that say what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping

from selfhost.cluster.types import (
    AbsentError,
    ApiError,
    Claim,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    Object,
    RefusedError,
    TakenError,
)
from selfhost.cluster.values import part, parts, printable, text
from selfhost.hush import hushed

# apimachinery pkg/api/errors and managedfields internal/conflict.go (1.37): conflict with "NAME" with … using VERSION
_MANAGER = re.compile(r'conflict with "((?:[^"\\]|\\.)*)"')
# apiserver pkg/endpoints/handlers/responsewriters/errors.go: how the authorizer says no.
_AUTHORIZER = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"')
# Ours: the header has whole seconds, and an answer takes some; what differs by less is the same time.
_SAME_SECONDS = 5.0


def error_of(status: int, body: Object, *, what: str, who: str) -> ApiError:
    """The error that an answer is.

    Args:
        status: of HTTP, 400 and above.
        body: the Status object, or an empty one.
        what: what was asked, as `apply Deployment llm/qwen3-32b`.
        who: whose credentials, as `context prod`.
    """
    reason = text(body, "reason")
    said = printable(hushed(_words(body)))
    more = f": {said.rstrip('.')}" if said else ""
    if status == 401:
        return ForbiddenError(
            f"The API server does not accept the credentials of {who}.",
            status=status,
            reason=reason,
            said=said,
            hint="Log in again: `kubectl get pods` works once they are right.",
        )
    if 300 <= status < 400 or (status == 403 and not body):  # a login page, or a proxy's own refusal
        return ApiError(
            f"Something in front of the API server answered {status} when asked to {what}.",
            status=status,
            hint="Check the server of this context in the kubeconfig, and proxies on the way (HTTPS_PROXY, NO_PROXY).",
        )
    if status == 403 and (_AUTHORIZER.search(said) or not said):
        return ForbiddenError(
            f"No permission to {what}{more}.",
            status=status,
            reason=reason,
            said=said,
            hint="`selfhost preflight PLAN --request` writes the role that is missing.",
        )
    if status == 404:
        return AbsentError(
            f"Cannot {what}{more or ': there is none'}.", status=status, reason=reason, said=said
        )
    if status == 409:
        claims = claims_of(body)
        if claims:
            owners = ", ".join(sorted({claim.manager for claim in claims}))
            fields = ", ".join(claim.field for claim in claims[:4])
            return ConflictError(
                f"Cannot {what}: {owners} owns {fields}{' and more' if len(claims) > 4 else ''}.",
                claims=claims,
                said=said,
                hint=f"Let {owners} give the field up, or take it over with --force-conflicts.",
            )
        return TakenError(f"Cannot {what}{more}.", status=status, reason=reason, said=said)
    if status == 410:
        return ExpiredError(f"Cannot {what}{more}.", status=status, reason=reason, said=said)
    if status in (400, 403, 422):
        return RefusedError(
            f"The API server refuses to {what}{more}.", status=status, reason=reason, said=said
        )
    return ApiError(
        f"The API server answered {status} when asked to {what}{more}.",
        status=status,
        reason=reason,
        said=said,
    )


def ahead_of(headers: Mapping[str, str], now: float) -> float:
    """Seconds by which the server's clock is ahead of ours (its header Date); 0 where they agree or it does not say.

    Args:
        headers: of an answer.
        now: Unix time by our clock, seconds.
    """
    from email.utils import parsedate_to_datetime

    try:
        ahead = parsedate_to_datetime(headers.get("Date", "")).timestamp() - now
    except ValueError:
        return 0.0
    return ahead if abs(ahead) > _SAME_SECONDS else 0.0


def claims_of(body: Object) -> tuple[Claim, ...]:
    """Whose fields a server-side apply would have changed."""
    found = []
    for cause in parts(part(body, "details"), "causes"):
        named = _MANAGER.search(text(cause, "message"))
        if text(cause, "reason") == "FieldManagerConflict":
            found.append(Claim(manager=named[1] if named else "another manager", field=text(cause, "field")))
    return tuple(found)


def _words(body: Object) -> str:
    return text(body, "message")
