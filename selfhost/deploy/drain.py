"""Drain before rollout: where no GPU is spare, the old pods end before the new ones are made.

A Deployment makes a new pod as soon as an old one is told to end, which takes its grace period; until then the new pod
waits for its GPUs, and nobody can tell that from a cluster that is full. Draining first says what is going on: requests
in flight are answered, the GPUs are free, then the new pod starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from selfhost.cluster import Api, ConflictError, Object, Wanted, Watcher
from selfhost.cluster.kinds import DEPLOYMENT, LEADER_WORKER_SET, POD
from selfhost.cluster.values import part, text, whole
from selfhost.deploy.settings import Preview, Settings
from selfhost.deploy.types import COMPONENT_LABEL, INSTANCE_LABEL, Desired, Event, Tell
from selfhost.errors import ClusterError

_DRAINED = (DEPLOYMENT.name, LEADER_WORKER_SET.name)
# Ours: beyond its grace period a pod has this long to go, for a kubelet that is busy.
_MARGIN_SECONDS = 120.0


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
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Take the replicas of what is deployed to none, and watch its pods go.

    Args:
        api: the cluster.
        before: what is deployed.
        keep: called now and then; raises where nothing may be changed any more.
        tell: hears of it.
        monotonic: a clock that only goes forward, in seconds.

    Raises:
        ClusterError: pods do not end.
    """
    grace = before.plan.clocks.grace_seconds.value
    tell(
        Event(
            type="progress",
            message=f"draining: requests in flight have {grace} s",
            facts={"stage": "draining"},
        )
    )
    for item in before.objects:
        if text(item, "kind") in _DRAINED and whole(part(item, "spec"), "replicas") is not None:
            keep()
            try:
                api.apply(item | {"spec": part(item, "spec") | {"replicas": 0}})
            except ConflictError as error:
                tell(Event(type="note", message=f"not drained first, the rollout does it: {error.message}"))
                return
    labels = f"{INSTANCE_LABEL}={before.name},{COMPONENT_LABEL}=server"
    until = monotonic() + grace + _MARGIN_SECONDS
    pods: dict[str, Object] = {}
    with Watcher(api, (Wanted(kind=POD, namespace=before.namespace, labels=labels),)) as watcher:
        listed = False
        while not listed or pods:
            if monotonic() > until:
                raise ClusterError(
                    f"Pods of {before.name} do not end: {', '.join(sorted(pods))}.",
                    hint=f"kubectl -n {before.namespace} get pods -l {labels} -o wide shows their nodes.",
                )
            change = watcher.next(1.0)
            keep()
            if change is None or change.type == "trouble":
                continue
            if change.type == "listed":
                listed, pods = True, {}
            for pod in change.items:
                name = text(part(pod, "metadata"), "name")
                ended = text(part(pod, "status"), "phase") in ("Succeeded", "Failed")
                if change.type == "gone" or ended:
                    pods.pop(name, None)
                else:
                    pods[name] = pod
