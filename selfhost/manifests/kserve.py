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
from selfhost.manifests.document import Document
from selfhost.manifests.exposure import request_timeout
from selfhost.manifests.kubernetes import View as Base
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.peers import Gap, beside, refuse, templated, templated_container
from selfhost.manifests.pod import Container, Noted, Number, Pair, PodView
from selfhost.manifests.queries import served_name
from selfhost.place import NODE_GPUS
from selfhost.plan import Plan

VERSION = "0.20"
SINGLE, LLM = "InferenceService", "LLMInferenceService"
# Names of the containers by which KServe finds the server (pkg/constants; workload_single_node.go).
_MAIN = {SINGLE: "kserve-container", LLM: "main"}
# Volumes of the presets that ours replace (config/llmisvcconfig).
_PRESET_VOLUMES = {"shm": "dshm", "tmp": "tmp-dir"}
_LLM_PORT = 8000  # of the Service that KServe makes for every LLMInferenceService (workload.go)
# A Deployment without a strategy has maxSurge 25 %, rounded up, and maxUnavailable 25 %, rounded down: from four
# replicas on one may be missing, and an update goes on without spare GPUs.
_REPLICAS_OF_A_QUARTER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """What only an InferenceService has."""

    autoscaler: Noted
    least: int
    most: int
    timeout: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The other pods of a group that runs on several nodes. `size` counts the first one too."""

    size: int
    tensor: int
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
class View:
    """Everything a template may print; `files` are written as they are."""

    base: Base
    name: str
    namespace: str
    headline: tuple[str, ...]
    kind: str
    version: str
    workload: str
    service: str
    service_port: int
    served_name: str
    annotations: tuple[Pair, ...]
    single: Single | None
    llm: Llm | None
    pod: PodView
    gaps: tuple[Gap, ...]
    files: tuple[Document, ...]
    resources: tuple[str, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: what neither kind of KServe's can be.
        UsageError: options that contradict the plan or the kind.
    """
    kind = options.kserve.kind or (LLM if options.nodes.several(plan) else SINGLE)
    _refuse(plan, options, kind)
    if kind == SINGLE:
        return _single(plan, options)
    return _llm(plan, options)


def _single(plan: Plan, options: RenderOptions) -> View:
    base = beside(plan, options)
    pod = _named(base.server, SINGLE)
    return _view(
        plan,
        base,
        kind=SINGLE,
        pod=pod,
        workload=f"deployment/{plan.name}-predictor",
        service=f"{plan.name}-predictor",
        single=Single(
            autoscaler=Noted(value="none", because="replicas are those of the plan"),
            least=plan.replicas,
            most=plan.replicas,
            timeout=request_timeout(plan, options),
        ),
        gaps=_gaps(plan, SINGLE),
    )


def _llm(plan: Plan, options: RenderOptions) -> View:
    selector = (Pair(key="selfhost/instance", value=plan.name),)
    base = beside(plan, options, selector=selector)
    router = options.kserve.router or "route"
    return _view(
        plan,
        base,
        kind=LLM,
        pod=_llm_pod(base.server),
        workload=f"deployment/{plan.name}-kserve",
        service=f"{plan.name}-kserve-workload-svc",
        llm=Llm(
            labels=tuple(label for label in base.labels if label.key.endswith(("/version", "/managed-by"))),
            uri=_uri(plan, base),
            model_name=templated(served_name(plan)),
            replicas=Number(value=plan.replicas, because="as planned"),
            router=router != "none",
            scheduler=router == "scheduler",
            workers=None,
            preset=None,
        ),
        gaps=_gaps(plan, LLM),
    )


def _view(
    plan: Plan,
    base: Base,
    *,
    kind: str,
    pod: PodView,
    workload: str,
    service: str,
    gaps: tuple[Gap, ...],
    single: Single | None = None,
    llm: Llm | None = None,
) -> View:
    return View(
        base=base,
        name=plan.name,
        namespace=base.namespace,
        headline=base.headline,
        kind=kind,
        version=VERSION,
        workload=workload,
        service=service,
        service_port=80 if kind == SINGLE else _LLM_PORT,
        served_name=served_name(plan),
        # The whole plan is in plan.json: KServe would copy it to every object that it makes.
        annotations=tuple(
            pair for pair in base.annotations if pair.key != "selfhost/plan" and "{{" not in pair.value
        ),
        single=single,
        llm=llm,
        pod=pod,
        gaps=gaps,
        files=base.files,
        resources=(),
    )


def _refuse(plan: Plan, options: RenderOptions, kind: str) -> None:
    access, scaling, spare = options.access, options.scaling, options.surge
    refuse(
        "kserve",
        (
            (
                f"--expose {access.expose}",
                access.expose != "none",
                "KServe makes the route: its ConfigMap inferenceservice-config says by which gateway.",
            ),
            (
                f"--autoscale {scaling.autoscale}",
                scaling.autoscale is not None,
                "Render with --target kubernetes.",
            ),
            (
                f"--kserve-router {options.kserve.router}",
                options.kserve.router is not None and kind == SINGLE,
                "It belongs to --kserve-kind LLMInferenceService.",
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
    if plan.engine.port != _LLM_PORT:
        raise UnsupportedError(
            f"{plan.engine.name} listens on port {plan.engine.port}, and KServe's Service of an LLMInferenceService "
            f"leads to {_LLM_PORT} alone.",
            hint="Write --kserve-kind InferenceService.",
        )
    if plan.gpu.count <= NODE_GPUS and not spare and plan.replicas < _REPLICAS_OF_A_QUARTER:
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


def _uri(plan: Plan, base: Base) -> Noted:
    """Where the weights come from, in KServe's words; nothing is fetched from it."""
    because = "names the model; nothing is fetched from it"
    if plan.weights.kind == "hub":
        return Noted(value=f"hf://{quote(plan.model.id)}", because=because)
    claim = base.storage.claim_name
    if claim is None:
        return Noted(value=f"hf://{quote(plan.model.id.strip('/'))}", because=because)
    inside = plan.weights.location.removeprefix(base.storage.path).strip("/")
    return Noted(value=f"pvc://{claim}/{quote(inside)}", because=because)


def _gaps(plan: Plan, kind: str) -> tuple[Gap, ...]:
    load = plan.clocks.load_seconds.value
    gaps = [
        Gap(
            what="progressDeadlineSeconds",
            so=f"after 600 s the Deployment says that it does not progress, while loading may take {load} s; the "
            "rollout goes on, and the service is ready when the pod is",
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
    gaps += [
        Gap(
            what="maxSurge, maxUnavailable", so="a quarter of the replicas each, surge rounded up: see above"
        ),
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
    ]
    return tuple(gaps)
