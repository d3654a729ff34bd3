"""How far a pod has come, by its status, the kubelet's events and what its containers write; a thread for each log."""

from __future__ import annotations

import threading
from collections import deque

from selfhost.cluster import Api, Object, Ref
from selfhost.cluster.kinds import POD
from selfhost.cluster.values import part, parts, text, texts
from selfhost.deploy.types import COMPONENT_LABEL, Desired, Progress
from selfhost.errors import ClusterError

# Ours: an engine that loads for half an hour may say nothing meanwhile.
_SILENT_SECONDS = 3600.0
_TAIL_LINES = 200
# Ours: no more logs at once than this; with many replicas the first few tell how far they are.
_MOST_LOGS = 4
_KEPT_LINES = 400


class Follower:
    """Reads the logs of the newest pods while they start. A context manager; its threads never hold anybody up."""

    def __init__(self, api: Api, wanted: Desired) -> None:
        self._api, self._wanted = api, wanted
        self._engine = wanted.plan.engine.name
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, str], deque[str]] = {}
        self._followed: set[tuple[str, str, int]] = set()
        self._ended = threading.Event()
        self.stage: Progress | None = None

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def see(self, pods: tuple[Object, ...]) -> None:
        """Begin to read the logs of containers that run by now and are not ready."""
        for pod in pods:
            for container in _running(pod):
                name = text(part(pod, "metadata"), "name")
                restarts = container.get("restartCount")
                key = (name, text(container, "name"), restarts if isinstance(restarts, int) else 0)
                if key in self._followed or len(self._followed) >= _MOST_LOGS:
                    continue
                self._followed.add(key)
                threading.Thread(target=self._read, args=key, name=f"log-{name}", daemon=True).start()

    def progress(self, pods: tuple[Object, ...], events: tuple[Object, ...]) -> Progress:
        """How far the pod is that is least far; the download counts before the servers that wait for it."""
        found = [
            self._of_pod(pod, events) for pod in pods if "deletionTimestamp" not in part(pod, "metadata")
        ]
        loading = [one for one in found if one.stage == "downloading" and one.total]
        self.stage = (
            loading[0]
            if loading
            else min(found, key=lambda one: _ORDER.index(one.stage), default=Progress(stage="scheduling"))
        )
        return self.stage

    def _of_pod(self, pod: Object, events: tuple[Object, ...]) -> Progress:
        from selfhost.deploy.engine_log import progress

        metadata, status = part(pod, "metadata"), part(pod, "status")
        name = text(metadata, "name")
        downloads = texts(metadata, "labels").get(COMPONENT_LABEL) == "download"
        if text(status, "phase") == "Succeeded" or _is_ready(pod):
            return Progress(stage="ready", pod=name)
        if not text(part(pod, "spec"), "nodeName"):
            return Progress(stage="scheduling", pod=name, detail=_unscheduled(pod))
        running = _running(pod)
        if not running:
            return Progress(stage="pulling", pod=name, detail=_pulling(name, events))
        container = text(running[-1], "name")
        if container == "weights":
            return Progress(stage="downloading", pod=name, detail="waits for the weights")
        with self._lock:
            lines = tuple(self._lines.get((name, container), ()))
        read = progress(lines, "pull" if downloads else self._engine)
        fallback = Progress(stage="downloading" if downloads else "starting", pod=name)
        return Progress(
            stage=(read or fallback).stage,
            pod=name,
            done=read.done if read else None,
            total=read.total if read else None,
            unit=read.unit if read else "",
            detail=read.detail if read else "",
        )

    def _read(self, pod: str, container: str, _restarts: int) -> None:
        ref = Ref(api_version=POD.api_version, kind=POD.name, namespace=self._wanted.namespace, name=pod)
        try:
            for line in self._api.follow_log(ref, container, tail_lines=_TAIL_LINES, seconds=_SILENT_SECONDS):
                if self._ended.is_set():
                    return
                with self._lock:
                    self._lines.setdefault((pod, container), deque(maxlen=_KEPT_LINES)).append(line)
        except (ClusterError, OSError, ValueError):
            return  # progress is told without it; a failure is explained from a log of its own


_ORDER = ("scheduling", "pulling", "downloading", "starting", "loading", "compiling", "warming", "ready")


def _running(pod: Object) -> tuple[Object, ...]:
    """Containers that run and do not serve yet: the init container at work, or those of the pod."""
    status = part(pod, "status")
    found = (*parts(status, "initContainerStatuses"), *parts(status, "containerStatuses"))
    return tuple(
        one for one in found if part(one, "state").get("running") is not None and one.get("ready") is not True
    )


def _is_ready(pod: Object) -> bool:
    return any(
        text(one, "type") == "Ready" and text(one, "status") == "True"
        for one in parts(part(pod, "status"), "conditions")
    )


def _unscheduled(pod: Object) -> str:
    for one in parts(part(pod, "status"), "conditions"):
        if text(one, "type") == "PodScheduled" and text(one, "status") == "False":
            return text(one, "message")[:200]
    return ""


def _pulling(pod: str, events: tuple[Object, ...]) -> str:
    """The kubelet's last words about an image (kubelet pkg/kubelet/images/image_manager.go, 1.37)."""
    for event in reversed(events):
        if text(part(event, "involvedObject"), "name") == pod and text(event, "reason") in (
            "Pulling",
            "Pulled",
        ):
            return text(event, "message")[:200]
    return ""
