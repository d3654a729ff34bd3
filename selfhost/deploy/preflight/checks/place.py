"""The namespace: whether it is there, and whether its level of Pod Security takes the pods."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.preflight.pod_security import violations
from selfhost.deploy.surge import workloads
from selfhost.deploy.types import Finding

_LABEL = "pod-security.kubernetes.io/"
_LEVELS = ("privileged", "baseline", "restricted")


def namespace(look: Look) -> Iterator[Finding]:
    """Whether there is one that objects can be made in."""
    found, name = look.facts.namespace, look.desired.namespace
    if found is None:
        yield Finding(
            code="namespace",
            level="error",
            message=f"There is no namespace {name}.",
            hint="--create-namespace makes it.",
        )
    elif isinstance(found, Unread):
        yield Finding(
            code="namespace", level="unknown", message=f"{_capital(found.sentence)}.", hint=found.hint
        )
    elif text(part(found, "metadata"), "deletionTimestamp"):
        yield Finding(
            code="namespace",
            level="error",
            message=f"Namespace {name} is being deleted: nothing can be made in it.",
            hint="Wait until it is gone, or deploy into another (--namespace).",
        )


def pod_security(look: Look) -> Iterator[Finding]:
    """Whether the level that the namespace enforces admits every pod."""
    found = look.facts.namespace
    if found is None or isinstance(found, Unread):
        return
    labels = texts(part(found, "metadata"), "labels")
    enforced = labels.get(f"{_LABEL}enforce", "privileged")
    if enforced not in _LEVELS:
        enforced = (
            "restricted"  # what is no level counts as the strictest (pod-security-admission/api/helpers.go)
        )
    against = _against(look, enforced)
    if against:
        yield Finding(
            code="pod-security",
            level="error",
            message=f"Namespace {look.desired.namespace} enforces Pod Security {enforced}, which refuses pods of this "
            "deployment.",
            hint=_way_out(look, enforced),
            evidence=tuple(against),
        )
        return
    for mode in ("warn", "audit"):
        level = labels.get(f"{_LABEL}{mode}", "privileged")
        softly = _against(look, level) if level in _LEVELS else []
        if softly and mode == "warn":
            yield Finding(
                code="pod-security",
                level="warning",
                message=f"Namespace {look.desired.namespace} warns of pods that are not {level}; they are made.",
                hint="It is a notice for whoever applies: nothing has to be done.",
                evidence=tuple(softly),
            )
    name = enforced if f"{_LABEL}enforce" in labels else "not enforced"
    yield Finding(code="pod-security", level="ok", message=f"Pod Security {name}")


def _against(look: Look, level: str) -> list[str]:
    found: dict[str, None] = {}
    for workload in workloads(look.desired.objects):
        for group in workload.groups:
            spec: Object = part(group.template, "spec")
            for line in violations(spec, level):
                found[f"{workload.kind} {workload.name} ({group.what}): {line}"] = None
    return list(found)


def _way_out(look: Look, enforced: str) -> str:
    if any("hostPath" in line for line in _against(look, enforced)):
        return "Keep the weights on a claim (leave --weights hostpath: out), or deploy into a namespace of its own."
    lowest = next((level for level in reversed(_LEVELS) if not _against(look, level)), "privileged")
    return (
        f"Render for it (--pod-security {enforced}), or let the namespace enforce {lowest}: "
        f"kubectl label --overwrite namespace {look.desired.namespace} {_LABEL}enforce={lowest}"
    )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


CHECKS = (namespace, pod_security)
