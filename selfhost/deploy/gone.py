"""Waiting until pods are gone: by a watch, within their grace period and a margin."""

from __future__ import annotations

import time
from collections.abc import Callable

from selfhost.cluster import Api, Wanted, Watcher
from selfhost.cluster.kinds import POD
from selfhost.cluster.values import part, text
from selfhost.errors import ClusterError

# Ours: beyond its grace period a pod has this long to go, for a kubelet that is busy.
MARGIN_SECONDS = 120.0
# Of the Kubernetes API 1.37 (core/v1 PodSpec.terminationGracePeriodSeconds): where nothing else is said.
DEFAULT_GRACE_SECONDS = 30


def await_gone(
    api: Api,
    namespace: str,
    labels: str,
    *,
    seconds: float,
    keep: Callable[[], object] = lambda: None,
    left: Callable[[int], object] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Watch until there is no pod of these labels any more; pods that have ended hold nothing and do not count.

    Args:
        api: the cluster.
        namespace: of the pods.
        labels: a label selector.
        seconds: how long they may take.
        keep: called about once a second; raises where nothing may be changed any more.
        left: hears how many are left, each time that changes.
        monotonic: a clock that only goes forward, in seconds.

    Raises:
        ClusterError: they do not end.
    """
    until = monotonic() + seconds
    pods: set[str] = set()
    listed, told = False, -1
    with Watcher(api, (Wanted(kind=POD, namespace=namespace, labels=labels),)) as watcher:
        while not listed or pods:
            if monotonic() > until:
                raise ClusterError(
                    f"Pods do not end: {', '.join(sorted(pods)) or 'nobody knows which'}.",
                    hint=f"kubectl -n {namespace} get pods -l {labels} -o wide shows their nodes; "
                    "once they are gone the same command goes on.",
                )
            change = watcher.next(1.0)
            keep()
            if change is None or change.type == "trouble":
                continue
            if change.type == "listed":
                listed, pods = True, set()
            for pod in change.items:
                name = text(part(pod, "metadata"), "name")
                ended = text(part(pod, "status"), "phase") in ("Succeeded", "Failed")
                if change.type == "gone" or ended:
                    pods.discard(name)
                else:
                    pods.add(name)
            if len(pods) != told:
                told = len(pods)
                left(told)
