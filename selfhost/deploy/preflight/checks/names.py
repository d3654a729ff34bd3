"""Names that others have: Deployments and Services that are not of this deployment, and what cannot be changed."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text, texts
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.surge import workloads
from selfhost.deploy.types import MANAGED_LABEL, Finding, is_ours


def clashes(look: Look) -> Iterator[Finding]:
    """Objects of the same names that are another owner's. The dry-run looks at every other kind."""
    unread: list[Unread] = []
    for kind, read in (("Deployment", look.facts.deployments), ("Service", look.facts.services)):
        wanted = {_name(item): item for item in look.desired.objects if text(item, "kind") == kind}
        if not wanted:
            continue
        if isinstance(read, Unread):
            unread.append(read)
            continue
        for item in read:
            if _name(item) not in wanted:
                continue
            if not is_ours(item, look.desired.name):
                yield _taken(look, kind, item)
            elif kind == "Deployment":
                yield from _selector(look, wanted[_name(item)], item)
    if unread:
        what = "; ".join(one.sentence for one in unread)
        yield Finding(
            code="name",
            level="unknown",
            message=f"Whether a name is taken is not known: {what}.",
            hint="The dry-run shows it, before anything is changed.",
        )


def _taken(look: Look, kind: str, item: Object) -> Finding:
    metadata = part(item, "metadata")
    managers = [text(one, "manager") for one in parts(metadata, "managedFields")]
    owner = texts(metadata, "labels").get(MANAGED_LABEL) or next(iter(managers), "") or "somebody else"
    return Finding(
        code="name",
        level="error",
        message=f"{kind} {_name(item)} is there already in {look.desired.namespace} and is not selfhost's (managed by "
        f"{owner}).",
        hint="Plan under another name (selfhost plan --name), or rename or delete it.",
    )


def _selector(look: Look, wanted: Object, found: Object) -> Iterator[Finding]:
    """A Deployment's selector cannot be changed (apps/v1)."""
    asked, has = (texts(part(part(one, "spec"), "selector"), "matchLabels") for one in (wanted, found))
    if asked != has:
        yield Finding(
            code="selector",
            level="error",
            message=f"Deployment {_name(found)} chooses its pods by other labels, which cannot be changed in place.",
            hint=f"Delete it first: kubectl -n {look.desired.namespace} delete deployment {_name(found)}",
            evidence=(f"has {_pairs(has)}", f"wanted {_pairs(asked)}"),
        )


def stray_services(look: Look) -> Iterator[Finding]:
    """Services of others that would send requests to these pods."""
    if isinstance(look.facts.services, Unread):
        return
    pods = [
        texts(part(group.template, "metadata"), "labels")
        for one in workloads(look.desired.objects)
        if one.serves
        for group in one.groups
    ]
    for item in look.facts.services:
        chosen = texts(part(item, "spec"), "selector")
        if not chosen or is_ours(item, look.desired.name):
            continue
        if any(chosen.items() <= labels.items() for labels in pods):
            yield Finding(
                code="service",
                level="warning",
                message=f"Service {_name(item)} of another owner chooses these pods too: its clients' requests will "
                "come here.",
                hint="Narrow its selector, or deploy into another namespace.",
                evidence=(_pairs(chosen),),
            )


def _pairs(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "nothing"


def _name(item: Object) -> str:
    return text(part(item, "metadata"), "name")


CHECKS = (clashes, stray_services)
