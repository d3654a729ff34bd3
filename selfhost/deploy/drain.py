"""Drain before rollout: where no GPU is spare, the old pods end before the new ones are made.

A Deployment makes a new pod as soon as an old one is told to end, which takes its grace period; until then the new pod
waits for its GPUs, and nobody can tell that from a cluster that is full. Draining first says what is going on: requests
in flight are answered, the GPUs are free, then the new pod starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from selfhost.cluster import Api, ConflictError, Object
from selfhost.cluster.kinds import DEPLOYMENT, LEADER_WORKER_SET
from selfhost.cluster.values import part, text, texts, whole
from selfhost.deploy.gone import MARGIN_SECONDS, await_gone
from selfhost.deploy.settings import Preview, Settings
from selfhost.deploy.types import COMPONENT_LABEL, INSTANCE_LABEL, Desired, Event, Tell

_DRAINED = (DEPLOYMENT.name, LEADER_WORKER_SET.name)
# These send requests on, or answer them in the model's stead; they hold no GPU.
BESIDE = ("proxy", "picker")


def has_to_drain(settings: Settings, before: Desired, wanted: Desired, shown: Preview) -> bool:
    """Whether the old pods go first: pods are made anew, there is one replica, and none may be beside it."""
    restarts = shown.report is not None and shown.report.effects.restarts
    if not restarts or not any(change.kind in _DRAINED for change in shown.changes):
        return False
    if settings.drain is not None:
        return settings.drain
    return not wanted.options.surge and wanted.plan.replicas == 1 and before.plan.replicas == 1


def drain(
    api: Api,
    before: Desired,
    keep: Callable[[], object],
    tell: Tell,
    *,
    force: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Take the replicas of what is deployed to none, and watch its pods go; nothing where they are an autoscaler's.

    Args:
        api: the cluster.
        before: what is deployed.
        keep: called now and then; raises where nothing may be changed any more.
        tell: hears of it.
        force: take over fields that others own, as the rollout was told to.
        monotonic: a clock that only goes forward, in seconds.

    Raises:
        ClusterError: pods do not end.
    """
    grace = before.plan.clocks.grace_seconds.value
    drained = tuple(item for item in before.objects if _is_drained(item))
    if not drained:  # an autoscaler's to decide: it would bring them back, and nothing here ends them
        return
    tell(
        Event(
            type="progress",
            message=f"draining: requests in flight have {grace} s",
            facts={"stage": "draining"},
        )
    )
    for item in drained:
        keep()
        try:
            api.apply(item | {"spec": part(item, "spec") | {"replicas": 0}}, force=force)
        except ConflictError as error:
            tell(Event(type="note", message=f"not drained first, the rollout does it: {error.message}"))
            return
    await_gone(
        api,
        before.namespace,
        f"{INSTANCE_LABEL}={before.name},{COMPONENT_LABEL}=server",
        seconds=grace + MARGIN_SECONDS,
        keep=keep,
        monotonic=monotonic,
    )


def _is_drained(item: Object) -> bool:
    """Whether it is a workload that serves, and its number of replicas is ours."""
    beside = texts(part(item, "metadata"), "labels").get(COMPONENT_LABEL) in BESIDE
    return text(item, "kind") in _DRAINED and whole(part(item, "spec"), "replicas") is not None and not beside
