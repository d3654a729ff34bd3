"""What is seen where no root is: probes that end the container, exit codes, waiting for the weights, nothing at all.

Named only where no other family explains it. Words of the kubelet (pkg/kubelet/kuberuntime, pkg/kubelet/prober, 1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.cluster.values import part, parts, text, whole
from selfhost.deploy.causes._scene import Box, Ended, Scene, Seen, reached
from selfhost.deploy.engine_log import important, progress, shortened
from selfhost.deploy.types import Cause, LogRef

RANK = 900
_SIGNALS = {
    129: "SIGHUP",
    130: "SIGINT",
    131: "SIGQUIT",
    134: "SIGABRT",
    135: "SIGBUS",
    136: "SIGFPE",
    137: "SIGKILL",
    139: "SIGSEGV",
    143: "SIGTERM",
}
# Ours: one crash may be an accident, and the kubelet starts it again; three of a kind are none.
_MANY, _PATIENT_SECONDS = 3, 300.0


def startup_probe(scene: Scene) -> Iterator[Cause]:
    """The engine was not ready when the startup probe's time was over, and was ended; says how far it had come.

    Way out: faster storage, or a longer load-time budget: the probe and the engine's own limit together.
    """
    for pod, box, ended in scene.ended():
        killed = _killed(pod, box, "startup")
        if not killed:
            continue
        probe = next(
            (
                part(one, "startupProbe")
                for one in parts(pod.spec, "containers")
                if text(one, "name") == box.name
            ),
            {},
        )
        seconds = (whole(probe, "failureThreshold") or 0) * (whole(probe, "periodSeconds") or 10)
        lasted = round(ended.finished - ended.started) if ended.finished and ended.started else seconds
        how_far = progress(box.log.splitlines(), scene.engine)
        yield _cause(
            "startup-probe",
            pod,
            ended,
            f"{box.name} of {pod.name} was ended by its startup probe after {lasted:,} s"
            + (f"; it had come to: {reached(how_far)}." if how_far else "."),
            "If it was still loading, use faster storage or a longer load-time budget; if it hung, read its log: "
            f"selfhost logs {scene.snapshot.name} -n {scene.snapshot.namespace} --previous",
            killed,
            final=box.restarts >= 1,
        )


def liveness_probe(scene: Scene) -> Iterator[Cause]:
    """The engine ran, stopped answering its liveness probe, and was ended.

    Way out: read the log of the run before: `selfhost logs NAME --previous`.
    """
    for pod, box, ended in scene.ended():
        killed = _killed(pod, box, "liveness")
        if killed:
            yield _cause(
                "liveness-probe",
                pod,
                ended,
                f"{box.name} of {pod.name} stopped answering its liveness probe, and was ended for it "
                f"{box.restarts} time{'s' if box.restarts != 1 else ''}.",
                f"selfhost logs {scene.snapshot.name} -n {scene.snapshot.namespace} --previous",
                killed,
                final=box.restarts >= _MANY,
                patience=_PATIENT_SECONDS,
            )


def crash_loop(scene: Scene) -> Iterator[Cause]:
    """A container ends again and again, and its log has no reason that is known.

    Named with exit code or signal, and the last lines that count.

    Way out: read the log of the run before: `selfhost logs NAME --previous`.
    """
    for pod, box, ended in scene.ended():
        if _was_read(scene, pod, box):
            over = box.restarts >= _MANY or (pod.phase == "Failed" and pod.component != "download")
            yield _crash("crash-loop", scene, pod, box, ended, final=over, patience=_PATIENT_SECONDS)


def crashed(scene: Scene) -> Iterator[Cause]:
    """A container ended, and its log was not read, so that nothing is certain yet.

    Way out: read it: `selfhost logs NAME --previous`.
    """
    for pod, box, ended in scene.ended():
        if not _was_read(scene, pod, box):
            yield _crash("crashed", scene, pod, box, ended, final=False, patience=0.0)


def not_made(scene: Scene) -> Iterator[Cause]:
    """The kubelet cannot create or start the container; the runtime's words are given.

    Way out: what they say; `kubectl describe pod`.
    """
    for pod in scene.pods:
        for box in pod.boxes:
            if box.reason in (
                "CreateContainerError",
                "RunContainerError",
                "PostStartHookError",
                "StartError",
            ) or (box.ended is not None and box.ended.reason in ("StartError", "ContainerCannotRun")):
                words = box.message or (box.ended.message if box.ended else "")
                yield Cause(
                    code="not-made",
                    sentence=f"The container {box.name} of {pod.name} cannot be started on {pod.node}.",
                    evidence=(shortened(words),),
                    hint=f"kubectl -n {scene.snapshot.namespace} describe pod {pod.name}",
                    patience_seconds=120.0,
                    since=pod.created,
                    pod=pod.name,
                    node=pod.node,
                )


def unschedulable(scene: Scene) -> Iterator[Cause]:
    """The scheduler places the pod nowhere, for a reason that has no cause of its own here; its words are given.

    Way out: what they say.
    """
    for pod in scene.pods:
        words = pod.unscheduled_because
        if not words or pod.scheduled or _may_heal(scene, words):
            continue
        yield Cause(
            code="unschedulable",
            sentence=f"No node takes {pod.name}.",
            evidence=(words[:400],),
            hint=f"kubectl -n {scene.snapshot.namespace} describe pod {pod.name}",
            patience_seconds=120.0,
            since=pod.condition_since("PodScheduled"),
            pod=pod.name,
        )


def deadline(scene: Scene) -> Iterator[Cause]:
    """The controller's own deadline is over and nothing wrong was seen: says what the pod is at and for how long.

    Way out: wait for it with `selfhost status NAME`, or a longer `--timeout`.
    """
    late = any(
        text(one, "reason") == "ProgressDeadlineExceeded" and text(one, "status") == "False"
        for item in scene.snapshot.workloads
        for one in parts(part(item, "status"), "conditions")
    )
    if not late:
        return
    for pod in scene.pods:
        stage, since = _stage(scene, pod)
        lasted = f" for {round(scene.snapshot.now - since):,} s" if since else ""
        yield Cause(
            code="deadline",
            sentence=f"The rollout's time is over, and nothing wrong was seen: {pod.name} has been at {stage}{lasted}.",
            hint=(
                f"selfhost status {scene.snapshot.name} -n {scene.snapshot.namespace}; or "
                f"deploy with a longer --timeout"
            ),
            final=True,
            since=since,
            pod=pod.name,
            node=pod.node,
        )
        return


def _stage(scene: Scene, pod: Seen) -> tuple[str, float | None]:
    if not pod.scheduled:
        return "waiting for a node", pod.created
    running = next((box for box in pod.boxes if box.state == "running" and not box.ready), None)
    if running is None:
        pulling = next(pod.said("Pulling"), None)
        return (
            ("pulling its image", pulling.at)
            if pulling
            else ("being made", pod.condition_since("PodScheduled"))
        )
    if running.name == "weights":
        return "waiting for the weights", running.since
    engine = "pull" if pod.component == "download" else scene.engine
    found = progress(running.running_log.splitlines(), engine)
    return (f"{found.stage} ({found.detail})" if found and found.detail else "its start"), running.since


def _crash(
    code: str, scene: Scene, pod: Seen, box: Box, ended: Ended, *, final: bool, patience: float
) -> Cause:
    signal = _SIGNALS.get(ended.code) or (f"signal {ended.signal}" if ended.signal else "")
    how = f"by {signal} (exit code {ended.code})" if signal else f"with exit code {ended.code}"
    times = f", {box.restarts} times so far" if box.restarts > 1 else ""
    lines = [one for one in box.log.splitlines() if important(one, scene.engine) == "error"]
    if not lines:
        lines = [one for one in box.log.splitlines() if one.strip()][-2:]
    more = " --download" if pod.component == "download" else " --previous" if box.restarts else ""
    return _cause(
        code,
        pod,
        ended,
        f"{box.name} of {pod.name} ended {how}{times}.",
        f"selfhost logs {scene.snapshot.name} -n {scene.snapshot.namespace}{more}",
        *(shortened(one) for one in lines[-3:]),
        final=final,
        patience=patience,
    )


def _killed(pod: Seen, box: Box, probe: str) -> str:
    """The kubelet's words where its probe ended the container."""
    for event in pod.said("Killing", "Unhealthy"):
        if re.search(rf"{re.escape(box.name)} failed {probe} probe", event.message):
            return event.message
    return ""


def _was_read(scene: Scene, pod: Seen, box: Box) -> bool:
    return any(
        LogRef(pod=pod.name, container=box.name, previous=one) in scene.snapshot.logs for one in (True, False)
    )


def _may_heal(scene: Scene, words: str) -> bool:
    """GPUs or room that own pods are just leaving, or claims that wait for their first consumer."""
    ending = any("deletionTimestamp" in part(one, "metadata") for one in scene.snapshot.pods)
    return "Insufficient" in words and (ending or bool(scene.snapshot.nodes))


def _cause(
    code: str,
    pod: Seen,
    ended: Ended,
    sentence: str,
    hint: str,
    *lines: str,
    final: bool,
    patience: float = 0.0,
) -> Cause:
    how = f"exit code {ended.code}{f', {ended.reason}' if ended.reason else ''}"
    return Cause(
        code=code,
        sentence=sentence,
        evidence=(*lines, how),
        hint=hint,
        final=final,
        patience_seconds=patience,
        since=ended.finished,
        pod=pod.name,
        node=pod.node,
    )
