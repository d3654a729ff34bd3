"""What nodes have and lack for a pod that waits for one, and the scheduler's words taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text
from selfhost.deploy.amounts import amounts, requests_of
from selfhost.deploy.capacity import has_ended, is_gpu
from selfhost.deploy.causes._scene import Scene, Seen, going, own
from selfhost.deploy.scheduling import is_cordoned, is_ready, obstacles

# `0/4 nodes are available: 1 Insufficient nvidia.com/gpu, 3 node(s) had untolerated taint(s). preemption: 0/4 …`
_REASON = re.compile(r"(\d+) ((?:\([^)]*\)|\{[^}]*\}|[^,{(])+?)(?=, \d+ |[.,]?\s*$)")
# cluster-autoscaler --max-node-provision-time (its FAQ, 2026-11): a node that was asked for counts as lost after it.
AUTOSCALER_SECONDS = 900.0
# Ours: an autoscaler looks every 10 s (its --scan-interval) and says within a few of these what it does; a pod that
# somebody else is just ending frees its GPUs within its grace.
BUSY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A node's GPUs of one resource. `why`: what keeps the pod from it besides, empty where nothing does.

    `used`: how many which pods hold, `namespace/name` and count; `ours`: of them pods of this deployment.
    """

    name: str
    item: Object
    allocatable: int
    why: tuple[str, ...]
    used: tuple[tuple[str, int], ...]
    ours: int
    ours_going: int
    cordoned: bool
    ready: bool

    @property
    def free(self) -> int:
        """Devices that nobody holds."""
        return max(0, self.allocatable - sum(count for _, count in self.used))


def waiting(scene: Scene) -> Iterator[Seen]:
    """Pods that the scheduler has looked at and not placed."""
    for pod in scene.pods:
        if not pod.scheduled and words_of(pod):
            yield pod


def words_of(pod: Seen) -> str:
    """The scheduler's words: of the pod's condition, else of its newest event."""
    if pod.unscheduled_because:
        return pod.unscheduled_because
    return next((event.message for event in pod.said("FailedScheduling")), "")


def reasons(words: str) -> dict[str, int]:
    """Why nodes do not take a pod, and how many each (kube-scheduler 1.36, framework/types.go FitError)."""
    told = words.partition(" nodes are available: ")[2].partition(" preemption:")[0].strip().rstrip(".")
    return {reason.strip(): int(count) for count, reason in _REASON.findall(told)}


def gpus_of(pod: Seen) -> tuple[str, int] | None:
    """The GPU resource that a pod asks for and how many; None where it asks for none."""
    for name, amount in requests_of(pod.spec).items():
        if is_gpu(name) and amount > 0:
            return name, amount // 1000
    return None


def rooms(scene: Scene, pod: Seen, resource: str) -> tuple[Room, ...]:
    """Nodes that have the resource, or whose labels say that they should, and who holds it."""
    snapshot = scene.snapshot
    held: dict[str, list[tuple[str, int, bool, bool]]] = {}
    for other in (*snapshot.pods, *snapshot.others):
        spec, metadata = part(other, "spec"), part(other, "metadata")
        count = requests_of(spec).get(resource, 0) // 1000
        node = text(spec, "nodeName")
        if node and count and not has_ended(other):
            mine = other in snapshot.pods or own(other, snapshot)
            held.setdefault(node, []).append(
                (f"{text(metadata, 'namespace')}/{text(metadata, 'name')}", count, mine, going(other))
            )
    found = []
    for item in snapshot.nodes:
        name = text(part(item, "metadata"), "name")
        status = part(item, "status")
        has = amounts(part(status, "allocatable")).get(resource, 0) // 1000
        known = has or amounts(part(status, "capacity")).get(resource, 0)
        why = obstacles(item, pod.spec)
        if not known and (scene.plan is None or labels_bar(why)):
            continue
        here = held.get(name, [])
        found.append(
            Room(
                name=name,
                item=item,
                allocatable=has,
                why=why,
                used=tuple((who, count) for who, count, _, _ in here),
                ours=sum(count for _, count, mine, _ in here if mine),
                ours_going=sum(count for _, count, mine, end in here if mine and end),
                cordoned=is_cordoned(item),
                ready=is_ready(item),
            )
        )
    return tuple(found)


def labels_bar(why: tuple[str, ...]) -> bool:
    """Whether it is a node's labels that keep a pod from it, not its state or a taint."""
    return any(
        one not in ("is cordoned", "is not ready") and not one.startswith("has the taint ") for one in why
    )


def scales_up(pod: Seen) -> str:
    """The autoscaler's words where a node is on its way (cluster-autoscaler TriggeredScaleUp, Karpenter Nominated)."""
    newest = next(pod.said("TriggeredScaleUp", "Nominated", "NotTriggerScaleUp", "FailedScaleUp"), None)
    return newest.message if newest is not None and newest.reason in ("TriggeredScaleUp", "Nominated") else ""


def scales_not(pod: Seen) -> str:
    """The autoscaler's words where it will not help."""
    return next((event.message for event in pod.said("NotTriggerScaleUp", "FailedScaleUp")), "")


def listed(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    """`a, b and 3 more`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
