"""`selfhost up` on a cluster: GPUs that are free there become a plan, and the plan a deployment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfhost.cli._deploying import DOES_NOT_FIT, Printer, confirmed, interruptible, where
from selfhost.cli._sizing import choose_gpu
from selfhost.cli._upping import Upping, decide, loaded, understood
from selfhost.errors import ClusterError, UnknownGpuError, UnsupportedError

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.cluster import Api
    from selfhost.deploy.capacity import GpuNode
    from selfhost.deploy.types import Desired
    from selfhost.model.raw import RawModel
    from selfhost.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """GPUs of a cluster.

    Args:
        most: by the catalogue's id, how many of a kind one node has free.
        total: how many it has, free or not.
        strange: products that the catalogue does not know.
    """

    most: dict[str, int]
    total: dict[str, int]
    strange: tuple[str, ...] = ()


def up(asked: Upping, *, target: str, create_namespace: bool, force_conflicts: bool, rollback: bool) -> int:
    """Plan for what is free, deploy, wait and test; the exit code."""
    from selfhost.cli.deploy import ended
    from selfhost.deploy.canary import refuse_beside_canary
    from selfhost.deploy.desired import desired
    from selfhost.deploy.run import deploy
    from selfhost.deploy.settings import Settings

    printer = Printer(as_json=asked.reach.as_json)
    assert asked.model is not None
    api = asked.reach.api()
    raw = loaded(asked, asked.model)
    plan = _plan(asked, api, raw, printer)
    if plan is None:
        return DOES_NOT_FIT
    wanted = desired(plan, target, asked.options)
    settings = Settings(
        because="up",
        timeout_seconds=asked.timeout,
        force_conflicts=force_conflicts,
        create_namespace=create_namespace,
        dry_run=asked.dry_run,
        smoke=asked.smoke,
        rollback=rollback,
        api_key_file=None if asked.api_key_file is None else str(asked.api_key_file),
    )
    if asked.options.access.expose == "gateway":
        refuse_beside_canary(api, wanted.namespace, wanted.name)
    gone = f"selfhost destroy {wanted.name}{where(wanted.namespace)}"
    with interruptible(printer, f"the same command goes on, `{gone}` removes it."):
        confirm = confirmed(printer, yes=asked.yes, as_json=asked.reach.as_json)
        result = deploy(api, wanted, settings, printer, confirm)
    if result.ended == "ready":
        _say_address(wanted, printer)
    return ended(wanted, result, printer, asked.reach)


def _plan(asked: Upping, api: Api, raw: RawModel, printer: Printer) -> Plan | None:
    """The plan for GPUs that are free; one that runs already is made for those that it has."""
    from selfhost.catalog.gpus import CPUS

    if any(name.lower() in CPUS for name in asked.gpu):
        cards = tuple(card for one in asked.gpu if (card := choose_gpu(one, asked.gpu_memory)) is not None)
        what = understood(asked, raw, engine=asked.engine, gpus=cards, workload=asked.workload)
        return decide(replace(asked, fixed=True), what, printer, most=None)
    name = asked.name or _name(raw)
    room = _room(api, name, asked.options.namespace, printer)
    before = None if asked.gpu or asked.fixed else _before(api, asked.options.namespace, name)
    if before is not None and room.most.get(before.gpu.id, 0) < before.gpu.count:
        before = None
    if before is not None:
        asked = replace(asked, gpu=(before.gpu.id,), split=before.split, fixed=True)
    cards = _cards(asked, room)
    what = understood(asked, raw, engine=asked.engine, gpus=cards, workload=asked.workload)
    plan = decide(asked, what, printer, most=room.most)
    # what else might have been chosen was not looked at again, and is no change
    if plan is None or before is None:
        return plan
    return replace(plan, alternatives=before.alternatives, refusals=before.refusals)


def _name(raw: RawModel) -> str:
    from selfhost.model.parse import parse_model
    from selfhost.plan.derive import object_name

    return object_name(parse_model(raw).id)


def _room(api: Api, name: str, namespace: str, printer: Printer) -> Room:
    """What the nodes have, less what others' pods hold; what a deployment of this name holds it may keep.

    Raises:
        ClusterError: nodes or pods may not be listed.
    """
    from selfhost.cluster.kinds import NODE, POD
    from selfhost.deploy.capacity import free_gpus
    from selfhost.deploy.types import Event, is_ours

    nodes = api.list(NODE).items
    pods = [
        pod
        for pod in api.list(POD).items
        if not (is_ours(pod, name) and pod.get("metadata", {}).get("namespace") == namespace)
    ]
    room = counted(free_gpus(nodes, pods))
    for product in room.strange:
        printer(Event(type="note", message=f"the catalogue does not know the GPU {product[:80]}"))
    words = ", ".join(f"{count} x {gpu_id}" for gpu_id, count in sorted(room.most.items()) if count)
    facts: dict[str, object] = {"free_on_one_node": room.most, "gpus_of_nodes": room.total}
    printer(Event(type="note", message=f"free on one node: {words or 'no GPU'}", facts=facts))
    return room


def counted(found: tuple[GpuNode, ...]) -> Room:
    """Nodes' GPUs by the catalogue's ids.

    Args:
        found: by node and resource, with the product that the node's label names.
    """
    from selfhost.catalog.gpus import find_gpu

    most: dict[str, int] = {}
    total: dict[str, int] = {}
    strange: dict[str, None] = {}
    for one in found:
        if not one.product:
            strange[f"of node {one.node}, which has no label that names it"] = None
            continue
        try:
            card = find_gpu(one.product)
        except UnknownGpuError:
            strange[one.product] = None
            continue
        if card.resource == one.resource:
            most[card.id] = max(most.get(card.id, 0), one.free)
            total[card.id] = total.get(card.id, 0) + one.allocatable
    return Room(most=most, total=total, strange=tuple(strange))


def _cards(asked: Upping, room: Room) -> tuple[Gpu, ...]:
    """Kinds of GPU to plan for.

    Raises:
        ClusterError: the cluster has none that the catalogue knows.
        UnsupportedError: it has not the one that was named.
    """
    if not room.total:
        raise ClusterError(
            "No node of the cluster has a GPU that the catalogue knows.",
            hint="Let GPU feature discovery label the nodes; `selfhost gpus` lists what the catalogue has.",
        )
    named = asked.gpu or tuple(sorted(room.total))
    found = {card.id: card for one in named if (card := choose_gpu(one, asked.gpu_memory)) is not None}
    there = tuple(card for card in found.values() if card.id in room.total)
    if not there:
        raise UnsupportedError(
            f"The cluster has no {', '.join(found)}.", hint=f"It has {', '.join(sorted(room.total))}."
        )
    return there


def _before(api: Api, namespace: str, name: str) -> Plan | None:
    """The plan of the deployment of this name that is there."""
    from selfhost.deploy import revisions

    found = next((head for head in revisions.heads(api, namespace, name) if head.state == "deployed"), None)
    return None if found is None else revisions.load(api, found).desired.plan


def _say_address(wanted: Desired, printer: Printer) -> None:
    """Where clients reach it, outside and inside the cluster."""
    from selfhost.deploy.types import Event

    access, engine = wanted.options.access, wanted.plan.engine
    inside = f"http://{wanted.name}.{wanted.namespace}.svc:{engine.port}/v1"
    facts: dict[str, object] = {"address": inside}
    words = f"in the cluster at {inside}"
    if access.expose != "none" and access.host is not None:
        outside = f"https://{access.host}/v1"
        facts["address_outside"] = outside
        words = f"at {outside}, {words}"
    printer(Event(type="note", message=f"serves {words}", facts=facts))
