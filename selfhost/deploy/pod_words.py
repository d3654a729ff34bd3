"""A pod in a word, as an operator would say it: why it is not ready, how often it was started, since when; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text, texts, whole
from selfhost.deploy.types import COMPONENT_LABEL

# Not faults: a pod on its way (kubelet pkg/kubelet/kubelet_pods.go and images/types.go, Kubernetes 1.36).
_ON_THE_WAY = frozenset({"PodInitializing", "ContainerCreating"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLine:
    """A pod for a line.

    Args:
        name: of it.
        component: what it is: `server`, `download`, `worker`.
        node: where it runs, empty before that is decided.
        ready: it serves, and is not being ended.
        trouble: why not, in a word; empty while it is ready, or on its way.
        stage: `Running`, `Pending`, `Starting`, `Ending`, `Done` or the trouble.
        restarts: of all its containers.
        since: Unix time at which it was made, None where the server does not say.
        image: of the container that serves.
        template: hash of the template it was made of.
    """

    name: str
    component: str
    node: str
    ready: bool
    trouble: str
    stage: str
    restarts: int
    since: float | None
    image: str
    template: str


def pod_line(pod: Object) -> PodLine:
    """A pod as the API server tells it."""
    metadata, spec, status = part(pod, "metadata"), part(pod, "spec"), part(pod, "status")
    labels = texts(metadata, "labels")
    phase = text(status, "phase")
    ending = "deletionTimestamp" in metadata
    conditions = {text(one, "type"): one for one in parts(status, "conditions")}
    ready = not ending and text(conditions.get("Ready", {}), "status") == "True"
    trouble = "" if ready or ending or phase == "Succeeded" else _trouble(status, phase, conditions)
    stage = (
        "Ending" if ending else "Done" if phase == "Succeeded" else trouble or ("Running" if ready else "")
    )
    containers = parts(spec, "containers")
    return PodLine(
        name=text(metadata, "name"),
        component=labels.get(COMPONENT_LABEL, ""),
        node=text(spec, "nodeName"),
        ready=ready,
        trouble=trouble,
        stage=stage or ("Starting" if text(spec, "nodeName") else "Pending"),
        restarts=sum(whole(one, "restartCount") or 0 for one in _statuses(status)),
        since=unix(text(metadata, "creationTimestamp")),
        image=text(containers[0], "image") if containers else "",
        template=labels.get(
            "pod-template-hash", labels.get("leaderworkerset.sigs.k8s.io/template-revision-hash", "")
        ),
    )


def unix(stamp: str) -> float | None:
    """Unix time of a time as the API server writes it, None for anything else."""
    try:
        return datetime.fromisoformat(stamp).timestamp() if stamp else None
    except ValueError:
        return None


def age(seconds: float | None) -> str:
    """How long ago, for a narrow column: `45s`, `12m`, `3h`, `5d`; `-` where that is not known."""
    if seconds is None:
        return "-"
    left = max(0, round(seconds))
    for unit, size, upto in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172800)):
        if left < upto:
            return f"{left // size}{unit}"
    return f"{left // 86400}d"


def _trouble(status: Object, phase: str, conditions: dict[str, Object]) -> str:
    for one in _statuses(status):
        reason = text(part(part(one, "state"), "waiting"), "reason")
        if reason and reason not in _ON_THE_WAY:
            return reason
    if phase == "Failed":
        return text(status, "reason") or "Failed"
    scheduled = conditions.get("PodScheduled", {})
    if text(scheduled, "status") == "False":
        return text(scheduled, "reason") or "Unschedulable"
    for one in _statuses(status):
        ended = part(part(one, "state"), "terminated")
        if ended and whole(ended, "exitCode") not in (0, None):
            return text(ended, "reason") or "Error"
        if (whole(one, "restartCount") or 0) > 0:
            return "Restarted"
    return ""


def _statuses(status: Object) -> Iterator[Object]:
    yield from parts(status, "initContainerStatuses")
    yield from parts(status, "containerStatuses")
