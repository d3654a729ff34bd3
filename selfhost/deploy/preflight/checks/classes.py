"""Objects of the whole cluster that are named: PriorityClass, RuntimeClass, IngressClass, Gateway."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.cluster.values import part, text, texts
from selfhost.deploy.preflight.facts import Look, Read, Unread
from selfhost.deploy.preflight.needs import needs_of
from selfhost.deploy.types import Finding

_DEFAULT_INGRESS = "ingressclass.kubernetes.io/is-default-class"
# Kubernetes makes these itself (scheduling/v1, system priorities).
_BUILT_IN = ("system-cluster-critical", "system-node-critical")


def named(look: Look) -> Iterator[Finding]:
    """Classes that pods name: without them no pod is admitted."""
    wants = needs_of(look.desired)
    yield from _each(
        "priority-class",
        "PriorityClass",
        tuple(name for name in wants.priority_classes if name not in _BUILT_IN),
        look.facts.priority_classes,
        "Make it, or leave --priority-class out",
    )
    yield from _each(
        "runtime-class",
        "RuntimeClass",
        wants.runtime_classes,
        look.facts.runtime_classes,
        "Install it (NVIDIA's GPU operator brings `nvidia`), or leave --runtime-class out",
    )
    yield from _each(
        "ingress-class",
        "IngressClass",
        tuple(name for name in wants.ingress if name),
        look.facts.ingress_classes,
        "Name one that there is with --ingress-class",
    )
    classes = look.facts.ingress_classes
    if "" in wants.ingress and not isinstance(classes, Unread):
        defaults = [
            one
            for one in classes
            if texts(part(one, "metadata"), "annotations").get(_DEFAULT_INGRESS) == "true"
        ]
        if not defaults:
            names = ", ".join(text(part(one, "metadata"), "name") for one in classes) or "none is installed"
            yield Finding(
                code="ingress-class",
                level="warning",
                message="The Ingress names no class, and the cluster has no default: no controller may take it.",
                hint=f"Name one with --ingress-class ({names}).",
            )


def _each(code: str, kind: str, names: tuple[str, ...], read: Read, hint: str) -> Iterator[Finding]:
    if not names:
        return
    if isinstance(read, Unread):
        yield Finding(
            code=code,
            level="unknown",
            message=f"Whether the {kind} {', '.join(names)} is there is not known: {read.sentence}.",
            hint=f"Look yourself: kubectl get {kind.lower()} {names[0]}",
        )
        return
    there = sorted(text(part(one, "metadata"), "name") for one in read)
    missing = [name for name in names if name not in there]
    for name in missing:
        others = f" (there is {', '.join(there[:5])})" if there else ""
        yield Finding(
            code=code, level="error", message=f"There is no {kind} {name}.", hint=f"{hint}{others}."
        )
    if not missing:
        yield Finding(code=code, level="ok", message=f"{kind} {', '.join(names)}")


def gateways(look: Look) -> Iterator[Finding]:
    """Gateways that an HTTPRoute hangs on."""
    names = needs_of(look.desired).gateways
    read = look.facts.gateways
    if not names or (
        look.facts.served is not None and not look.facts.served.of_group("gateway.networking.k8s.io")
    ):
        return
    if isinstance(read, Unread):
        yield Finding(
            code="gateway",
            level="unknown",
            message=f"Whether the Gateway {names[0][1]} is there is not known: {read.sentence}.",
            hint=f"Look yourself: kubectl -n {names[0][0]} get gateway {names[0][1]}",
        )
        return
    there = {(text(part(one, "metadata"), "namespace"), text(part(one, "metadata"), "name")) for one in read}
    for place, name in names:
        if (place, name) not in there:
            others = ", ".join(sorted(f"{found[1]}/{found[0]}" for found in there)[:5])
            yield Finding(
                code="gateway",
                level="error",
                message=f"There is no Gateway {name} in {place}.",
                hint=f"Name one that there is with --gateway NAME/NAMESPACE{f' ({others})' if others else ''}.",
            )


CHECKS = (named, gateways)
