"""Every deployment of a namespace in a line: three lists at once, and no plan is read for what a label says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from selfhost.cluster.api import Api
from selfhost.cluster.kinds import (
    DEPLOYMENT,
    INFERENCE_SERVICE,
    LEADER_WORKER_SET,
    LLM_INFERENCE_SERVICE,
    POD,
)
from selfhost.cluster.types import AbsentError, Kind, Object
from selfhost.cluster.values import json_object, part, parts, text, texts, whole
from selfhost.deploy.pod_words import PodLine, pod_line, unix
from selfhost.deploy.revisions import heads
from selfhost.deploy.rollout import condition, is_paused, rollout_of
from selfhost.deploy.types import (
    COMPONENT_LABEL,
    INSTANCE_LABEL,
    MANAGED_BY,
    MANAGED_LABEL,
    NAME_LABEL,
    PLAN_ANNOTATION,
    Head,
)

VERSION_LABEL = "app.kubernetes.io/version"
_MODEL = "selfhost/model"
_LABELS = f"{MANAGED_LABEL}={MANAGED_BY}"
# What runs the servers of a target other than a Deployment.
_KINDS: dict[str, tuple[Kind, ...]] = {
    "lws": (LEADER_WORKER_SET,),
    "kserve": (INFERENCE_SERVICE, LLM_INFERENCE_SERVICE),
}
# Not what answers for the model: the gateway in front of it.
_BESIDE = ("proxy", "picker", "download", "revision")
# Whose device plugins name GPUs (selfhost/catalog/accelerators.toml, and NVIDIA's for MIG); rdma/… is none.
_VENDORS = ("nvidia.com", "amd.com", "gpu.intel.com", "habana.ai")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A deployment in a line.

    Args:
        name, namespace: of it.
        model: its repository, empty where nobody wrote it down.
        target: whose templates made it.
        revision: the newest, None for what was applied by other means.
        state: of that revision; empty without one.
        ready, wanted: replicas.
        gpus: of all replicas that are wanted, None where nobody knows.
        engine, version: what runs.
        since: Unix time of the newest revision, or at which the workload was made.
        trouble: what is wrong, in a word; empty where nothing is.
        restarts: of its pods' containers.
        paused: `selfhost pause` took it to no replica.
    """

    name: str
    namespace: str
    model: str
    target: str
    revision: int | None
    state: str
    ready: int
    wanted: int
    gpus: int | None
    engine: str
    version: str
    since: float | None
    trouble: str
    restarts: int
    paused: bool = False

    @property
    def well(self) -> bool:
        """Whether it serves as it should: nothing is wrong, and nothing is missing."""
        return not self.trouble and self.ready >= self.wanted and self.state in ("", "deployed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an overview is made of."""

    heads: tuple[Head, ...] = ()
    workloads: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()


def overview(api: Api, namespace: str, name: str = "") -> tuple[Row, ...]:
    """Every deployment, by namespace and name.

    Args:
        api: the cluster.
        namespace: of which; every one where empty.
        name: only of this deployment; all where empty.

    Raises:
        ClusterError: they cannot be listed.
    """
    return rows(see(api, namespace, name))


def see(api: Api, namespace: str, name: str = "") -> Seen:
    """Read what an overview needs: three requests, and one for each kind that other targets use.

    Raises:
        ClusterError: it cannot be read.
    """
    labels = _LABELS + (f",{INSTANCE_LABEL}={name}" if name else "")
    with ThreadPoolExecutor(3, thread_name_prefix="status") as pool:
        newest = pool.submit(heads, api, namespace, name)
        pods = pool.submit(api.list, POD, namespace, labels=labels)
        workloads = pool.submit(_workloads, api, DEPLOYMENT, namespace, labels)
        found = newest.result()
        more = [
            pool.submit(_workloads, api, kind, namespace, labels)
            for target in sorted({head.target for head in found} & _KINDS.keys())
            for kind in _KINDS[target]
        ]
        every = workloads.result() + tuple(item for one in more for item in one.result())
        return Seen(heads=found, workloads=every, pods=pods.result().items)


def rows(seen: Seen) -> tuple[Row, ...]:
    """An overview of what was read; pure."""
    newest: dict[tuple[str, str], Head] = {}
    for head in seen.heads:
        newest.setdefault((head.namespace, head.name), head)
    workloads: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for item in seen.workloads:
        if (key := _key(item)) is not None and _component(item) not in _BESIDE:
            workloads[key].append(item)
    pods: dict[tuple[str, str], list[PodLine]] = defaultdict(list)
    for pod in seen.pods:
        if (key := _key(pod)) is not None:
            pods[key].append(pod_line(pod))
    every = sorted({*newest, *workloads})
    return tuple(_row(key, newest.get(key), workloads.get(key, []), pods.get(key, [])) for key in every)


def _workloads(api: Api, kind: Kind, namespace: str, labels: str) -> tuple[Object, ...]:
    """Objects with their kind, which a list leaves out; none where the cluster does not know the kind."""
    try:
        items = api.list(kind, namespace, labels=labels).items
    except AbsentError:
        return ()
    return tuple({"apiVersion": kind.api_version, "kind": kind.name} | item for item in items)


def _row(key: tuple[str, str], head: Head | None, workloads: list[Object], pods: list[PodLine]) -> Row:
    namespace, name = key
    rollouts = [rollout_of(item) for item in workloads]
    ready, wanted = sum(one.ready for one in rollouts), sum(one.wanted for one in rollouts)
    main = workloads[0] if workloads else {}
    labels, notes = (texts(part(main, "metadata"), which) for which in ("labels", "annotations"))
    made = unix(head.created) if head else unix(text(part(main, "metadata"), "creationTimestamp"))
    counts = [_gpus(item, one.wanted) for item, one in zip(workloads, rollouts, strict=True)]
    return Row(
        name=name,
        namespace=namespace,
        model=(head.model if head else "") or notes.get(_MODEL, ""),
        target=head.target if head else "",
        revision=head.number if head else None,
        state=head.state if head else "",
        ready=ready,
        wanted=wanted,
        gpus=None if None in counts else sum(count or 0 for count in counts),
        engine=labels.get(NAME_LABEL, ""),
        version=labels.get(VERSION_LABEL, ""),
        since=made,
        trouble=_trouble(head, workloads, pods, ready, wanted),
        restarts=sum(pod.restarts for pod in pods),
        paused=bool(workloads) and all(is_paused(item) for item in workloads),
    )


def _trouble(head: Head | None, workloads: list[Object], pods: list[PodLine], ready: int, wanted: int) -> str:
    """The worst of what is wrong, in a word."""
    if not workloads:
        return "Failed" if head and head.state == "failed" else "Gone" if head else ""
    in_pods = [pod.trouble for pod in pods if pod.trouble and pod.trouble != "Restarted"]
    if head and head.state == "failed":
        return (in_pods[0] if in_pods and ready < wanted else "") or "Failed"
    for item in workloads:
        words = condition(item, "ReplicaFailure")
        if words.get("status") == "True":
            return text(words, "reason") or "ReplicaFailure"
    if ready < wanted and in_pods:
        return max(sorted(set(in_pods)), key=in_pods.count)
    if any(rollout_of(item).failed for item in workloads):
        return "ProgressDeadlineExceeded"
    if ready < wanted:
        return "Starting"
    return in_pods[0] if in_pods else ""


def _gpus(item: Object, replicas: int) -> int | None:
    """Accelerators of all replicas: of the pod's limits; of claims the plan that travels with the workload knows."""
    spec = part(item, "spec")
    group = part(spec, "leaderWorkerTemplate")
    size = whole(group, "size") or 1
    leader = part(group, "leaderTemplate") or part(group, "workerTemplate")
    each = _devices(part(part(spec, "template") or leader, "spec"))
    if group:
        each += (size - 1) * _devices(part(part(group, "workerTemplate"), "spec"))
    if each:
        return each * replicas
    carried = json_object(texts(part(item, "metadata"), "annotations").get(PLAN_ANNOTATION, "").encode())
    gpu = part(carried, "gpu")
    count = whole(gpu, "count")
    if count is None:
        return None if carried or not spec else 0
    return count * replicas if gpu.get("resource") else 0


def _devices(spec: Object) -> int:
    """GPUs that a pod asks for."""
    total = 0
    for container in parts(spec, "containers"):
        for name, count in part(part(container, "resources"), "limits").items():
            if name.partition("/")[0] in _VENDORS and str(count).isdecimal():
                total += int(count)
    return total


def _key(item: Object) -> tuple[str, str] | None:
    metadata = part(item, "metadata")
    name = texts(metadata, "labels").get(INSTANCE_LABEL, "")
    return (text(metadata, "namespace"), name) if name else None


def _component(item: Object) -> str:
    return texts(part(item, "metadata"), "labels").get(COMPONENT_LABEL, "")


def near(name: str, names: Iterable[str]) -> str:
    """The name that was meant, empty where none is near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, sorted(set(names)), n=1, cutoff=0.6)), "")
