"""What templates/kserve/ sees as `plan`: an InferenceService or an LLMInferenceService, and the objects beside it.

Read in kserve/kserve at v0.20.0, on 2026-11-26. An InferenceService in mode Standard becomes a Deployment of exactly
this pod (pkg/controller/v1beta1/inferenceservice/reconcilers/deployment), with one variable more. An
LLMInferenceService is laid over a preset by strategic merge and then read as a Go template
(pkg/controller/v1alpha2/llmisvc/config_merge.go): what both say is ours, handlers of different kinds would be there
twice, and labels that KServe selects by must not be ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import quote

from selfhost.errors import UnsupportedError
from selfhost.manifests import kubernetes, lws
from selfhost.manifests.exposure import Backend, request_timeout
from selfhost.manifests.network import server_policy
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.peers import (
    BASE,
    Gap,
    Workload,
    beside,
    refuse,
    short_annotations,
    templated,
    templated_container,
    values_of,
)
from selfhost.manifests.peers import OMIT as WORKLOAD
from selfhost.manifests.pod import Container, Noted, Number, Pair, PodView
from selfhost.manifests.queries import served_name
from selfhost.manifests.scaling import Replicas, replicas_of
from selfhost.manifests.weights import placed
from selfhost.plan import Plan

OMIT = WORKLOAD | {"66-ingress.yaml"}  # KServe makes one by itself
VERSION = "0.20"
# Of a replica with stages on several nodes; KServe asks for it and brings none (config_merge.go, config/llmisvcconfig).
PRESET = "kserve-config-llm-worker-pipeline-parallel"
GROUP_PODS = "-[0-9]+(-[0-9]+)?"  # of a LeaderWorkerSet: the group, and the worker in it
SINGLE, LLM = "InferenceService", "LLMInferenceService"
# Names of the containers by which KServe finds the server (pkg/constants; workload_single_node.go).
_MAIN = {SINGLE: "kserve-container", LLM: "main"}
# Volumes of the presets that ours replace (config/llmisvcconfig).
_PRESET_VOLUMES = {"shm": "dshm", "tmp": "tmp-dir"}
_HTTP_PORT, _LLM_PORT = (
    80,
    8000,
)  # the second: of the Service that KServe makes for every LLMInferenceService (workload.go)
# A Deployment without a strategy has maxSurge 25 %, rounded up, and maxUnavailable 25 %, rounded down: from four
# replicas on one may be missing, and an update goes on without spare GPUs.
_REPLICAS_OF_A_QUARTER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """What only an InferenceService has."""

    autoscaler: Noted
    least: int
    most: int
    recreate: bool
    timeout: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The other pods of a group that runs on several nodes. `size` counts the first one too."""

    size: Number
    pod: PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm:
    """What only an LLMInferenceService has."""

    labels: tuple[Pair, ...]
    uri: Noted
    model_name: str
    replicas: Number | None
    router: bool
    scheduler: bool
    workers: Workers | None
    preset: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View(kubernetes.View):
    """What stands beside KServe's object, and the object."""

    kind: str
    version: str
    workload: str
    ready: int
    service: str
    service_port: int
    served_name: str
    single: Single | None
    llm: Llm | None
    pod: PodView
    gaps: tuple[Gap, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: what neither kind of KServe's can be.
        UsageError: options that contradict the plan or the kind.
    """
    kind = options.kserve.kind or (LLM if options.nodes.several(plan) else SINGLE)
    _refuse(plan, options, kind)
    return _single(plan, options) if kind == SINGLE else _llm(at_port(plan), options)


def at_port(plan: Plan) -> Plan:
    """The plan on the port that KServe's Service of every LLMInferenceService leads to.

    Raises:
        UnsupportedError: the engine is told its port in no argument.
    """
    engine, because = plan.engine, f"KServe's Service leads to no other; {plan.engine.port} was planned"
    if engine.port == _LLM_PORT:
        return plan
    told = str(engine.port)
    args = tuple(
        replace(word, value=str(_LLM_PORT), because=because)
        if (word.flag, word.value) == ("--port", told)
        else word
        for word in engine.args
    )
    if args == engine.args:
        raise UnsupportedError(
            f"{engine.name} listens on port {told}, and KServe's Service of an LLMInferenceService leads to "
            f"{_LLM_PORT} alone.",
            hint="Write --kserve-kind InferenceService, or render with --target lws for several nodes.",
        )
    return replace(plan, engine=replace(engine, port=_LLM_PORT, args=args))


def _single(plan: Plan, options: RenderOptions) -> View:
    name, replicas = f"{plan.name}-predictor", replicas_of(plan, options)
    base = beside(plan, options, Workload(name=name, backend=Backend(name=name, port=_HTTP_PORT)))
    return View(
        **values_of(base) | {"annotations": short_annotations(base)},
        kind=SINGLE,
        version=VERSION,
        workload=f"deployment/{name}",
        ready=max(1, replicas.least),
        service=name,
        service_port=_HTTP_PORT,
        served_name=served_name(plan),
        pod=_named(base.server, SINGLE),
        single=Single(
            autoscaler=_autoscaler(replicas),
            least=replicas.least,
            most=replicas.most,
            # KServe says Ready when the Deployment is available, which one that may miss its only pod is at once.
            recreate=replicas.most == base.max_unavailable,
            timeout=request_timeout(plan, options),
        ),
        llm=None,
        gaps=_gaps(plan, SINGLE),
    )


def _autoscaler(replicas: Replicas) -> Noted:
    if replicas.scaled:
        return Noted(
            value="external", because="the ScaledObject or the HPA beside, which says more than KServe's"
        )
    return Noted(value="none", because="replicas are those of the plan")


def _llm(plan: Plan, options: RenderOptions) -> View:
    service = f"{plan.name}-kserve-workload-svc"
    selector = (Pair(key="selfhost/instance", value=plan.name),)
    backend = Backend(name=service, port=_LLM_PORT)
    several = options.nodes.several(plan)
    if several:
        made = Workload(
            name=f"{plan.name}-kserve-mn",
            kind="LeaderWorkerSet",
            api_version="leaderworkerset.x-k8s.io/v1",
            pods=GROUP_PODS,
            selector=selector,
            backend=backend,
        )
    else:
        made = Workload(name=f"{plan.name}-kserve", selector=selector, backend=backend)
    base = beside(plan, options, made)
    pod, workers = _llm_pod(base.server), None
    if several:
        base = replace(base, policy=server_policy(plan, options, group=selector))
        group = lws.view(plan, options)
        pod, workers = _llm_pod(group.leader), Workers(size=group.size, pod=_llm_pod(group.worker))
    routed = "none" if options.access.expose == "gateway" else "route"  # one route is enough
    router, replicas = options.kserve.router or routed, replicas_of(plan, options)
    annotations = tuple(pair for pair in short_annotations(base) if "{{" not in pair.value)
    return View(
        **values_of(base) | {"annotations": annotations},
        kind=LLM,
        version=VERSION,
        workload=f"{made.kind.lower()}/{made.name}",
        ready=max(1, replicas.least),
        service=service,
        service_port=_LLM_PORT,
        served_name=served_name(plan),
        pod=replace(pod, selector=selector),
        single=None,
        llm=Llm(
            labels=tuple(label for label in base.labels if label.key.endswith(("/version", "/managed-by"))),
            uri=_uri(placed(plan, options), base),
            model_name=templated(served_name(plan)),
            replicas=None if replicas.scaled else Number(value=plan.replicas, because="as planned"),
            router=router != "none",
            scheduler=router == "scheduler",
            workers=workers,
            preset=PRESET if several else None,
        ),
        gaps=_several_gaps() if several else _gaps(plan, LLM),
    )


def _refuse(plan: Plan, options: RenderOptions, kind: str) -> None:
    spare = options.surge
    refuse(
        "kserve",
        (
            (
                "--expose ingress",
                options.access.expose == "ingress",
                "KServe makes the Ingress: its ConfigMap inferenceservice-config says of what class and host.",
            ),
            (
                f"--kserve-router {options.kserve.router}",
                options.kserve.router is not None and kind == SINGLE,
                "It belongs to --kserve-kind LLMInferenceService.",
            ),
            (
                "--prefill-replicas",
                options.nodes.prefill_replicas is not None,
                "Render with --target llm-d or --target gateway, which know both roles.",
            ),
        ),
    )
    if kind == SINGLE:
        if options.nodes.several(plan):
            raise UnsupportedError(
                f"An InferenceService cannot run one replica on {plan.gpu.count} GPUs of several nodes.",
                hint="Leave --kserve-kind out: it becomes an LLMInferenceService.",
            )
        return
    if not options.nodes.several(plan) and not spare and plan.replicas < _REPLICAS_OF_A_QUARTER:
        raise UnsupportedError(
            f"KServe {VERSION} gives an LLMInferenceService no strategy: an update starts a new pod before an old one "
            f"ends, and waits for {plan.gpu.count} GPUs that are not spare.",
            hint="Add --surge if they are, or write --kserve-kind InferenceService.",
        )


def _named(pod: PodView, kind: str) -> PodView:
    """The pod with its first container named as KServe looks for it."""
    name = _MAIN[kind]
    annotations = tuple(
        replace(pair, value=name) if pair.key == "kubectl.kubernetes.io/default-container" else pair
        for pair in pod.annotations
    )
    first, *others = pod.containers
    return replace(pod, annotations=annotations, containers=(replace(first, name=name), *others))


def _llm_pod(pod: PodView) -> PodView:
    """The pod as it survives the merge over the preset and the reading as a template."""
    pod = _named(pod, LLM)
    first, *others = map(templated_container, pod.containers)
    if first.pre_stop is not None:
        # The preset's handler is a command; a sleep of the kubelet would stand beside it, and two are refused.
        first = replace(first, pre_stop_command=("/bin/sleep", str(first.pre_stop.value)))
    return replace(
        pod,
        containers=tuple(_preset_names(container) for container in (first, *others)),
        init=tuple(map(templated_container, pod.init)),
        volumes=tuple(
            replace(volume, name=_PRESET_VOLUMES.get(volume.name, volume.name)) for volume in pod.volumes
        ),
    )


def _preset_names(container: Container) -> Container:
    """Mounts of volumes that are called as in the preset, so that none is there twice."""
    mounts = tuple(
        replace(mount, name=_PRESET_VOLUMES.get(mount.name, mount.name)) for mount in container.mounts
    )
    return replace(container, mounts=mounts)


def _uri(plan: Plan, base: kubernetes.View) -> Noted:
    """Where the weights come from, in KServe's words; nothing is fetched from it."""
    because = "names the model; nothing is fetched from it"
    if plan.weights.kind == "hub":
        return Noted(value=f"hf://{quote(plan.model.id)}", because=because)
    claim, image = base.storage.claim_name, base.storage.volume.image
    if claim is None:
        where = quote(plan.model.id.strip("/")) if image is None else image.value
        return Noted(value=f"{'hf' if image is None else 'oci'}://{where}", because=because)
    inside = plan.weights.location.removeprefix(base.storage.path).strip("/")
    return Noted(value=f"pvc://{claim}/{quote(inside)}", because=because)


def _several_gaps() -> tuple[Gap, ...]:
    return (
        Gap(
            what="against --target lws",
            so="a group starts again whenever one of its pods does, which is KServe's choice as it is ours; its size "
            "cannot be changed without a new name",
        ),
        *_llm_gaps()[1:],
    )


def _gaps(plan: Plan, kind: str) -> tuple[Gap, ...]:
    load = plan.clocks.load_seconds.value
    gaps = [
        Gap(
            what="progressDeadlineSeconds",
            so=f"after 600 s the Deployment says that it does not progress, while loading may take {load} s; the "
            "rollout goes on",
        ),
        Gap(what="revisionHistoryLimit", so="ten old ReplicaSets stay instead of three"),
    ]
    if kind == SINGLE:
        gaps.append(
            Gap(
                what="a variable more",
                so="KServe adds INFERENCE_SERVICE_NAME; nothing of it reads the engine",
            )
        )
        return tuple(gaps)
    return (*gaps, Gap(what="maxSurge, maxUnavailable", so="a quarter of the replicas each"), *_llm_gaps())


def _llm_gaps() -> tuple[Gap, ...]:
    return (
        Gap(
            what="the preset",
            so="its volumes model-cache and tls-certs and VLLM_LOGGING_LEVEL stay in the pod beside ours",
        ),
        Gap(
            what="TLS inside the cluster",
            so="where `enableLLMInferenceServiceTLS` of inferenceservice-config is true, KServe asks by HTTPS, which "
            "the plan's arguments do not speak",
        ),
        Gap(
            what="a second name of the model",
            so="the presets' `publishers/NAMESPACE/models/NAME` is unknown to the server: routing by header is off",
        ),
    )


__all__ = ["BASE", "OMIT", "Llm", "Single", "View", "Workers", "view"]
