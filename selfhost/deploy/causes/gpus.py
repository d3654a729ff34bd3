"""GPUs that a pod waits for: busy, too few on one node, of another product, cordoned, or unknown to the device plugin.

Figures are of the nodes and of all pods that run on them, where both may be listed; else the scheduler's words alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.deploy.causes._nodes import (
    AUTOSCALER_SECONDS,
    BUSY_SECONDS,
    Room,
    gpus_of,
    labels_bar,
    listed,
    reasons,
    rooms,
    scales_not,
    scales_up,
    waiting,
    words_of,
)
from selfhost.deploy.causes._scene import Scene, Seen
from selfhost.deploy.types import Cause

RANK = 300
_AFFINITY = "Pod's node affinity/selector"


def no_such_gpu(scene: Scene) -> Iterator[Cause]:
    """No node of the cluster carries the label of the GPU that the plan was sized for.

    Way out: plan for a GPU that the cluster has (`selfhost plan MODEL`), add a node, or let the device plugin's feature
    discovery label the nodes that have it.
    """
    for pod, resource, need in _asking(scene):
        nodes = rooms(scene, pod, resource)
        plan, found = scene.plan, reasons(words_of(pod))
        if plan is None or not plan.gpu.label or not any(_AFFINITY in one for one in found):
            continue
        if (
            f"Insufficient {resource}" in found
            or any(not labels_bar(room.why) for room in nodes)
            or not scene.snapshot.nodes
        ):
            continue
        named = plan.gpu.label_values
        wanted = f"{plan.gpu.label}={'|'.join(named)}" if named else plan.gpu.label
        others = sorted({_product(room, plan.gpu.label) for room in nodes if room.allocatable} - {""})
        bare = [room.name for room in nodes if room.allocatable and not _product(room, plan.gpu.label)]
        has = f"its GPU nodes are {listed(others)}" if others else "no node has a GPU of that resource"
        if bare:
            has = f"{listed(bare)} {'have' if len(bare) > 1 else 'has'} GPUs and no such label"
        yield _cause(
            scene,
            "no-such-gpu",
            pod,
            f"No node is labelled as {plan.gpu.name} ({wanted}): {has}.",
            (
                f"Label the node: kubectl label node {bare[0]} "
                f"{plan.gpu.label}={named[0] if named else 'true'}, if it is one."
            )
            if bare
            else f"selfhost plan {plan.model.id} finds GPUs that carry it; or add a node with {need} of these.",
        )


def gpus_cordoned(scene: Scene) -> Iterator[Cause]:
    """The nodes that have enough GPUs free are cordoned, so that no new pod comes there.

    Way out: `kubectl uncordon NODE` once whoever cordoned it agrees.
    """
    for pod, resource, need in _asking(scene):
        nodes = [room for room in rooms(scene, pod, resource) if _product_fits(room)]
        shut = [room for room in nodes if room.cordoned and room.free >= need]
        if (
            shut
            and not any(room.free >= need and not room.why for room in nodes)
            and not _own_pods_end(nodes, need)
        ):
            names = [room.name for room in shut]
            yield _cause(
                scene,
                "gpus-cordoned",
                pod,
                f"{listed(names)} {'have' if len(names) > 1 else 'has'} {need} {resource} free, but "
                f"{'are' if len(names) > 1 else 'is'} cordoned.",
                f"kubectl uncordon {names[0]}, once whoever cordoned it agrees.",
                more=_lines(nodes),
            )


def gpus_not_advertised(scene: Scene) -> Iterator[Cause]:
    """Nodes carry the GPU's label, and their device plugin offers no device: it does not run, or all are unhealthy.

    Way out: look at the device plugin's pod of that node, or at the node's driver.
    """
    for pod, resource, _ in _asking(scene):
        label = scene.plan.gpu.label if scene.plan is not None else ""
        nodes = [
            room
            for room in rooms(scene, pod, resource)
            if _product_fits(room) and room.ready and label and _product(room, label)
        ]
        if nodes and all(room.allocatable == 0 for room in nodes):
            names = [room.name for room in nodes]
            yield _cause(
                scene,
                "gpus-not-advertised",
                pod,
                f"{listed(names)} {'are' if len(names) > 1 else 'is'} labelled as "
                f"{scene.plan.gpu.name if scene.plan else 'a GPU node'} and offer{'' if len(names) > 1 else 's'} no "
                f"{resource}: the device plugin does not run there, or calls every GPU unhealthy.",
                f"kubectl get pods -A --field-selector spec.nodeName={names[0]} shows the plugin's pod; read its log.",
            )


def insufficient_gpus(scene: Scene) -> Iterator[Cause]:
    """No node has as many GPUs free as one pod asks for.

    Says which node lacks how many, and who holds them. Own pods of an earlier revision that are still ending are no
    cause, and an autoscaler that is adding a node gets its time.

    Way out: free GPUs, add a node, or plan for what is free.
    """
    for pod, resource, need in _asking(scene):
        if f"Insufficient {resource}" not in reasons(words_of(pod)):
            continue
        nodes = [room for room in rooms(scene, pod, resource) if _product_fits(room)]
        if not nodes:
            yield _cause(
                scene,
                "insufficient-gpus",
                pod,
                f"No node has {need} {resource} free, which one pod needs.",
                "Free GPUs or add a node: kubectl describe nodes shows who holds what.",
            )
            continue
        # the scheduler's words are older than the nodes: it will look again
        if _own_pods_end(nodes, need) or any(room.free >= need and not room.why for room in nodes):
            continue
        largest = max(room.allocatable for room in nodes)
        if largest < need:
            yield _cause(
                scene,
                "insufficient-gpus",
                pod,
                f"One pod needs {need} {resource} on one node, and no node of the kind has more than {largest}.",
                _smaller(scene, largest),
                more=_lines(nodes),
            )
            continue
        yield _cause(
            scene,
            "insufficient-gpus",
            pod,
            f"One pod needs {need} {resource} on one node, and no node has as many free: "
            f"{listed([_told(room) for room in nodes])}.",
            _freeing(nodes, need),
            more=_lines(nodes),
        )


def _asking(scene: Scene) -> Iterator[tuple[Seen, str, int]]:
    for pod in waiting(scene):
        asked = gpus_of(pod)
        if asked is not None:
            yield pod, *asked


def _product_fits(room: Room) -> bool:
    """Nothing but its state keeps a pod from it: labels are right and taints are tolerated."""
    return not labels_bar(room.why) and not any(one.startswith("has the taint ") for one in room.why)


def _product(room: Room, label: str) -> str:
    labels = room.item.get("metadata", {}).get("labels") or {}
    return str(labels.get(label, ""))


def _own_pods_end(nodes: list[Room], need: int) -> bool:
    """What pods of this deployment that are ending hold would do."""
    return any(room.ours_going and room.free + room.ours_going >= need for room in nodes)


def _told(room: Room) -> str:
    state = f" ({', '.join(room.why)})" if room.why else ""
    return f"{room.name} has {room.free} of {room.allocatable}{state}"


def _lines(nodes: list[Room]) -> tuple[str, ...]:
    return tuple(
        f"{room.name}: {room.free} of {room.allocatable} free"
        + (f"; held by {listed([f'{who} ({count})' for who, count in room.used])}" if room.used else "")
        + (f"; {', '.join(room.why)}" if room.why else "")
        for room in nodes[:6]
    )


def _freeing(nodes: list[Room], need: int) -> str:
    best = max(nodes, key=lambda room: (room.free, room.allocatable))
    if best.ours and best.free + best.ours >= need:
        return (
            f"The deployment's own earlier pods hold {best.ours} on {best.name}: deploy without --surge, "
            "which stops them first, or add a node."
        )
    holders = [who for who, _ in best.used]
    of_whom = f" (on {best.name}: {listed(holders)})" if holders else ""
    return f"Free {need - best.free} more on one node{of_whom}, or add a node."


def _smaller(scene: Scene, largest: int) -> str:
    if scene.plan is None or largest == 0:
        return "Add a node with as many GPUs."
    return (
        f"selfhost plan {scene.plan.model.id} --tp {largest}, a quantization (--quant "
        f"fp8), or a node with more GPUs."
    )


def _cause(
    scene: Scene, code: str, pod: Seen, sentence: str, hint: str, *, more: tuple[str, ...] = ()
) -> Cause:
    coming = scales_up(pod)
    if coming:
        sentence = f"{sentence.rstrip('.')}; an autoscaler is adding a node."
    patience = AUTOSCALER_SECONDS if coming else BUSY_SECONDS
    since = pod.condition_since("PodScheduled")
    return Cause(
        code=code,
        sentence=sentence,
        evidence=(words_of(pod)[:400], *more, coming, scales_not(pod) if not coming else ""),
        hint=hint,
        # the nodes themselves say so, and whoever could have helped has had the time
        final=bool(scene.snapshot.nodes) and since is not None and scene.snapshot.now - since >= patience,
        patience_seconds=patience,
        since=since,
        pod=pod.name,
    )
