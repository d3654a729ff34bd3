"""What applying a change does to what runs: restarts, downtime, GPUs, downloads, and what Kubernetes refuses."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.diff.load import Key, Plain, Side
from selfhost.diff.objects import milli
from selfhost.diff.types import Change, Effects, ObjectChange
from selfhost.plan import Plan

_WORKLOADS = ("Deployment", "StatefulSet", "LeaderWorkerSet", "InferenceService", "LLMInferenceService")
_GPU_WORDS = ("gpu", "gaudi", "mig-", "i915", "xe")
# Fields that Kubernetes does not let anybody change (validation of apps/v1, batch/v1 and core/v1, 1.37), by kind.
_FIXED = {
    "Deployment": ("spec.selector",),
    "StatefulSet": ("spec.selector", "spec.serviceName", "spec.volumeClaimTemplates"),
    "Job": ("spec.selector", "spec.template", "spec.completionMode"),
    "PersistentVolumeClaim": (
        "spec.accessModes",
        "spec.storageClassName",
        "spec.volumeName",
        "spec.selector",
        "spec.volumeMode",
    ),
    "PersistentVolume": ("spec.nfs", "spec.hostPath", "spec.csi"),
    "ResourceClaimTemplate": ("spec",),
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
}
# Sections of a plan that stand in the pod: to change one is to make the pods anew.
_IN_THE_POD = ("model", "engine", "gpus", "load", "flags", "environment", "pod", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workload:
    """Figures of a workload that an update needs."""

    replicas: int
    gpus: int
    surge: int
    missing: int
    start_seconds: int | None

    @property
    def most(self) -> int:
        """GPUs that are taken while it is updated."""
        return (self.replicas + self.surge) * self.gpus


def has_workloads(side: Side) -> bool:
    """Whether a side has objects that Kubernetes runs."""
    return any(kind in _WORKLOADS for kind, _, _ in side.objects)


def effects_of_plans(old: Plan, new: Plan, changes: tuple[Change, ...], *, restarts: bool = False) -> Effects:
    """Of two plans; how pods are replaced is said when they are rendered, so both ways are told by the caller.

    Args:
        old: before.
        new: after.
        changes: what differs.
        restarts: what starts the server differs in a file beside the plan.
    """
    only_replicas = all(change.what == "replicas" for change in changes if change.section == "gpus")
    restarts = restarts or any(
        change.section in _IN_THE_POD and not (change.section == "gpus" and only_replicas)
        for change in changes
    )
    before, after = old.replicas * old.gpu.count, new.replicas * new.gpu.count
    down = new.clocks.load_seconds.value if restarts and new.replicas == 1 else 0
    return Effects(
        restarts=restarts,
        downtime_seconds=down,
        gpus_before=before,
        gpus_after=after,
        gpus_meanwhile=max(before, after),
        download_bytes=_download(old, new),
        blocked=(),
        lost=(),
    )


def _download(old: Plan, new: Plan) -> int:
    if new.weights.kind != "hub":
        return 0
    a, b = old.model, new.model
    return 0 if (a.id, a.revision) == (b.id, b.revision) else new.weights.stored_bytes.value


def effects_of_objects(old: Side, new: Side, changes: tuple[ObjectChange, ...]) -> Effects:
    """Of two renderings, whose workloads say how pods are replaced."""
    touched = {_key(change) for change in changes if change.change == "changed" and _touches_pods(change)}
    restarts = False
    down: int | None = 0
    meanwhile = 0
    for key in {**old.objects, **new.objects}:
        if key[0] not in _WORKLOADS:
            continue
        # A workload that is no longer rendered runs on: `kubectl apply` deletes nothing.
        before, after = (
            _figures(one) if one else None for one in (old.objects.get(key), new.objects.get(key))
        )
        if before is None or after is None or key not in touched:
            meanwhile += max(one.replicas * one.gpus for one in (before, after) if one is not None)
            continue
        if max(before.gpus, after.gpus) == 0:
            continue
        restarts = True
        if after.surge == 0 and after.missing >= after.replicas:
            seconds = after.start_seconds
            down = None if seconds is None or down is None else max(down, seconds)
        meanwhile += max(
            before.most, after.most, (before.replicas + after.surge) * max(before.gpus, after.gpus)
        )
    totals = [sum(one.replicas * one.gpus for one in map(_figures, _workloads(side))) for side in (old, new)]
    download = 0 if old.plan is None or new.plan is None else _download(old.plan, new.plan)
    return Effects(
        restarts=restarts,
        downtime_seconds=down,
        gpus_before=totals[0],
        gpus_after=totals[1],
        gpus_meanwhile=meanwhile,
        download_bytes=download,
        blocked=tuple(_blocked(changes)),
        lost=tuple(_lost(changes)),
    )


def _key(change: ObjectChange) -> Key:
    return change.kind, change.namespace or "", change.name


def _touches_pods(change: ObjectChange) -> bool:
    return any(
        field.path.startswith(
            ("spec.template.", "spec.leaderWorkerTemplate.", "spec.predictor.", "spec.worker.")
        )
        for field in change.fields
    )


def _workloads(side: Side) -> list[dict[str, Plain]]:
    return [value for (kind, _, _), value in side.objects.items() if kind in _WORKLOADS]


def _figures(value: dict[str, Plain]) -> _Workload:
    spec = _at(value, "spec")
    replicas = _at(spec, "predictor").get("minReplicas", spec.get("replicas"))
    count = replicas if isinstance(replicas, int) and not isinstance(replicas, bool) else 1
    pods = _pods(spec)
    size = _at(spec, "leaderWorkerTemplate").get("size")
    gpus = sum(map(_gpus, pods))
    if isinstance(size, int) and len(pods) == 2:
        gpus = _gpus(pods[0]) + (size - 1) * _gpus(pods[1])
    surge, missing = _rollout(str(value.get("kind")), spec, count)
    starts = [seconds for pod in pods for seconds in _starts(pod)]
    return _Workload(
        replicas=count, gpus=gpus, surge=surge, missing=missing, start_seconds=max(starts) if starts else None
    )


def _pods(spec: dict[str, Plain]) -> list[dict[str, Plain]]:
    group = _at(spec, "leaderWorkerTemplate")
    if group:
        worker = _at(group, "workerTemplate", "spec")
        return [_at(group, "leaderTemplate", "spec") or worker, worker]
    if _at(spec, "predictor"):
        return [_at(spec, "predictor")]
    template = _at(spec, "template")
    return [_at(template, "spec") or template]


def _rollout(kind: str, spec: dict[str, Plain], replicas: int) -> tuple[int, int]:
    """Pods above and below the wanted number during an update; the kind's own defaults where nothing is said.

    A StatefulSet never has a pod more (apps/v1), a LeaderWorkerSet none more and one less (its v1 API).
    """
    strategy = (
        _at(spec, "strategy")
        or _at(spec, "rolloutStrategy")
        or _at(spec, "updateStrategy")
        or _at(spec, "predictor", "deploymentStrategy")
    )
    if strategy.get("type") == "Recreate":
        return 0, replicas
    rolling = _at(strategy, "rollingUpdate") or _at(strategy, "rollingUpdateConfiguration")
    whole = kind in ("StatefulSet", "LeaderWorkerSet")
    surge = (
        0
        if kind == "StatefulSet"
        else _share(rolling.get("maxSurge", 0 if whole else "25%"), replicas, up=True)
    )
    missing = _share(rolling.get("maxUnavailable", 1 if whole else "25%"), replicas, up=False)
    return (surge, missing) if surge or missing else (0, 1)


def _share(value: Plain, replicas: int, *, up: bool) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value)
    if text.endswith("%") and text[:-1].isdigit():
        whole = int(text[:-1]) * replicas
        return -(-whole // 100) if up else whole // 100
    return int(text) if text.isdigit() else 0


def _containers(pod: dict[str, Plain]) -> list[dict[str, Plain]]:
    found = pod.get("containers")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _gpus(pod: dict[str, Plain]) -> int:
    total = 0
    for container in _containers(pod):
        resources = _at(container, "resources")
        for name, count in (_at(resources, "limits") or _at(resources, "requests")).items():
            if "/" in name and any(word in name.rpartition("/")[2] for word in _GPU_WORDS):
                total += (milli(count) or 0) // 1000
    return total


def _starts(pod: dict[str, Plain]) -> list[int]:
    found = []
    for container in _containers(pod):
        probe = _at(container, "startupProbe")
        period, failures = probe.get("periodSeconds", 10), probe.get("failureThreshold", 3)
        if probe and isinstance(period, int) and isinstance(failures, int):
            found.append(period * failures)
    return found


def _at(value: dict[str, Plain], *path: str) -> dict[str, Plain]:
    """A mapping inside, empty where there is none."""
    for key in path:
        inner = value.get(key)
        if not isinstance(inner, dict):
            return {}
        value = inner
    return value


def _blocked(changes: tuple[ObjectChange, ...]) -> list[str]:
    found = []
    for change in changes:
        fixed = [
            field.path
            for field in change.fields
            if field.path.startswith(_FIXED.get(change.kind, ())) and change.kind in _FIXED
        ]
        if change.change == "changed" and fixed:
            found.append(
                f"{change.kind} {change.name}: {fixed[0]} cannot be changed; delete it first, then apply"
            )
    return found


def _lost(changes: tuple[ObjectChange, ...]) -> list[str]:
    found = []
    for change in changes:
        if change.change == "removed":
            kept = (
                "its weights go with it when it is deleted"
                if change.kind == "PersistentVolumeClaim"
                else "delete it"
            )
            found.append(
                f"{change.kind} {change.name} is no longer rendered: `kubectl apply` leaves it there; {kept}"
            )
    return found
