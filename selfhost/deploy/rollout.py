"""How far a rollout is, by what its workloads say of themselves; pure."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.cluster.kinds import (
    DEPLOYMENT,
    INFERENCE_SERVICE,
    JOB,
    LEADER_WORKER_SET,
    LLM_INFERENCE_SERVICE,
    ref_of,
)
from selfhost.cluster.types import Kind, Object, Ref
from selfhost.cluster.values import part, parts, text, texts, whole
from selfhost.deploy.types import Desired

WORKLOADS: tuple[Kind, ...] = (DEPLOYMENT, LEADER_WORKER_SET, INFERENCE_SERVICE, LLM_INFERENCE_SERVICE)
_BY_NAME = {kind.name: kind for kind in WORKLOADS}
PAUSED_ANNOTATION = "selfhost/paused"  # on workloads, while they have no replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One workload.

    Args:
        ref: which.
        wanted: replicas that should serve.
        ready: replicas of the new kind that do.
        done: whether nothing of the old is left and all of the new serves.
        failed: the workload's own words where it has given up; empty else.
        said: its controller's own words of why it is not ready; empty where it has none.
        untouched: no controller has written its status yet.
        absent: there is no such object.
    """

    ref: Ref
    wanted: int
    ready: int
    done: bool
    failed: str = ""
    said: str = ""
    untouched: bool = False
    absent: bool = False


def workloads_of(wanted: Desired) -> tuple[Ref, ...]:
    """The objects of a deployment that run pods which serve."""
    return tuple(ref for item in wanted.objects for ref in (ref_of(item),) if ref.kind in _BY_NAME)


def kinds_of(wanted: Desired) -> tuple[Kind, ...]:
    """The kinds that a wait has to watch besides pods and events."""
    found = {ref.kind for ref in workloads_of(wanted)}
    jobs = (JOB,) if any(text(item, "kind") == JOB.name for item in wanted.objects) else ()
    return (*(kind for kind in WORKLOADS if kind.name in found), *jobs)


def rollout_of(item: Object) -> Rollout:
    """How far a workload is, as `kubectl rollout status` judges it (kubectl pkg/polymorphichelpers, 1.37).

    LeaderWorkerSets are judged by their status' replicas (its v1 API), KServe's objects by their condition Ready.
    """
    ref, spec, status = ref_of(item), part(item, "spec"), part(item, "status")
    seen = (whole(status, "observedGeneration") or 0) >= (whole(part(item, "metadata"), "generation") or 0)
    if ref.kind in (INFERENCE_SERVICE.name, LLM_INFERENCE_SERVICE.name):
        said = condition(item, "Ready")
        ready = said.get("status") == "True"
        return Rollout(
            ref=ref, wanted=1, ready=int(ready and seen), done=ready and seen, said=text(said, "message"),
            untouched=not status,
        )  # fmt: skip
    wanted = whole(spec, "replicas")
    wanted = 1 if wanted is None else wanted
    updated, all_of_them = (whole(status, key) or 0 for key in ("updatedReplicas", "replicas"))
    if ref.kind == LEADER_WORKER_SET.name:
        ready_count = whole(status, "readyReplicas") or 0
        # observedGeneration came to its status late (v0.7): where it is absent the conditions say it
        seen = seen or "observedGeneration" not in status
        done = seen and updated >= wanted and ready_count >= wanted and all_of_them <= max(wanted, updated)
        said = condition(item, "Progressing")
        return Rollout(
            ref=ref, wanted=wanted, ready=min(updated, ready_count), done=done, said=text(said, "message"),
            untouched=not status,
        )  # fmt: skip
    available = whole(status, "availableReplicas") or 0
    done = seen and updated >= wanted and all_of_them <= updated and available >= updated
    progressing = condition(item, "Progressing")
    failed = text(progressing, "message") if text(progressing, "reason") == "ProgressDeadlineExceeded" else ""
    return Rollout(
        ref=ref, wanted=wanted, ready=min(updated, available), done=done, failed=failed if seen else "",
        said=text(progressing, "message"), untouched=not status,
    )  # fmt: skip


def is_paused(item: Object) -> bool:
    """Whether a live workload was paused and has no replica."""
    noted = PAUSED_ANNOTATION in texts(part(item, "metadata"), "annotations")
    return noted and whole(part(item, "spec"), "replicas") == 0


def condition(item: Object, name: str) -> Object:
    """A condition of an object's status, an empty one where there is none."""
    for one in parts(part(item, "status"), "conditions"):
        if text(one, "type") == name:
            return one
    return {}


def is_new(pod: Object, wanted: Desired) -> bool:
    """Whether a pod runs what is wanted, by image, words and variables of its containers.

    What the templates of two revisions share says nothing, and what admission adds is none of ours. Where the objects
    hold no template, as KServe makes the pods, every pod counts as new.
    """
    mine = _words(part(pod, "spec"))
    templates = templates_of(wanted)
    return not templates or any(_words(one).items() <= mine.items() for one in templates)


def templates_of(wanted: Desired) -> tuple[Object, ...]:
    """Specs of the pods that the objects of a deployment make."""
    specs = []
    for item in wanted.objects:
        spec = part(item, "spec")
        group = part(spec, "leaderWorkerTemplate")
        specs += [part(spec, "template"), part(group, "leaderTemplate"), part(group, "workerTemplate")]
    return tuple(part(one, "spec") for one in specs if part(one, "spec"))


def deadline_seconds(wanted: Desired, *, first: bool, downloads: bool) -> int:
    """How long a rollout may take, from the plan's own clocks.

    The engine's load-time budget with the time to schedule and to pull (the Deployment's progressDeadlineSeconds), once
    for each wave of replicas of an update; the download's deadline before, where there is one.

    Args:
        wanted: what is rolled out.
        first: whether nothing of it runs yet, so that all replicas start at once.
        downloads: whether the weights are still to come.
    """
    clocks = wanted.plan.clocks
    waves = 1 if first or wanted.options.surge else max(1, wanted.plan.replicas)
    fetched = downloads and any(text(item, "kind") == JOB.name for item in wanted.objects)
    seconds = clocks.progress_deadline_seconds.value * waves
    return seconds + (clocks.download_deadline_seconds.value if fetched else 0)


def _words(spec: Object) -> dict[str, str]:
    return {
        text(one, "name"): repr(
            (
                one.get("image"),
                one.get("command") or [],
                one.get("args") or [],
                sorted((text(env, "name"), str(env.get("value"))) for env in parts(one, "env")),
            )
        )
        for one in parts(spec, "containers")
    }
