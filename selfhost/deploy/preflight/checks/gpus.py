"""Whether the rollout finds room: GPUs, their plugin or driver, and everything else that nodes have to have left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfhost.catalog.accelerators import accelerator
from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.amounts import amounts, requests_of
from selfhost.deploy.capacity import Fit, GpuNode, fit, free_gpus, is_gpu
from selfhost.deploy.claims import Supply
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.scheduling import obstacles
from selfhost.deploy.surge import Step, steps, workloads
from selfhost.deploy.types import Finding

# Karpenter's label of the nodes that it makes (karpenter.sh, v1): where it is at work, room can still come.
_GROWS = "karpenter.sh/nodepool"
# NVIDIA's device plugin, GPU operator and DRA driver, as their projects install them (2026-11).
_PLUGIN = "Install NVIDIA's device plugin or GPU operator, or look at the log of its pod on that node."


def room(look: Look) -> Iterator[Finding]:
    """Whether every pod of the rollout finds a node, at its widest and at its end."""
    nodes, pods = look.facts.nodes, look.facts.pods
    if isinstance(nodes, Unread):
        yield _unknown(nodes)
        return
    supply = look.facts.supply if _claims(look) else None
    if isinstance(supply, Unread):
        yield _unknown(supply)
        return
    known: Sequence[Object] = () if isinstance(pods, Unread) else pods
    shown: tuple[Step, Fit] | None = None
    for step in steps(look.desired, look.before, known):
        found = fit(nodes, known, step.wanted, leaving=step.leaving, supply=supply)
        if not found.fits:
            yield _lacking(look, step, found, nodes, known, supply)
            return
        beside = shown is not None and shown[0].wanted and not shown[0].leaving
        if not beside:  # where all the old pods run on, the widest moment is what counts
            shown = step, found
    if isinstance(pods, Unread):
        yield _unknown(pods)
    elif shown is not None:
        yield _fine(look, shown[1], shown[0], nodes, pods, supply)


def _fine(
    look: Look, found: Fit, step: Step, nodes: Sequence[Object], pods: Sequence[Object], supply: Supply | None
) -> Finding:
    counts = {
        one.what: _gpus(requests_of(one.spec)) + sum(c.count for c in one.claims) for one in step.wanted
    }
    placed = [(what, node, number) for what, node, number in found.placed if counts.get(what)]
    if not placed:
        what = "room for its pods" if found.placed else "no new pods"
        return Finding(code="gpus", level="ok", message=what, evidence=_where(found, counts))
    names = list(dict.fromkeys(node for _, node, _ in placed))
    asked = sum(counts[what] * number for what, _, number in placed)
    free = sum(
        one.free for one in free_gpus(nodes, pods) if one.node in names and one.resource in _resources(look)
    )
    gpus = "GPU" if asked == 1 else "GPUs"
    if supply is not None:
        message = f"{asked} {gpus} to be claimed on {_names(names)}"
    elif step.leaving:
        old = "one old pod ends" if len(step.leaving) == 1 else f"{len(step.leaving)} old pods end"
        message = f"{asked} {gpus} on {_names(names)}, once {old}"
    else:
        message = f"{asked} of {free} free GPU{'' if free == 1 else 's'} on {_names(names)}"
    return Finding(code="gpus", level="ok", message=message, evidence=_where(found, counts))


def _where(found: Fit, counts: dict[str, int]) -> tuple[str, ...]:
    lines = []
    for what, node, number in found.placed:
        count = counts.get(what, 0) * number
        gpus = f" with {count} GPU{'s' if count > 1 else ''}" if count else ""
        lines.append(
            f"{number if number > 1 else 'one'} {what} pod{'s' if number > 1 else ''}{gpus} on {node}"
        )
    return tuple(lines)


def _lacking(
    look: Look,
    step: Step,
    found: Fit,
    nodes: Sequence[Object],
    pods: Sequence[Object],
    supply: Supply | None,
) -> Finding:
    """What finds no room. GPUs are to blame unless the pods would fit if only they were counted."""
    stripped = [_only_gpus(node) for node in nodes]
    lean = [
        type(one)(what=one.what, spec=_gpu_spec(one.spec), count=one.count, claims=one.claims)
        for one in step.wanted
    ]
    gpus_fit = fit(stripped, pods, lean, leaving=step.leaving, supply=supply).fits
    what = ", ".join(f"{count} {name} pod{'s' if count > 1 else ''}" for name, count in found.missing)
    several = sum(count for _, count in found.missing) > 1
    verb = "find" if several else "finds"
    grows = any(_GROWS in texts(part(node, "metadata"), "labels") for node in nodes)
    asked = _asked(step, ("each" if len(found.missing) == 1 else "") if several else "it")
    reason = f": {asked} on one node" if asked and not gpus_fit else ""
    during = " while the old pods still run" if step.name == "during the rollout" and _old_run(look) else ""
    return Finding(
        code="room" if gpus_fit else "gpus",
        level="warning" if grows else "error",
        message=f"{what} {verb} no room{during}{reason or ': cpu, memory or storage is short'}.",
        hint=_way_out(look, step, nodes, pods, supply, grows=grows, gpus_fit=gpus_fit),
        evidence=(*found.lines(), *_waiting(pods)),
    )


def _way_out(
    look: Look,
    step: Step,
    nodes: Sequence[Object],
    pods: Sequence[Object],
    supply: Supply | None,
    *,
    grows: bool,
    gpus_fit: bool,
) -> str:
    if grows:
        return "Karpenter may add a node; if none comes the wait says what is missing."
    last = steps(look.desired, look.before, pods)[-1]
    if (
        step.name == "during the rollout"
        and _old_run(look)
        and fit(nodes, pods, last.wanted, leaving=last.leaving, supply=supply).fits
    ):
        return "Leave --surge out: the old pods then end before the new ones start."
    if gpus_fit:
        return "Free cpu, memory or storage on the nodes that have the GPUs, or add a node."
    open_ = [node | {"spec": {}} for node in nodes]
    if fit(open_, pods, step.wanted, leaving=step.leaving, supply=supply).fits:
        return "Take the taint off the node that is named here, or uncordon it, or add a node."
    free = [one for one in free_gpus(nodes, pods) if one.free > 0]
    others = sorted({f"{one.free} × {one.product or one.resource} on {one.node}" for one in free})
    if others:
        return (
            f"Free GPUs of the plan's kind, add a node, or plan for what is free ({', '.join(others[:3])}): "
            "selfhost plan MODEL --gpu ID."
        )
    return "No GPU is free: end or scale down another deployment, or add a node."


def plugin(look: Look) -> Iterator[Finding]:
    """Whether nodes hand out their GPUs, and whether all of them are healthy."""
    nodes = look.facts.nodes
    if isinstance(nodes, Unread) or look.desired.plan.gpu.on == "cpu":
        return
    if _claims(look):
        yield from _driver_of_claims(look)
        return
    wanted = _resources(look)
    silent = []
    for node in nodes:
        labels = texts(part(node, "metadata"), "labels")
        have = amounts(part(part(node, "status"), "allocatable"))
        plan = look.desired.plan.gpu
        labelled = (
            labels.get(plan.label) in plan.label_values or labels.get("nvidia.com/gpu.present") == "true"
        )
        if labelled and not any(have.get(name, 0) > 0 for name in wanted):
            silent.append(_name(node))
    found = [one for one in free_gpus(nodes, ()) if one.resource in wanted]
    if not found and not silent:
        names = " or ".join(sorted(wanted))
        yield Finding(
            code="device-plugin",
            level="error",
            message=f"No node of the cluster has {names}.",
            hint="Install the vendor's device plugin (NVIDIA's comes with the GPU operator), or add GPU nodes.",
        )
    elif silent:
        yield Finding(
            code="device-plugin",
            level="warning" if any(one.allocatable for one in found) else "error",
            message=f"{_names(silent)} {'has' if len(silent) == 1 else 'have'} GPUs by label, and none to hand out.",
            hint=_PLUGIN,
            evidence=tuple(
                f"{name}: allocatable holds no {', '.join(sorted(wanted))}" for name in silent[:5]
            ),
        )
    ill = [one for one in found if 0 < one.allocatable < one.capacity]
    if ill:
        yield Finding(
            code="gpu-health",
            level="warning",
            message=f"The device plugin holds back GPUs that are not healthy on {_names([one.node for one in ill])}.",
            hint="`selfhost health` on that node says what is wrong.",
            evidence=tuple(f"{one.node}: {one.allocatable} of {one.capacity} {one.resource}" for one in ill),
        )
    yield from _unlabelled(look, nodes, found)


def _unlabelled(look: Look, nodes: Sequence[Object], found: list[GpuNode]) -> Iterator[Finding]:
    """GPUs are there, but no node says which they are: then no pod that names the product is ever scheduled."""
    key = look.desired.plan.gpu.label
    has = {one.node for one in found if one.allocatable}
    labelled = [node for node in nodes if key in texts(part(node, "metadata"), "labels")]
    asks = any(
        f"has no label {key}" in line
        for one in workloads(look.desired.objects)
        for group in one.groups
        for line in obstacles({"metadata": {"name": ""}}, part(group.template, "spec"))
    )
    if has and not labelled and asks:
        node, value = min(has), look.desired.plan.gpu.label_values[0]
        yield Finding(
            code="gpu-labels",
            level="error",
            message=f"No node has the label {key}, by which the pods choose their GPU.",
            hint=f"Install GPU feature discovery (a part of the GPU operator), or say it by hand: "
            f"kubectl label node {node} {key}={value}",
        )


def _driver_of_claims(look: Look) -> Iterator[Finding]:
    supply = look.facts.supply
    claims = accelerator(look.desired.plan.gpu.on).claims
    if isinstance(supply, Unread) or claims is None:
        return
    there = any(device[0] == claims.driver for known in supply.devices.values() for device in known)
    if not there:
        yield Finding(
            code="dra-driver",
            level="error",
            message=f"No node publishes devices of the driver {claims.driver}.",
            hint=f"Install the driver ({claims.source.split()[0]}), or leave --dra out.",
        )
    else:
        yield Finding(code="dra-driver", level="ok", message=f"driver {claims.driver}")


def _resources(look: Look) -> set[str]:
    """Names of the accelerators that the pods ask for."""
    return {
        name
        for one in workloads(look.desired.objects)
        for group in one.groups
        for name in requests_of(part(group.template, "spec"))
        if is_gpu(name) or name in (look.desired.plan.gpu.resource, look.desired.options.gpus.gpu_resource)
    }


def _claims(look: Look) -> bool:
    return any(text(item, "kind") == "ResourceClaimTemplate" for item in look.desired.objects)


def _asked(step: Step, who: str) -> str:
    most, what = max(
        ((_gpus(requests_of(one.spec)) + sum(c.count for c in one.claims), one.what) for one in step.wanted),
        default=(0, ""),
    )
    return f"{who or f'a {what} pod'} needs {most} GPU{'s' if most > 1 else ''}" if most else ""


def _gpus(found: dict[str, int]) -> int:
    return sum(amount for name, amount in found.items() if is_gpu(name)) // 1000


def _gpu_spec(spec: Object) -> Object:
    asked = {name: str(amount // 1000) for name, amount in requests_of(spec).items() if is_gpu(name)}
    kept = {
        key: value for key, value in spec.items() if key not in ("containers", "initContainers", "overhead")
    }
    return kept | {"containers": [{"name": "gpus", "resources": {"requests": asked}}]}


def _only_gpus(node: Object) -> Object:
    """The node with as much of everything else as anybody could want."""
    status = part(node, "status")
    have = dict(part(status, "allocatable"))
    endless = dict.fromkeys(("cpu", "memory", "ephemeral-storage", "pods"), "1E")
    return node | {"status": status | {"allocatable": have | endless}}


def _old_run(look: Look) -> bool:
    return look.before is not None


def _waiting(pods: Sequence[Object]) -> tuple[str, ...]:
    """Pods of others that wait for GPUs would take what becomes free."""
    names = [
        f"{text(part(pod, 'metadata'), 'namespace')}/{text(part(pod, 'metadata'), 'name')}"
        for pod in pods
        if not text(part(pod, "spec"), "nodeName") and _gpus(requests_of(part(pod, "spec")))
    ]
    return (f"waiting for GPUs too: {_names(names)}",) if names else ()


def _unknown(read: Unread) -> Finding:
    sentence = read.sentence
    return Finding(
        code="gpus",
        level="unknown",
        message=f"Whether GPUs are free is not known: {sentence}.",
        hint=read.hint,
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _name(node: Object) -> str:
    return text(part(node, "metadata"), "name")


CHECKS = (room, plugin)
