"""Whether the credentials permit what a deployment does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from selfhost.deploy.preflight.facts import Look
from selfhost.deploy.preflight.rights import Right
from selfhost.deploy.types import Finding

_HINT = "Send an administrator what `selfhost preflight PLAN --request` writes."


def rights(look: Look) -> Iterator[Finding]:
    """Rights that are missing, those that the deployment cannot do without first."""
    found = look.facts.rights
    missing = [right for right in found.refused if right.needed]
    if missing:
        count = "1 right" if len(missing) == 1 else f"{len(missing)} rights"
        yield Finding(
            code="rights",
            level="error",
            message=f"{count} that deploying needs in {look.desired.namespace} "
            f"{'is' if len(missing) == 1 else 'are'} missing: {_few(missing)}.",
            hint=_HINT,
            evidence=tuple(grouped(missing)),
        )
    less = [right for right in found.refused if not right.needed]
    if less:
        yield Finding(
            code="rights-to-look",
            level="warning",
            message=f"Less is known for want of rights: {_few(less)}.",
            hint=_HINT,
            evidence=tuple(grouped(less)),
        )
    asked = [right for right in found.unknown if right.needed]
    if asked:
        yield Finding(
            code="rights",
            level="unknown",
            message=f"{len(asked)} rights could not be asked for: the authorizer does not list its rules.",
            hint="The dry-run asks for most of them; `selfhost preflight PLAN` asks for every one.",
            evidence=tuple(grouped(asked)),
        )
    if not missing and not asked:
        yield Finding(
            code="rights", level="ok", message="rights", evidence=(f"{len(found.granted)} looked at",)
        )


def grouped(rights: Iterable[Right]) -> Iterator[str]:
    """A line for each kind of objects, with its verbs and what they are for."""
    found: dict[tuple[str, str, bool], list[Right]] = {}
    for right in rights:
        found.setdefault((right.group, right.resource, right.cluster), []).append(right)
    for (group, resource, cluster), several in found.items():
        verbs = ", ".join(right.verb for right in several)
        what = "; ".join(dict.fromkeys(right.because for right in several if right.because))
        place = " (cluster-wide)" if cluster else ""
        yield f"{verbs} {resource}{f'.{group}' if group else ''}{place}: {what}"


def _few(rights: list[Right]) -> str:
    shown = ", ".join(map(str, rights[:3]))
    return f"{shown} and {len(rights) - 3} more" if len(rights) > 3 else shown


CHECKS = (rights,)
