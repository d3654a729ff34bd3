"""Which pods a rollout adds at its widest, and which have ended by then; pure.

A workload that changes makes `maxSurge` more pods than are wanted and takes `maxUnavailable` away first (apps/v1,
LeaderWorkerSet v1); what stops the old pods first (`Recreate`, `maxSurge: 0`) finds their GPUs free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfhost.cluster.kinds import (
    DEPLOYMENT,
    INFERENCE_SERVICE,
    JOB,
    LEADER_WORKER_SET,
    LLM_INFERENCE_SERVICE,
)
from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text, texts, whole
from selfhost.deploy.capacity import Fit, PodName, Wanted, fit, has_ended, name_of
from selfhost.deploy.claims import Supply, claimed_by
from selfhost.deploy.types import COMPONENT_LABEL, Desired, is_ours

_TEMPLATE_KIND = "ResourceClaimTemplate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Pods of one kind in a replica: a leader, its workers."""

    what: str
    template: Object
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What runs pods.

    Args:
        kind: of the object.
        name: of the object.
        groups: pods of one replica.
        replicas: None where an autoscaler sets them.
        surge: replicas more than that during an update.
        missing: replicas fewer.
        component: label that tells its pods apart; empty where it does not say.
        serves: it stays; else it is the download, which ends.
    """

    kind: str
    name: str
    groups: tuple[Group, ...]
    replicas: int | None
    surge: int = 0
    missing: int = 1
    component: str = ""
    serves: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A moment of a rollout: pods that are made, and pods that have ended by then."""

    name: str
    wanted: tuple[Wanted, ...]
    leaving: frozenset[PodName]


def workloads(objects: Iterable[Object]) -> tuple[Workload, ...]:
    """Everything of a deployment that runs pods."""
    found = (_workload(item) for item in objects)
    return tuple(one for one in found if one is not None)


def steps(desired: Desired, before: Desired | None, pods: Sequence[Object]) -> tuple[Step, ...]:
    """The widest moment of a rollout, and its end.

    Args:
        desired: what is to be there.
        before: what was deployed last; None where nobody knows, which is taken for another.
        pods: of every namespace, or of the deployment's alone.
    """
    known = {} if before is None else {(one.kind, one.name): one for one in workloads(before.objects)}
    templates = [item for item in desired.objects if text(item, "kind") == _TEMPLATE_KIND]
    ours = [
        pod
        for pod in pods
        if is_ours(pod, desired.name) and name_of(pod)[0] == desired.namespace and not has_ended(pod)
    ]
    during: list[Wanted] = []
    finally_: list[Wanted] = []
    first: set[PodName] = set()
    all_old: set[PodName] = set()
    for one in workloads(desired.objects):
        old, earlier = _of(one, ours), known.get((one.kind, one.name))
        each = sum(group.count for group in one.groups) or 1
        running = -(-len(old) // each)
        replicas = (running or 1) if one.replicas is None else one.replicas
        if not one.serves:
            new = 0 if old or earlier is not None else 1
            during += _pods(one, new, templates)
            finally_ += _pods(one, new, templates)
        elif earlier is not None and earlier.groups == one.groups and old:
            more = _pods(one, max(0, replicas - running), templates)
            during, finally_ = during + more, finally_ + more
        else:
            ended = [name_of(pod) for pod in sorted(old, key=_readiness)][: one.missing * each]
            first.update(ended)
            all_old.update(map(name_of, old))
            begun = replicas if not old else min(replicas, one.surge + len(ended) // each)
            during += _pods(one, begun, templates)
            finally_ += _pods(one, replicas, templates)
    widest = Step(name="during the rollout", wanted=tuple(during), leaving=frozenset(first))
    end = Step(name="at its end", wanted=tuple(finally_), leaving=frozenset(all_old))
    return (
        (end,) if widest == Step(name=widest.name, wanted=end.wanted, leaving=end.leaving) else (widest, end)
    )


def room_beside(
    desired: Desired, nodes: Sequence[Object], pods: Sequence[Object], supply: Supply | None = None
) -> Fit:
    """Whether one more replica of all that serves finds room beside what runs: then nothing has to stop first."""
    templates = [item for item in desired.objects if text(item, "kind") == _TEMPLATE_KIND]
    wanted = [pod for one in workloads(desired.objects) if one.serves for pod in _pods(one, 1, templates)]
    return fit(nodes, pods, wanted, supply=supply)


def peak(desired: Desired, before: Desired | None, pods: Sequence[Object]) -> tuple[tuple[Wanted, ...], int]:
    """Pods that are made at the widest moment, and how many old ones have ended by then: what a quota has to hold."""
    found = steps(desired, before, pods)[0]
    return found.wanted, len(found.leaving)


def _pods(one: Workload, replicas: int, templates: Sequence[Object]) -> list[Wanted]:
    return [
        Wanted(
            what=group.what,
            spec=part(group.template, "spec"),
            count=replicas * group.count,
            claims=claimed_by(part(group.template, "spec"), templates),
        )
        for group in one.groups
        if replicas * group.count > 0
    ]


def _of(one: Workload, ours: Sequence[Object]) -> list[Object]:
    return [
        pod
        for pod in ours
        if not one.component or texts(part(pod, "metadata"), "labels").get(COMPONENT_LABEL) == one.component
    ]


def _readiness(pod: Object) -> tuple[bool, str]:
    """Pods that are not ready go first, as ReplicaSets take them."""
    ready = any(
        text(one, "type") == "Ready" and text(one, "status") == "True"
        for one in parts(part(pod, "status"), "conditions")
    )
    return ready, name_of(pod)[1]


def _workload(item: Object) -> Workload | None:
    kind, spec = text(item, "kind"), part(item, "spec")
    name = text(part(item, "metadata"), "name")
    replicas = whole(spec, "replicas")
    if kind == DEPLOYMENT.name:
        template = part(spec, "template")
        surge, missing = _rollout(spec, "strategy", "rollingUpdate", replicas or 1, "25%", "25%")
        return _made(kind, name, (_group("", template, 1, name),), replicas, surge, missing)
    if kind == LEADER_WORKER_SET.name:
        inner = part(spec, "leaderWorkerTemplate")
        worker = part(inner, "workerTemplate")
        leader = part(inner, "leaderTemplate") or worker
        size = whole(inner, "size") or 1
        pair = (_group("leader", leader, 1, name), _group("worker", worker, size - 1, name))
        surge, missing = _rollout(spec, "rolloutStrategy", "rollingUpdateConfiguration", replicas or 1, 0, 1)
        return _made(kind, name, pair, replicas, surge, missing)
    if kind == INFERENCE_SERVICE.name:
        return _inference_service(name, spec)
    if kind == LLM_INFERENCE_SERVICE.name and part(spec, "template"):
        labels = {"labels": texts(spec, "labels")}
        count = whole(part(spec, "parallelism"), "pipeline") or 1
        groups = [_group("server", {"metadata": labels, "spec": part(spec, "template")}, 1, name)]
        if part(spec, "worker"):
            groups.append(
                _group("worker", {"metadata": labels, "spec": part(spec, "worker")}, count - 1, name)
            )
        return _made(
            kind, name, tuple(groups), replicas, 1, 0
        )  # Deployment's default of one replica: 25 % up
    if kind == JOB.name:
        made = _made(kind, name, (_group("", part(spec, "template"), 1, name),), 1, 0, 1)
        return Workload(
            kind=kind, name=name, groups=made.groups, replicas=1, component=made.component, serves=False
        )
    return None


def _inference_service(name: str, spec: Object) -> Workload:
    predictor = part(spec, "predictor")
    replicas = whole(predictor, "minReplicas")
    head = {"metadata": {"labels": texts(predictor, "labels")}}
    groups = [_group("server", head | {"spec": predictor}, 1, name)]
    worker = part(predictor, "workerSpec")
    if worker:
        size = whole(worker, "pipelineParallelSize") or 2
        groups.append(_group("worker", head | {"spec": worker}, size - 1, name))
    surge, missing = _rollout(predictor, "deploymentStrategy", "rollingUpdate", replicas or 1, "25%", "25%")
    return _made(INFERENCE_SERVICE.name, name, tuple(groups), replicas, surge, missing)


def _group(what: str, template: Object, count: int, name: str) -> Group:
    labels = texts(part(template, "metadata"), "labels")
    return Group(what=what or labels.get(COMPONENT_LABEL) or name, template=template, count=max(0, count))


def _made(
    kind: str, name: str, groups: tuple[Group, ...], replicas: int | None, surge: int, missing: int
) -> Workload:
    labels = texts(part(groups[0].template, "metadata"), "labels")
    # the pods of a group carry components of their own (leader, worker): then only the deployment's name tells
    component = labels.get(COMPONENT_LABEL, "") if len(groups) == 1 else ""
    return Workload(
        kind=kind,
        name=name,
        groups=groups,
        replicas=replicas,
        surge=surge,
        missing=missing,
        component=component,
    )


def _rollout(
    spec: Object, strategy: str, rolling: str, replicas: int, surge: int | str, missing: int | str
) -> tuple[int, int]:
    """Replicas above and below the wanted number during an update."""
    given = part(spec, strategy)
    if text(given, "type") == "Recreate":
        return 0, replicas
    found = part(given, rolling)
    above = _share(found.get("maxSurge", surge), replicas, up=True)
    below = _share(found.get("maxUnavailable", missing), replicas, up=False)
    return (above, below) if above or below else (0, 1)


def _share(value: object, replicas: int, *, up: bool) -> int:
    """A number of pods, or a percentage of those that are wanted: surge is rounded up, the other down (apps/v1)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    words = str(value)
    if words.endswith("%") and words[:-1].isdecimal():
        hundredths = int(words[:-1]) * replicas
        return -(-hundredths // 100) if up else hundredths // 100
    return int(words) if words.isdecimal() else 0
