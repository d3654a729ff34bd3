"""ReplicaSet -> pods (pkg/controller/replicaset, 1.36)."""

from __future__ import annotations

from tests.fakes.kube.controllers.tools import Tools, owned_by, pod_of
from tests.fakes.kube.strategy import random_suffix
from tests.fakes.kube.wire import (
    Object,
    RefusalError,
    at,
    condition,
    deleting,
    holds,
    moment,
    name_of,
    namespace_of,
    now,
    uid_of,
)

_COMPONENT = "replicaset-controller"
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.25, 30.0


def sync(tools: Tools, namespace: str, name: str) -> float | None:
    """One step; seconds after which to look again."""
    item = tools.find("ReplicaSet", namespace, name)
    if item is None:
        return None
    pods = owned_by(tools.all("Pod", namespace), item)
    pods = [one for one in pods if at(one, "status", "phase") not in ("Succeeded", "Failed")]
    active = [one for one in pods if not deleting(one)]
    wanted = int(at(item, "spec", "replicas") or 0)
    failure = ""
    if not deleting(item):
        if len(active) < wanted:
            failure = _create(tools, item, wanted - len(active))
        elif len(active) > wanted:
            for one in sorted(active, key=_rank)[: len(active) - wanted]:
                tools.delete(one)
                tools.event(item, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(one)}", _COMPONENT)
    again = _status(tools, item, failure)
    if not failure:
        tools.tries.pop(uid_of(item), None)
        return again
    tries = tools.tries[uid_of(item)] = tools.tries.get(uid_of(item), 0) + 1
    return float(min(_RETRY_SECONDS * 2 ** (tries - 1), _LONGEST_RETRY_SECONDS) / tools.pace)


def _create(tools: Tools, item: Object, count: int) -> str:
    """New pods; why one could not be made."""
    for _ in range(count):
        try:
            made = tools.create(pod_of(item, f"{name_of(item)}-{random_suffix()}"))
        except RefusalError as refusal:
            tools.event(item, "Warning", "FailedCreate", f"Error creating: {refusal.message}", _COMPONENT)
            return refusal.message
        tools.event(item, "Normal", "SuccessfulCreate", f"Created pod: {name_of(made)}", _COMPONENT)
    return ""


def _rank(pod: Object) -> tuple[bool, int, bool, float]:
    """Which goes first: one without a node, one that is not running, one that is not ready, the youngest."""
    phase = {"Pending": 0, "Unknown": 1, "Running": 2}.get(at(pod, "status", "phase") or "Pending", 0)
    return (
        bool(at(pod, "spec", "nodeName")), phase, holds(pod, "Ready"),
        -moment(at(pod, "metadata", "creationTimestamp")),
    )  # fmt: skip


def _status(tools: Tools, item: Object, failure: str) -> float | None:
    """Counts of pods; seconds until one that is ready counts as available."""
    pods = owned_by(tools.all("Pod", namespace_of(item)), item)
    pods = [one for one in pods if at(one, "status", "phase") not in ("Succeeded", "Failed")]
    active = [one for one in pods if not deleting(one)]
    ready = [one for one in active if holds(one, "Ready")]
    least = float(at(item, "spec", "minReadySeconds") or 0)
    ages = [
        moment(now()) - moment((condition(one, "Ready") or {}).get("lastTransitionTime")) for one in ready
    ]
    available = sum(age >= least for age in ages)
    conditions = [one for one in at(item, "status", "conditions") or [] if one["type"] != "ReplicaFailure"]
    if failure:
        old = condition(item, "ReplicaFailure")
        conditions.append({
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure,
            "lastTransitionTime": old["lastTransitionTime"] if old else now(),
        })  # fmt: skip
    status: Object = {"replicas": len(active), "observedGeneration": at(item, "metadata", "generation")}
    counts = {
        "fullyLabeledReplicas": len(active), "readyReplicas": len(ready), "availableReplicas": available,
    }  # fmt: skip
    status |= {name: count for name, count in counts.items() if count}
    status |= {"terminatingReplicas": len(pods) - len(active)}
    status |= {"conditions": conditions} if conditions else {}
    tools.status(item, status)
    waiting = [least - age for age in ages if age < least]
    return min(waiting) + 0.05 if waiting else None
