"""Objects to pods: the kinds whose pod templates are known, and any mapping with `containers` in the others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from selfhost.lint.containers import container_of
from selfhost.lint.engines import in_kserve
from selfhost.lint.model import Container, Object, Pod, Volume
from selfhost.lint.nodes import Map, Seq, Value
from selfhost.lint.types import Settings, Where

# Kinds that hold no pod, whatever their text looks like: policies, definitions, data.
_NO_PODS = frozenset(
    (
        "ConfigMap", "Secret", "Service", "CustomResourceDefinition", "PrometheusRule", "ServiceMonitor", "PodMonitor",
        "NetworkPolicy", "Ingress", "HTTPRoute", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding",
        "PersistentVolume", "PersistentVolumeClaim", "ServiceAccount", "Namespace", "HorizontalPodAutoscaler",
        "ScaledObject", "LimitRange", "ValidatingAdmissionPolicy", "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration", "ClusterPolicy",
    )
)  # fmt: skip
_PLAIN = frozenset(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"))
# Group of an API -> the operator that completes what its objects say.
_OPERATORS = {
    "serving.kserve.io": "kserve", "ray.io": "kuberay", "apps.nvidia.com": "nim", "nvidia.com": "dynamo",
    "jobset.x-k8s.io": "jobset", "kubeflow.org": "kubeflow", "batch.volcano.sh": "volcano",
}  # fmt: skip
_DEEPEST = 40
_GROUPED = re.compile(r"(^|\.)(leader|worker)$")  # of OME: one of several pods of an engine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """A pod spec found in an object, with what its surroundings say about it."""

    spec: Map
    labels: Map
    path: str
    role: str = "server"
    replicas: int | None = 1
    group_size: int | None = 1
    keys: tuple[str, ...] = ("initContainers", "containers")
    whole: bool = True


def pods_of(item: Object, settings: Settings) -> tuple[Pod, ...]:
    """Every pod that an object stands for."""
    if item.kind in _NO_PODS:
        return ()
    managed = _operator(item)
    pods = tuple(_pod(item, template, managed, settings) for template in _templates(item))
    if item.kind.startswith("LLMInferenceService"):
        return tuple(_in_kserve(pod, item) for pod in pods)
    return pods


def _in_kserve(pod: Pod, item: Object) -> Pod:
    """A pod of an LLMInferenceService: where no command is given, KServe's own starts the engine."""
    above = item.body.at(*pod.where.path.split(".")[:-1]) if pod.where.path else Map()
    parallelism = above.map("parallelism")
    return replace(pod, containers=tuple(_by_kserve(container, parallelism) for container in pod.containers))


def _by_kserve(container: Container, parallelism: Map) -> Container:
    if container.engine is None or container.body.seq("command"):
        return container
    variables = {each.name: each.value for each in container.variables}
    return replace(container, engine=in_kserve(container.engine, variables, parallelism, container.where))


def pod_of(item: Object, spec: Map, path: str, line: int, settings: Settings) -> Pod:
    """A pod made of a spec that an object of another kind was turned into."""
    pod = _pod(item, _Template(spec=spec, labels=Map(), path=path), None, settings)
    where = replace(pod.where, line=line)
    containers = tuple(replace(each, where=replace(where, line=each.where.line)) for each in pod.containers)
    return replace(pod, where=where, containers=containers)


def _operator(item: Object) -> str | None:
    group = item.api_version.partition("/")[0] if "/" in item.api_version else ""
    if group in ("", "apps", "batch", "leaderworkerset.x-k8s.io"):
        return None
    return _OPERATORS.get(group, group)


def _templates(item: Object) -> Iterator[_Template]:
    spec = item.body.map("spec")
    if item.kind == "Pod":
        yield _Template(spec=spec, labels=item.labels, path="spec")
    elif item.kind in _PLAIN:
        yield _of_workload(item, spec, "spec")
    elif item.kind == "CronJob":
        yield replace(_of_workload(item, spec.at("jobTemplate", "spec"), "spec.jobTemplate.spec"), role="job")
    elif item.kind == "LeaderWorkerSet":
        yield from _of_group(spec)
    else:
        # KServe without workers runs an engine in one pod; what other operators make of their text is theirs.
        alone = item.api_version.startswith("serving.kserve.io") and not _has_workers(item.body.map("spec"))
        yield from _anywhere(item.body, "", 0, 1 if alone else None)


def _of_workload(item: Object, spec: Map, path: str) -> _Template:
    template = spec.map("template")
    replicas = spec.number("replicas")
    if item.kind == "DaemonSet" or ("replicas" in spec and replicas is None):
        replicas = None
    elif replicas is None:
        replicas = 1
    return _Template(
        spec=template.map("spec"),
        labels=template.at("metadata", "labels"),
        path=f"{path}.template.spec",
        role="job" if item.kind == "Job" else "server",
        replicas=replicas,
    )


def _of_group(spec: Map) -> Iterator[_Template]:
    """A LeaderWorkerSet: the leader's own template or the worker's. https://lws.sigs.k8s.io/docs/reference, v1."""
    group = spec.map("leaderWorkerTemplate")
    size = group.number("size") if "size" in group else 1
    replicas = spec.number("replicas") if "replicas" in spec else 1
    for key, role in (("leaderTemplate", "leader"), ("workerTemplate", "worker")):
        template = group.map(key)
        if template.map("spec"):
            yield _Template(
                spec=template.map("spec"),
                labels=template.at("metadata", "labels"),
                path=f"spec.leaderWorkerTemplate.{key}.spec",
                role=role if group.map("leaderTemplate") else "leader",
                replicas=replicas,
                group_size=size,
            )


def _anywhere(value: Value, path: str, depth: int, group: int | None) -> Iterator[_Template]:
    """Every mapping below that looks like a pod spec."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Seq):
        for index, item in enumerate(value):
            yield from _anywhere(item, f"{path}[{index}]", depth + 1, group)
    elif isinstance(value, Map):
        if any("image" in each or "name" in each for _, each in value.seq("containers").maps()):
            yield _Template(spec=value, labels=Map(), path=path, replicas=None, group_size=group)
            return
        yield from _single(value, path)
        if "entryTemplate" in value:
            yield from _of_role(value, path)
            return
        for key, below in value.items():
            if isinstance(below, Map | Seq):
                yield from _anywhere(below, f"{path}.{key}" if path else key, depth + 1, group)


def _of_role(role: Map, path: str) -> Iterator[_Template]:
    """A role of Kthena's ModelServing: an entry pod and its workers are one engine (v1alpha1, 2026-11-26)."""
    workers = role.number("workerReplicas") if "workerReplicas" in role else 0
    size = None if workers is None else 1 + workers
    for key, kind in (("entryTemplate", "leader" if workers else "server"), ("workerTemplate", "worker")):
        template = role.map(key)
        if template.map("spec"):
            yield _Template(
                spec=template.map("spec"),
                labels=template.at("metadata", "labels"),
                path=f"{path}.{key}.spec",
                role=kind,
                replicas=None,
                group_size=size,
            )


def _has_workers(spec: Map) -> bool:
    below = [spec, *(each for each in spec.values() if isinstance(each, Map))]
    return any("worker" in each or "workerSpec" in each for each in below)


def _single(value: Map, path: str) -> Iterator[_Template]:
    """A container that stands alone: KServe's `predictor.model`, Dynamo's `mainContainer`, OME's `runner`."""
    for key, found in value.items():
        if not isinstance(found, Map):
            continue
        runs = bool(found.seq("args") or found.seq("command"))
        if key in ("mainContainer", "model", "runner") and (runs or found.seq("env") or found.text("image")):
            whole = True
        elif runs and found.text("image"):
            whole = False  # an operator's own form of a container
        else:
            continue
        grouped = _GROUPED.search(path)
        yield _Template(
            spec=value, labels=Map(), path=path, replicas=None, keys=(key,), whole=whole,
            group_size=1 if key == "runner" and not grouped else None, role=grouped[2] if grouped else "server",
        )  # fmt: skip


def _pod(item: Object, template: _Template, managed: str | None, settings: Settings) -> Pod:
    spec = template.spec
    where = item.at(spec.line(), template.path)
    return Pod(
        owner=item,
        role=template.role,
        replicas=template.replicas,
        group_size=template.group_size,
        managed=managed,
        labels=template.labels,
        spec=spec,
        containers=tuple(_containers(template, where, settings)),
        volumes=tuple(_volumes(item, spec, where)),
        grace_seconds=spec.number("terminationGracePeriodSeconds"),
        where=where,
    )


def _partly(container: Container) -> Container:
    """What the text says of it is not all there is."""
    engine = container.engine
    return container if engine is None else replace(container, engine=replace(engine, complete=False))


def _containers(template: _Template, where: Where, settings: Settings) -> Iterator[Container]:
    for key in template.keys:
        alone = template.spec.get(key)
        if isinstance(alone, Map):
            place = replace(where, line=template.spec.line(key), path=f"{where.path}.{key}")
            container = container_of(alone, place, settings, init=False)
            yield container if template.whole else _partly(container)
            continue
        for index, body in template.spec.seq(key).maps():
            place = replace(where, line=body.line(), path=f"{where.path}.{key}[{index}]")
            yield container_of(body, place, settings, init=key == "initContainers")


def _volumes(item: Object, spec: Map, where: Where) -> Iterator[Volume]:
    for index, body in spec.seq("volumes").maps():
        kind = next((key for key in body if key != "name"), "none")
        source = body.map(kind) if kind != "none" else Map()
        place = replace(where, line=body.line(), path=f"{where.path}.volumes[{index}]")
        yield Volume(name=body.text("name") or "", kind=kind, body=source, where=place)
    whole = item.body.map("spec")
    for path, holder in (("spec", whole), ("spec.leaderWorkerTemplate", whole.map("leaderWorkerTemplate"))):
        for index, body in holder.seq("volumeClaimTemplates").maps():
            place = item.at(body.line(), f"{path}.volumeClaimTemplates[{index}]")
            name = body.map("metadata").text("name") or ""
            yield Volume(name=name, kind="claim-template", body=body.map("spec"), where=place)
