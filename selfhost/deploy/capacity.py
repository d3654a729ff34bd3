"""GPUs and everything else that nodes have left, and whether the pods of a rollout find room there; pure.

Free is what is allocatable less what the pods on a node ask for that have not ended, as the scheduler counts
(kube-scheduler 1.37, noderesources/fit.go); pods that wait for a node hold nothing yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from selfhost.catalog.accelerators import accelerators
from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.amounts import PODS, Amounts, added, amounts, requests_of, short, shown
from selfhost.deploy.claims import Claimed, Supply
from selfhost.deploy.scheduling import is_cordoned, is_ready, obstacles

PodName = tuple[str, str]  # namespace and name
_GPUS = tuple(name for one in accelerators() for name in one.resources)
# NVIDIA's device plugin names MIG instances so with the strategy `mixed` (README, 2026-11-26).
_MIG = "nvidia.com/mig-"
# Labels that name the product: GPU feature discovery, ROCm's labeller (catalog/accelerators.toml names both).
_PRODUCTS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name")
# Ours: a list of nodes that is longer is read by nobody; the rest is counted.
_MOST_LINES = 12
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNode:
    """GPUs of one kind on one node.

    Args:
        node: its name.
        resource: as pods ask for them, `nvidia.com/gpu`.
        product: as the node's label names it; empty where none does.
        capacity: devices that the plugin knows.
        allocatable: of them healthy.
        requested: by pods that are there and have not ended.
        closed: why no new pod comes there whatever it tolerates: cordoned, not ready; empty where nothing keeps it.
    """

    node: str
    resource: str
    product: str
    capacity: int
    allocatable: int
    requested: int
    closed: str = ""

    @property
    def free(self) -> int:
        """Devices that a new pod could have."""
        return 0 if self.closed else max(0, self.allocatable - self.requested)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Pods that are to be placed.

    Args:
        what: whose, for people: `server`, `worker`, `download`.
        spec: of the pod.
        count: how many.
        claims: devices that it claims (DRA), as its templates say.
    """

    what: str
    spec: Object
    count: int = 1
    claims: tuple[Claimed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLack:
    """What a node lacks for one more of the pods that found no place. `gpus`: it has some, and they are in use."""

    node: str
    lacks: tuple[str, ...]
    gpus: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether pods find room.

    Args:
        placed: what went where: name of the pods, node, how many.
        missing: what found no place, and how many of it.
        lacks: of every node, for the first that found no place.
    """

    placed: tuple[tuple[str, str, int], ...]
    missing: tuple[tuple[str, int], ...] = ()
    lacks: tuple[NodeLack, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether all of them do."""
        return not self.missing

    def lines(self) -> tuple[str, ...]:
        """What each node lacks, a line each; nodes that lack the same share one."""
        return told(self.lacks)


@dataclass(kw_only=True)
class _Room:
    """A node while pods are placed on it."""

    node: Object
    name: str
    allocatable: Amounts
    free: Amounts = field(default_factory=dict)

    def takes(self, wanted: Amounts) -> bool:
        return not any(short(wanted, self.free))

    def put(self, wanted: Amounts) -> None:
        for name, amount in wanted.items():
            self.free[name] = self.free.get(name, 0) - amount


def is_gpu(resource: str) -> bool:
    """Whether a resource is an accelerator that engines run on."""
    return resource in _GPUS or resource.startswith(_MIG)


def free_gpus(nodes: Sequence[Object], pods: Sequence[Object]) -> tuple[GpuNode, ...]:
    """The accelerators of a cluster, by node and resource.

    Args:
        nodes: of the cluster.
        pods: of every namespace.
    """
    found: list[GpuNode] = []
    used = _used(pods, frozenset())
    for node in nodes:
        name, labels = _name(node), texts(part(node, "metadata"), "labels")
        status = part(node, "status")
        have, all_of_them = amounts(part(status, "allocatable")), amounts(part(status, "capacity"))
        product = next((labels[key] for key in _PRODUCTS if key in labels), "")
        closed = "cordoned" if is_cordoned(node) else "" if is_ready(node) else "not ready"
        found += (
            GpuNode(
                node=name,
                resource=resource,
                product=product,
                capacity=all_of_them.get(resource, 0) // 1000,
                allocatable=have.get(resource, 0) // 1000,
                requested=used.get(name, {}).get(resource, 0) // 1000,
                closed=closed,
            )
            for resource in sorted({*have, *all_of_them})
            if is_gpu(resource)
        )
    return tuple(found)


def fit(
    nodes: Sequence[Object],
    pods: Sequence[Object],
    wanted: Iterable[Wanted],
    *,
    leaving: Collection[PodName] = (),
    supply: Supply | None = None,
) -> Fit:
    """Whether pods find room, and on which nodes.

    Each goes to the node that has the fewest GPUs left over, so that whole nodes stay free for pods that need them.

    Args:
        nodes: of the cluster.
        pods: of every namespace.
        wanted: what is to be placed; what asks for most GPUs first.
        leaving: pods that have ended by then: what they hold counts as free.
        supply: devices to be claimed; None where nothing claims any.
    """
    used = _used(pods, frozenset(leaving))
    rooms = [_room(node, used) for node in nodes]
    devices = None if supply is None else supply.without(leaving)
    placed: dict[tuple[str, str], int] = {}
    missing: dict[str, int] = {}
    lacks: tuple[NodeLack, ...] = ()
    for one in sorted(
        wanted, key=lambda one: -_gpus(requests_of(one.spec)) - sum(c.count for c in one.claims)
    ):
        asked = requests_of(one.spec) | {PODS: 1000}
        open_rooms = [room for room in rooms if not obstacles(room.node, one.spec)]
        for number in range(one.count):
            candidates = [
                room
                for room in open_rooms
                if room.takes(asked) and (devices is None or devices.lacks(room.name, one.claims) == ())
            ]
            if not candidates:
                missing[one.what] = missing.get(one.what, 0) + one.count - number
                lacks = lacks or tuple(_lack(room, one, asked, devices) for room in rooms)
                break
            best = min(candidates, key=lambda room: (_gpus(room.free), room.free.get("cpu", 0), room.name))
            best.put(asked)
            if devices is not None:
                devices.take(best.name, one.claims)
            placed[one.what, best.name] = placed.get((one.what, best.name), 0) + 1
    return Fit(
        placed=tuple((what, node, count) for (what, node), count in placed.items()),
        missing=tuple(missing.items()),
        lacks=lacks,
    )


def told(lacks: Sequence[NodeLack]) -> tuple[str, ...]:
    """A line for each thing that nodes lack: those that come nearest first, those that lack the same together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for lack in sorted(lacks, key=lambda lack: (not lack.gpus, len(lack.lacks))):
        groups.setdefault(lack.lacks, []).append(lack.node)
    lines = [f"{_names(names)}: {', '.join(reasons)}" for reasons, names in groups.items()]
    more = len(lines) - _MOST_LINES
    return tuple(lines[:_MOST_LINES]) + ((f"and {more} more kinds of nodes",) if more > 0 else ())


def has_ended(pod: Object) -> bool:
    """Whether a pod holds nothing any more."""
    return text(part(pod, "status"), "phase") in _ENDED


def name_of(pod: Object) -> PodName:
    """Namespace and name."""
    metadata = part(pod, "metadata")
    return text(metadata, "namespace"), text(metadata, "name")


def _names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _used(pods: Sequence[Object], leaving: frozenset[PodName]) -> dict[str, Amounts]:
    """What is asked for on each node."""
    found: dict[str, Amounts] = {}
    for pod in pods:
        spec = part(pod, "spec")
        node = text(spec, "nodeName")
        if node and not has_ended(pod) and name_of(pod) not in leaving:
            asked = requests_of(spec, part(pod, "status")) | {PODS: 1000}
            found[node] = added(found.get(node, {}), asked)
    return found


def _room(node: Object, used: dict[str, Amounts]) -> _Room:
    allocatable = amounts(part(part(node, "status"), "allocatable"))
    taken = used.get(_name(node), {})
    free = {name: amount - taken.get(name, 0) for name, amount in allocatable.items()}
    return _Room(node=node, name=_name(node), allocatable=allocatable, free=free)


def _gpus(given: Amounts) -> int:
    return sum(amount for name, amount in given.items() if is_gpu(name)) // 1000


def _lack(room: _Room, one: Wanted, asked: Amounts, devices: Supply | None) -> NodeLack:
    why = list(obstacles(room.node, one.spec))
    few = tuple(short(asked, room.free))
    why += (_lacking(name, asked[name], room) for name in few)
    claims = () if devices is None else devices.lacks(room.name, one.claims)
    busy = any(is_gpu(name) and room.allocatable.get(name, 0) > 0 for name in few)
    return NodeLack(node=room.name, lacks=(*why, *claims), gpus=busy)


def _lacking(name: str, amount: int, room: _Room) -> str:
    if name == PODS:
        return "has no place for one more pod"
    there, free = room.allocatable.get(name, 0), max(0, room.free.get(name, 0))
    if there == 0:
        return f"has no {name}"
    return f"{shown(name, free)} of {shown(name, there)} {name} free, {shown(name, amount)} needed"


def _name(node: Object) -> str:
    return text(part(node, "metadata"), "name")
