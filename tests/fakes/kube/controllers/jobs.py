"""Job -> pods, until one has succeeded or too many have failed (pkg/controller/job, 1.36)."""

from __future__ import annotations

from typing import Any

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

_FINALIZER = "batch.kubernetes.io/job-tracking"
_COMPONENT = "job-controller"
_DONE = "Reached expected number of succeeded pods"
_BACKOFF_SECONDS, _LONGEST_SECONDS = 10.0, 600.0


def sync(tools: Tools, namespace: str, name: str) -> float | None:
    """One step; seconds after which to look again."""
    item = tools.find("Job", namespace, name)
    pods = _tracked(tools, namespace, name, item)
    if item is None or deleting(item):
        return None
    if holds(item, "Complete") or holds(item, "Failed"):
        return _expire(tools, item)
    spec: Any = item["spec"]
    if spec.get("suspend"):
        for one in pods:
            if at(one, "status", "phase") not in ("Succeeded", "Failed"):
                tools.delete(one)
        _write(tools, item, [], 0, 0, [_condition("Suspended", "True", "JobSuspended", "Job suspended")])
        return None
    active = [
        one for one in pods if at(one, "status", "phase") not in ("Succeeded", "Failed") and not deleting(one)
    ]
    phases = [at(one, "status", "phase") for one in pods]
    succeeded = max(phases.count("Succeeded"), int(at(item, "status", "succeeded") or 0))
    failed = max(phases.count("Failed"), int(at(item, "status", "failed") or 0))
    begun = at(item, "status", "startTime") or now()
    completions = int(spec.get("completions") or 1)
    deadline = spec.get("activeDeadlineSeconds")
    left = moment(begun) + float(deadline) - moment(now()) if deadline is not None else None
    restarts = sum(
        int(status.get("restartCount") or 0)
        for one in active
        for status in at(one, "status", "containerStatuses") or ()
    )
    target = condition(item, "FailureTarget")
    if target is not None:
        return _end(tools, item, pods, succeeded, failed, f"{target['reason']}:{target['message']}")
    if succeeded >= completions:
        return _end(tools, item, pods, succeeded, failed, "")
    if failed > int(spec["backoffLimit"]) or (restarts and restarts >= int(spec["backoffLimit"]) > 0):
        return _end(
            tools, item, pods, succeeded, failed, "BackoffLimitExceeded:Job has reached the specified backoff limit"
        )  # fmt: skip
    if left is not None and left <= 0:
        return _end(
            tools, item, pods, succeeded, failed, "DeadlineExceeded:Job was active longer than specified deadline"
        )  # fmt: skip
    again = _start(tools, item, active, pods, min(int(spec["parallelism"]), completions - succeeded), failed)
    now_active = [
        one for one in owned_by(tools.all("Pod", namespace), item)
        if at(one, "status", "phase") not in ("Succeeded", "Failed") and not deleting(one)
    ]  # fmt: skip
    _write(tools, item, now_active, succeeded, failed, [])
    waits = [one for one in (again, left + 0.05 if left is not None else None) if one is not None]
    return min(waits) if waits else None


def _tracked(tools: Tools, namespace: str, name: str, item: Object | None) -> list[Object]:
    """Pods of the job; those that are over are let go of."""
    found = []
    for one in tools.all("Pod", namespace):
        owner = next(
            (ref for ref in at(one, "metadata", "ownerReferences") or () if ref.get("kind") == "Job"), None
        )
        if owner is None or owner["name"] != name:
            continue
        over = at(one, "status", "phase") in ("Succeeded", "Failed")
        if _FINALIZER in (at(one, "metadata", "finalizers") or ()) and (
            item is None or deleting(item) or deleting(one) or over
        ):
            metadata = dict(one["metadata"])
            metadata["finalizers"] = [x for x in metadata["finalizers"] if x != _FINALIZER]
            if not metadata["finalizers"]:
                del metadata["finalizers"]
            one = tools.verbs.finish(tools.kind("Pod"), one | {"metadata": metadata})
            if tools.find("Pod", namespace, name_of(one)) is None:
                continue
        if item is not None and owner["uid"] == uid_of(item):
            found.append(one)
    return found


def _start(
    tools: Tools, item: Object, active: list[Object], pods: list[Object], wanted: int, failed: int
) -> float | None:
    """New pods, later and later after failures; seconds until the next try."""
    if len(active) >= wanted:
        return None
    if failed:
        ends = [
            moment(at(status, "state", "terminated", "finishedAt"))
            for one in pods
            if at(one, "status", "phase") == "Failed"
            for status in at(one, "status", "containerStatuses") or ()
        ]
        last = max(ends, default=0.0) or moment(now())
        delay: float = min(_BACKOFF_SECONDS * 2 ** (failed - 1), _LONGEST_SECONDS) / tools.pace
        left = last + delay - moment(now())
        if left > 0:
            return left + 0.05
    for _ in range(wanted - len(active)):
        try:
            made = tools.create(pod_of(item, f"{name_of(item)}-{random_suffix()}", [_FINALIZER]))
        except RefusalError as refusal:
            tools.event(item, "Warning", "FailedCreate", f"Error creating: {refusal.message}", _COMPONENT)
            return 1.0 / tools.pace
        tools.event(item, "Normal", "SuccessfulCreate", f"Created pod: {name_of(made)}", _COMPONENT)
    return None


def _end(
    tools: Tools, item: Object, pods: list[Object], succeeded: int, failed: int, why: str
) -> float | None:
    """The end of a job: it is Complete or Failed once none of its pods is left that runs."""
    left = [one for one in pods if at(one, "status", "phase") not in ("Succeeded", "Failed")]
    for one in left:
        if not deleting(one):
            tools.delete(one)
            tools.event(item, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(one)}", _COMPONENT)
    left = [one for one in left if tools.find("Pod", namespace_of(one), name_of(one)) is not None]
    reason, _, message = why.partition(":") if why else ("CompletionsReached", "", _DONE)
    first, last = ("FailureTarget", "Failed") if why else ("SuccessCriteriaMet", "Complete")
    target = condition(item, first) or _condition(first, "True", reason, message)
    conditions = [target] if left else [target, _condition(last, "True", target["reason"], target["message"])]
    if not left:
        level, cause = ("Warning", target["reason"]) if why else ("Normal", "Completed")
        tools.event(item, level, cause, target["message"] if why else "Job completed", _COMPONENT)
    failed += 0 if condition(item, first) is not None else len(left)
    _write(tools, item, [], succeeded, failed, conditions, terminating=len(left))
    live = tools.find("Job", namespace_of(item), name_of(item))
    return _expire(tools, live) if live is not None and not left else None


def _expire(tools: Tools, item: Object) -> float | None:
    """A job that is over goes after its time."""
    seconds = at(item, "spec", "ttlSecondsAfterFinished")
    if seconds is None:
        return None
    ends = [
        moment(one["lastTransitionTime"])
        for one in at(item, "status", "conditions") or ()
        if one["type"] in ("Complete", "Failed")
    ]
    left = max(ends, default=0.0) + float(seconds) - moment(now())
    if left > 0:
        return left + 0.05
    tools.delete(item)
    return None


def _write(
    tools: Tools, item: Object, active: list[Object], succeeded: int, failed: int, conditions: list[Object],
    terminating: int = 0,
) -> None:  # fmt: skip
    before: Any = at(item, "status") or {}
    status: Object = {"startTime": before.get("startTime") or now(), "uncountedTerminatedPods": {}}
    ready = sum(holds(one, "Ready") for one in active)
    status |= {"active": len(active)} if active else {}
    status |= {"ready": ready, "terminating": terminating}
    status |= {"succeeded": succeeded} if succeeded else {}
    status |= {"failed": failed} if failed else {}
    found = conditions or before.get("conditions") or []
    status |= {"conditions": found} if found else {}
    if any(one["type"] == "Complete" for one in found):
        status["completionTime"] = before.get("completionTime") or now()
    tools.status(item, status)


def _condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {
        "type": kind, "status": status, "lastProbeTime": now(), "lastTransitionTime": now(), "reason": reason,
        "message": message,
    }  # fmt: skip
