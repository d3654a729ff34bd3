"""Deployment -> ReplicaSets: rolling updates, Recreate, revisions, progress (pkg/controller/deployment, 1.36)."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from tests.fakes.kube.controllers.tools import Tools, owned_by, reference_to, set_condition
from tests.fakes.kube.wire import Object, at, condition, deleting, moment, name_of, namespace_of, now

_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_DESIRED, _MOST = "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas"
_COMPONENT = "deployment-controller"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def sync(tools: Tools, namespace: str, name: str) -> float | None:
    """One step; seconds after which to look again."""
    item = tools.find("Deployment", namespace, name)
    if item is None:
        return None
    sets = owned_by(tools.all("ReplicaSet", namespace), item)
    if deleting(item):
        return None
    new = next((one for one in sets if _template(one) == _template(item)), None)
    old = [one for one in sets if one is not new]
    created = False
    if not at(item, "spec", "paused"):
        item = tools.find("Deployment", namespace, name) or item
        new, created = _ensured(tools, item, new, old)
        _scale(tools, item, new, old)
    else:
        _hold(tools, item, new, old)
    sets = owned_by(tools.all("ReplicaSet", namespace), item)
    fresh = tools.find("Deployment", namespace, name)
    if fresh is None:
        return None
    current = next((one for one in sets if new is not None and name_of(one) == name_of(new)), None)
    again = _status(tools, fresh, current, sets, created=created)
    _cleanup(tools, fresh, current, sets)
    return again


def _template(item: Object) -> str:
    template = json.loads(json.dumps(at(item, "spec", "template") or {}))
    labels = at(template, "metadata", "labels")
    if labels:
        labels.pop(_HASH, None)
    return json.dumps(template, sort_keys=True)


def _hashed(item: Object) -> str:
    number = int(hashlib.sha256(_template(item).encode()).hexdigest()[:12], 16)
    text = ""
    while len(text) < 10:
        number, rest = divmod(number, len(_LETTERS))
        text += _LETTERS[rest]
    return text


def _number(item: Object) -> int:
    return int((at(item, "metadata", "annotations") or {}).get(_REVISION) or 0)


def _replicas(item: Object | None) -> int:
    return int(at(item, "spec", "replicas") or 0) if item is not None else 0


def bounds(item: Object) -> tuple[int, int]:
    """Pods beyond, and pods short of, what is wanted during an update."""
    if at(item, "spec", "strategy", "type") == "Recreate":
        return 0, 0
    rolling: Any = at(item, "spec", "strategy", "rollingUpdate") or {}
    wanted = _replicas(item)

    def share(value: Any, rounded: Any) -> int:
        text = str(value if value is not None else "25%")
        return int(rounded(wanted * int(text[:-1]) / 100)) if text.endswith("%") else int(text)

    surge, short = share(rolling.get("maxSurge"), math.ceil), share(rolling.get("maxUnavailable"), math.floor)
    return surge, min(max(short, 0 if surge else 1), wanted) if wanted else 0


def _ensured(tools: Tools, item: Object, new: Object | None, old: list[Object]) -> tuple[Object | None, bool]:
    """The ReplicaSet of the template as it is, and whether it is new; its revision is above all others'."""
    revision = max([_number(one) for one in old], default=0) + 1
    if new is not None:
        if _number(new) < revision and old:
            new = tools.change(new, {"metadata": {"annotations": {_REVISION: str(revision)}}})
        _mark(tools, item, _number(new))
        return new, False
    if at(item, "spec", "strategy", "type") == "Recreate" and _drain(tools, item, old):
        return None, False
    key = _hashed(item)
    template = json.loads(json.dumps(item["spec"]["template"]))
    template.setdefault("metadata", {}).setdefault("labels", {})[_HASH] = key
    selector = json.loads(json.dumps(item["spec"]["selector"]))
    selector.setdefault("matchLabels", {})[_HASH] = key
    surge, _ = bounds(item)
    wanted = _replicas(item)
    room = max(0, wanted + surge - sum(_replicas(one) for one in old))
    count = min(wanted, room)
    inherited = {
        key: value
        for key, value in (at(item, "metadata", "annotations") or {}).items()
        if key not in (_REVISION, "kubectl.kubernetes.io/last-applied-configuration")
    }
    made = tools.create(
        {
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": f"{name_of(item)}-{key}", "namespace": namespace_of(item),
                "labels": template["metadata"]["labels"], "ownerReferences": [reference_to(item)],
                "annotations": inherited
                | {_REVISION: str(revision), _DESIRED: str(wanted), _MOST: str(wanted + surge)},
            },
            "spec": {"replicas": count, "selector": selector, "template": template}
            | ({"minReadySeconds": item["spec"]["minReadySeconds"]} if item["spec"].get("minReadySeconds") else {}),
        }
    )  # fmt: skip
    if count:
        tools.event(item, "Normal", "ScalingReplicaSet",
                    f"Scaled up replica set {name_of(made)} from 0 to {count}", _COMPONENT)  # fmt: skip
    _mark(tools, item, revision)
    return made, True


def _mark(tools: Tools, item: Object, revision: int) -> None:
    live = tools.find("Deployment", namespace_of(item), name_of(item))
    if live is not None and _number(live) != revision:
        tools.change(live, {"metadata": {"annotations": {_REVISION: str(revision)}}})


def _resize(tools: Tools, item: Object, one: Object, count: int) -> Object:
    before = _replicas(one)
    if before == count:
        return one
    word = "up" if count > before else "down"
    changed = tools.change(one, {"spec": {"replicas": count}})
    tools.event(item, "Normal", "ScalingReplicaSet",
                f"Scaled {word} replica set {name_of(one)} from {before} to {count}", _COMPONENT)  # fmt: skip
    return changed


def _drain(tools: Tools, item: Object, old: list[Object]) -> bool:
    """Whether pods of before are still there (Recreate); those that have not been told to go are."""
    for one in old:
        _resize(tools, item, one, 0)
    pods = tools.all("Pod", namespace_of(item))
    return any(
        at(pod, "status", "phase") not in ("Succeeded", "Failed")
        for one in old
        for pod in owned_by(pods, one)
    )


def _scale(tools: Tools, item: Object, new: Object | None, old: list[Object]) -> None:
    wanted = _replicas(item)
    if new is None:
        return
    if at(item, "spec", "strategy", "type") == "Recreate":
        if not _drain(tools, item, [one for one in old if _replicas(one)] or old):
            _resize(tools, item, new, wanted)
        return
    surge, short = bounds(item)
    total = sum(_replicas(one) for one in [*old, new])
    if _replicas(new) > wanted:
        new = _resize(tools, item, new, wanted)
    elif _replicas(new) < wanted and total < wanted + surge:
        grown = min(wanted - _replicas(new), wanted + surge - total)
        new = _resize(tools, item, new, _replicas(new) + grown)
    _shrink(tools, item, new, [one for one in old if _replicas(one)], wanted - short)


def _shrink(tools: Tools, item: Object, new: Object, old: list[Object], least: int) -> None:
    """Old pods go as far as enough stay available: first those that are not."""
    total = sum(_replicas(one) for one in [*old, new])
    unready = _replicas(new) - int(at(new, "status", "availableReplicas") or 0)
    room = total - least - unready
    if room <= 0:
        return
    old = sorted(old, key=lambda one: str(at(one, "metadata", "creationTimestamp")))
    for place, one in enumerate(old):
        sick = _replicas(one) - int(at(one, "status", "availableReplicas") or 0)
        gone = min(max(room, 0), max(sick, 0))
        if gone:
            old[place] = _resize(tools, item, one, _replicas(one) - gone)
            room -= gone
    spare = sum(int(at(one, "status", "availableReplicas") or 0) for one in [*old, new]) - least
    for one in old:
        gone = min(max(spare, 0), _replicas(one))
        if gone:
            _resize(tools, item, one, _replicas(one) - gone)
            spare -= gone


def _hold(tools: Tools, item: Object, new: Object | None, old: list[Object]) -> None:
    """Paused: only the number of replicas is followed."""
    active = [one for one in [*old, new] if one is not None and _replicas(one)]
    if len(active) == 1 or (new is not None and not active):
        _resize(tools, item, active[0] if active else new or {}, _replicas(item))


def _status(
    tools: Tools, item: Object, new: Object | None, sets: list[Object], *, created: bool
) -> float | None:
    def total(name: str, items: list[Object]) -> int:
        return sum(int(at(one, "status", name) or 0) for one in items)

    before: Any = at(item, "status") or {}
    wanted = _replicas(item)
    counts = {
        "replicas": total("replicas", sets), "updatedReplicas": total("replicas", [new] if new else []),
        "readyReplicas": total("readyReplicas", sets), "availableReplicas": total("availableReplicas", sets),
        "terminatingReplicas": total("terminatingReplicas", sets),
    }  # fmt: skip
    counts["unavailableReplicas"] = max(sum(_replicas(one) for one in sets) - counts["availableReplicas"], 0)
    conditions: list[Object] = list(before.get("conditions") or [])
    _, short = bounds(item)
    available = counts["availableReplicas"] >= wanted - short
    conditions = set_condition(conditions, _condition(
        "Available", "True" if available else "False",
        "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable",
        "Deployment has minimum availability." if available else "Deployment does not have minimum availability.",
    ))  # fmt: skip
    conditions, again = _progress(item, before, counts, conditions, new, created=created)
    failures = [found for one in [new, *sets] if one and (found := condition(one, "ReplicaFailure"))]
    conditions = [one for one in conditions if one["type"] != "ReplicaFailure"] + [
        _condition("ReplicaFailure", "True", one.get("reason", ""), one.get("message", ""))
        | {
            "lastTransitionTime": one.get("lastTransitionTime"),
            "lastUpdateTime": one.get("lastTransitionTime"),
        }
        for one in failures[:1]
    ]
    status: Object = {"observedGeneration": at(item, "metadata", "generation")}
    status |= {name: count for name, count in counts.items() if count}
    status |= {"terminatingReplicas": counts["terminatingReplicas"]}
    tools.status(item, status | {"conditions": conditions})
    return again


def _progress(
    item: Object,
    before: Object,
    counts: dict[str, int],
    conditions: list[Object],
    new: Object | None,
    *,
    created: bool,
) -> tuple[list[Object], float | None]:
    """Condition Progressing, after syncRolloutStatus; and when its deadline is."""
    found = next((one for one in conditions if one["type"] == "Progressing"), None)
    seconds = at(item, "spec", "progressDeadlineSeconds")
    if at(item, "spec", "paused"):
        return set_condition(
            conditions, _condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        ), None
    if found is not None and found.get("reason") == "DeploymentPaused":
        found = _condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
        conditions = set_condition(conditions, found)
    name = name_of(new) if new is not None else name_of(item)
    called = f'ReplicaSet "{name}"' if new is not None else f'Deployment "{name}"'
    if created:
        found = _condition("Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
        conditions = [one for one in conditions if one["type"] != "Progressing"] + [found]
    elif found is None and new is not None:
        found = _condition("Progressing", "True", "FoundNewReplicaSet", f'Found new replica set "{name}"')
        conditions = [*conditions, found]
    wanted = _replicas(item)
    settled = found is not None and found.get("reason") == "NewReplicaSetAvailable"
    if settled and counts["replicas"] == counts["updatedReplicas"]:
        return conditions, None
    complete = counts["updatedReplicas"] == counts["replicas"] == counts["availableReplicas"] == wanted
    moved = (
        counts["updatedReplicas"] > int(before.get("updatedReplicas") or 0)
        or counts["replicas"] - counts["updatedReplicas"]
        < int(before.get("replicas") or 0) - int(before.get("updatedReplicas") or 0)
        or counts["readyReplicas"] > int(before.get("readyReplicas") or 0)
        or counts["availableReplicas"] > int(before.get("availableReplicas") or 0)
    )
    if complete and new is not None:
        return set_condition(conditions, _condition(
            "Progressing", "True", "NewReplicaSetAvailable",
            f"{called} has successfully progressed.")), None  # fmt: skip
    if moved:
        fresh = _condition("Progressing", "True", "ReplicaSetUpdated", f"{called} is progressing.")
        if found is not None and found["status"] == "True":
            fresh["lastTransitionTime"] = found["lastTransitionTime"]
        found = fresh
        conditions = [one for one in conditions if one["type"] != "Progressing"] + [fresh]
    if (
        found is None
        or seconds is None
        or found.get("reason") in ("ProgressDeadlineExceeded", "DeploymentPaused")
    ):
        return conditions, None
    left = moment(found["lastUpdateTime"]) + float(seconds) - moment(now())
    if left > 0:
        return conditions, left + 0.05
    return set_condition(conditions, _condition(
        "Progressing", "False", "ProgressDeadlineExceeded", f"{called} has timed out progressing.")), None  # fmt: skip


def _condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {
        "type": kind, "status": status, "lastUpdateTime": now(), "lastTransitionTime": now(), "reason": reason,
        "message": message,
    }  # fmt: skip


def _cleanup(tools: Tools, item: Object, new: Object | None, sets: list[Object]) -> None:
    """Of ReplicaSets without pods, the last few are kept."""
    limit = at(item, "spec", "revisionHistoryLimit")
    settled = condition(item, "Progressing") or {}
    empty = [
        one for one in sets
        if (new is None or name_of(one) != name_of(new)) and not _replicas(one) and not at(one, "status", "replicas")
        and not deleting(one)
    ]  # fmt: skip
    if limit is None or settled.get("reason") != "NewReplicaSetAvailable":
        return
    for one in sorted(empty, key=_number)[: max(0, len(empty) - int(limit))]:
        tools.delete(one)
