"""What a running deployment becomes, and how: beside the old pods where GPUs are spare, else after them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from selfhost.cluster import Api, ApiError, Object
from selfhost.cluster.kinds import DEPLOYMENT, NODE, POD
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.capacity import free_gpus
from selfhost.deploy.desired import desired, with_objects
from selfhost.deploy.drain import BESIDE
from selfhost.deploy.replan import Changes, replan
from selfhost.deploy.surge import room_beside
from selfhost.deploy.types import COMPONENT_LABEL, Desired, Event
from selfhost.errors import UsageError
from selfhost.manifests import RenderOptions
from selfhost.plan import Plan

_SURGING = ("kubernetes", "gateway", "hybrid")  # targets whose pods are a Deployment's
_ENDED = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """Whether new pods may start beside the old ones.

    Args:
        surge: they do.
        because: one sentence.
        free: GPUs that are free by node, of the kind the pods ask for; None where nodes may not be listed.
    """

    surge: bool
    because: str
    free: tuple[tuple[str, int], ...] | None = None

    def event(self) -> Event:
        """As an event."""
        facts: dict[str, object] = {
            "surge": self.surge,
            "free_gpus": None if self.free is None else dict(self.free),
        }
        return Event(type="note", message=self.because, facts=facts)


def next_plan(before: Desired, given: Plan | None, changes: Changes, *, created: str) -> Plan:
    """The plan of an upgrade: another one under the same name, or the last one with changes.

    Args:
        before: what is deployed.
        given: another plan, None for that of before.
        changes: on top of it.
        created: UTC time in ISO 8601.

    Raises:
        SelfhostError: see `replan`.
    """
    plan = replace(given, name=before.name) if given is not None else before.plan
    if before.options.image is not None and changes.image is None and changes.engine is not None:
        raise UsageError(
            f"{before.name} was deployed with --image {before.options.image}, and another engine needs another.",
            hint="Name it with --image REPOSITORY:TAG.",
        )
    return replan(plan, changes, created=created)


def prepare(
    api: Api, before: Desired, plan: Plan, options: RenderOptions, *, surge: bool | None
) -> tuple[Desired, Headroom]:
    """What is wanted, with the way the pods are replaced chosen by what is free.

    Args:
        api: the cluster.
        before: what is deployed.
        plan: what is to be.
        options: what the cluster decides.
        surge: new pods beside the old ones; None decides by what is free.

    Raises:
        UsageError: options that contradict the plan.
    """
    still = desired(plan, before.target, replace(options, surge=False))
    if surge is False or before.target not in _SURGING:
        because = "as asked" if surge is False else f"target {before.target} replaces pods its own way"
        return still, Headroom(surge=False, because=f"The old pods end before the new ones start: {because}.")
    try:
        beside = desired(plan, before.target, replace(options, surge=True))
    except UsageError:
        if surge:
            raise
        because = (
            "No pod can start beside the old one: the weights are on a ReadWriteOnce volume, of one node."
        )
        return still, Headroom(surge=False, because=because)
    if surge:
        return beside, Headroom(surge=True, because="The new pods start beside the old ones, as asked.")
    found = headroom(api, before, beside)
    return (beside if found.surge else still), found


def back(api: Api, before: Desired | None, wanted: Desired) -> tuple[Desired, Headroom | None]:
    """A revision as it is to be there again: with its objects as they were, but for how pods are replaced now.

    Args:
        api: the cluster.
        before: what is deployed; None where nothing ever was.
        wanted: the revision's.

    Returns:
        What is wanted, and what was found; None where the revision does not say to start pods beside others.
    """
    if before is None or not wanted.options.surge:
        return wanted, None
    found = headroom(api, before, wanted)
    if found.surge:
        return wanted, found
    still = tuple(
        _in_turn(item) if text(item, "kind") == DEPLOYMENT.name else item for item in wanted.objects
    )
    options = replace(wanted.options, surge=False)
    return replace(with_objects(wanted, still), options=options), found


def _in_turn(item: Object) -> Object:
    """A Deployment whose old pods end before the new ones start, as the templates write it."""
    spec = part(item, "spec")
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    beside = texts(part(item, "metadata"), "labels").get(COMPONENT_LABEL) in BESIDE
    return item if beside else item | {"spec": spec | {"strategy": strategy}}


def headroom(api: Api, before: Desired, wanted: Desired) -> Headroom:
    """Whether there is room for one more pod beside those that run, and where.

    Args:
        api: the cluster.
        before: what is deployed.
        wanted: what is to be, with surge.
    """
    try:
        nodes, pods = api.list(NODE).items, api.list(POD, fields=_ENDED).items
    except ApiError:
        way = "beside" if before.options.surge else "after"
        because = (
            f"Nodes may not be listed, so the new pods start {way} the old ones, as at the last deployment."
        )
        return Headroom(surge=before.options.surge, because=because)
    resource = wanted.options.gpus.gpu_resource or wanted.plan.gpu.resource
    free = tuple(
        (one.node, one.free) for one in free_gpus(nodes, pods) if one.resource == resource and one.free > 0
    )
    if wanted.options.gpus.dra:  # what claims hold is not counted here
        way = "beside" if before.options.surge else "after"
        because = (
            f"GPUs are claimed (DRA), so the new pods start {way} the old ones, as at the last deployment."
        )
        return Headroom(surge=before.options.surge, because=because, free=free)
    room = room_beside(wanted, nodes, pods)
    need = f"{wanted.plan.gpu.count} {resource}" if resource else "room for one more pod"
    if room.fits and room.placed:
        node = room.placed[0][1]
        because = f"{node} has {need} to spare: the new pod starts beside the old one."
        return Headroom(surge=True, because=because, free=free)
    nodes_words = ", ".join(f"{count} on {node}" for node, count in free[:4]) or "none"
    if wanted.plan.replicas > 1:
        way = "one replica at a time ends before its successor starts"
    else:
        way = "the old pod is drained and ends before the new one starts"
    because = f"No node has {need} to spare (free: {nodes_words}): {way}."
    return Headroom(surge=False, because=because, free=free)
