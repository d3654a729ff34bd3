"""What templates/llm-d/ sees as `plan`: values of llm-d's chart llm-d-modelservice, and the objects beside it.

Read in the project's repository at chart 0.4.12 (commit 3051935e of 2026-04-22), on 2026-11-26. The chart starts
exactly the command and arguments of `modelCommand: custom`; its own pods have no probes, drain or security context, so
that all of them stand in `extraConfig`. Variables are read as templates, arguments are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from selfhost.engines import parse_image
from selfhost.manifests import kubernetes
from selfhost.manifests.adapters import adapted
from selfhost.manifests.exposure import Backend, request_timeout
from selfhost.manifests.gateway import DISAGGREGATED, PICKER_IMAGE
from selfhost.manifests.network import server_policy
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.peers import (
    BASE,
    Gap,
    Workload,
    beside,
    main_container,
    one_node,
    only_engines,
    refuse,
    short_annotations,
    templated_env,
    values_of,
)
from selfhost.manifests.peers import OMIT as WORKLOAD
from selfhost.manifests.pod import Container, Noted, Number, Pair, PodView
from selfhost.manifests.queries import served_name
from selfhost.manifests.roles import ROLE, roles_of
from selfhost.manifests.scaling import replicas_of
from selfhost.manifests.weights import placed
from selfhost.plan import Plan

OMIT = WORKLOAD | {"66-ingress.yaml"}
CHART, CHART_VERSION = "llm-d-modelservice", "v0.4.12"
# The last release of gateway-api-inference-extension with charts; 1.6 has none (read 2026-11-26).
POOL_CHART, POOL_VERSION, POOL_GROUP = "inferencepool", "v1.5.0", "inference.networking.k8s.io"
# Engines whose metrics the endpoint picker reads (charts/epplib of gateway-api-inference-extension v1.5.0).
ENGINES = ("vllm", "sglang")
_ACCELERATORS = {"NVIDIA": "nvidia", "AMD": "amd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Pods of one kind: those that do everything, or only write answers, or only read prompts."""

    because: str
    count: Number
    pod: PodView
    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Picker:
    """The endpoint picker that knows both roles, in place of the chart's own."""

    registry: str
    repository: str
    tag: str
    because: str
    file: str
    config: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View(kubernetes.View):
    """What stands beside the chart, and its values."""

    chart: str
    chart_version: str
    pool: str
    pool_chart: str
    pool_version: str
    workload: str
    ready: int
    engine: str
    served_name: str
    uri: Noted
    timeout: Number
    accelerator: str
    resource: str | None
    tensor: int
    data: int
    decode: Role
    prefill: Role | None
    picker: Picker | None
    gaps: tuple[Gap, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: several nodes, whose pods the chart cannot tell apart, or an engine it does not route to.
        UsageError: options that contradict the plan, or that the chart has no place for.
    """
    only_engines(plan, "llm-d", ENGINES, "its endpoint picker reads the metrics of vLLM and SGLang")
    one_node(plan, options, "llm-d", "its chart gives leader and workers the same pod, with the same probes")
    _refuse(options)
    pool = f"{plan.name}-pool"
    backend = Backend(group=POOL_GROUP, kind="InferencePool", name=pool, port=None)
    apart = options.nodes.prefill_replicas is not None
    member = (
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="selfhost/group", value=plan.name),
    )
    made = Workload(name=f"{plan.name}-decode", backend=backend, selector=member if apart else None)
    base = beside(plan, options, made)
    if apart:
        base = replace(base, policy=server_policy(plan, options, group=member))
    decode, prefill, said = _roles(plan, options, base)
    device = decode.container.devices[0] if decode.container.devices else None
    values = values_of(base) | {
        "annotations": short_annotations(base),
        "headline": (*base.headline, *said),
    }
    return View(
        **values,
        chart=CHART,
        chart_version=CHART_VERSION,
        pool=pool,
        pool_chart=POOL_CHART,
        pool_version=POOL_VERSION,
        workload=f"{plan.name}-decode",
        ready=max(1, decode.count.value),
        engine=plan.engine.name,
        served_name=served_name(plan),
        uri=Noted(value=f"hf://{plan.model.id}", because="names the model; nothing is fetched from it"),
        timeout=request_timeout(plan, options),
        accelerator="cpu" if device is None else _ACCELERATORS.get(plan.gpu.vendor, "nvidia"),
        resource=None if device is None else device.name,
        tensor=plan.split.tensor,
        data=plan.split.data,
        decode=decode,
        prefill=prefill,
        picker=_picker(options) if apart else None,
        gaps=_gaps(plan, scaled=base.scaling is not None),
    )


def _roles(
    plan: Plan, options: RenderOptions, base: kubernetes.View
) -> tuple[Role, Role | None, tuple[str, ...]]:
    """Pods that do everything; or those that write answers, those that read prompts, and what to know of them."""
    count = Number(value=replicas_of(plan, options).least, because="as planned")
    apart = roles_of(adapted(placed(plan, options), options), options, base.server, base.storage)
    if apart is None:
        return _role(plan, base.server, count, "the whole model: prefill is not apart"), None, ()
    writing = replace(apart.decode, selector=(*apart.member, Pair(key=ROLE, value="decode")))
    reading = replace(apart.prefill, selector=(*apart.member, Pair(key=ROLE, value="prefill")))
    asked = Number(value=apart.replicas, because="as asked")
    roles = (_role(plan, writing, count, "writes answers"), _role(plan, reading, asked, "reads prompts"))
    return *roles, apart.said


def _role(plan: Plan, pod: PodView, count: Number, because: str) -> Role:
    container = main_container(pod)
    named = replace(container, name=plan.engine.name, env=templated_env(container.env))
    return Role(because=because, count=count, pod=pod, container=named)


def _picker(options: RenderOptions) -> Picker:
    image = parse_image(options.nodes.picker_image or PICKER_IMAGE)
    registry, _, repository = image.repository.partition("/")
    return Picker(
        registry=registry,
        repository=repository,
        tag=image.tag + (f"@{image.digest}" if image.digest else ""),
        because="the picker that knows both roles; the chart's own does not",
        file="picker.yaml",
        config=DISAGGREGATED,
    )


def _refuse(options: RenderOptions) -> None:
    refuse(
        "llm-d",
        (
            (
                "--picker-image",
                options.nodes.picker_image is not None and options.nodes.prefill_replicas is None,
                "Leave it out: without --prefill-replicas the pool's chart brings its own picker.",
            ),
            (
                "--expose ingress",
                options.access.expose == "ingress",
                "Requests come through the InferencePool, which only a Gateway knows: write --expose gateway.",
            ),
        ),
    )


def _gaps(plan: Plan, *, scaled: bool) -> tuple[Gap, ...]:
    gaps = [
        Gap(
            what="progressDeadlineSeconds",
            so=f"`kubectl rollout status` says failed after 600 s, while loading may take "
            f"{plan.clocks.load_seconds.value} s; the rollout goes on",
        ),
        Gap(
            what="namespace",
            so="the chart writes none into its objects: Helm's `-n` decides, and `helm template` alone shows none",
        ),
        Gap(what="revisionHistoryLimit", so="ten old ReplicaSets stay instead of three"),
        Gap(
            what="the model itself",
            so="`modelArtifacts.uri` is a name here: the chart could read from the Hub or from a claim, but fetches "
            "again for each pod, unverified",
        ),
        Gap(what="variables of its own", so="DP_SIZE, TP_SIZE and DP_SIZE_LOCAL, which no engine reads"),
    ]
    if scaled:
        gaps.append(
            Gap(
                what="no number of replicas",
                so="each `helm upgrade` sets it back to the fewest, until KEDA looks",
            )
        )
    if plan.split.pipeline > 1:
        gaps.append(
            Gap(
                what="stages of layers",
                so="its annotation `llm-d.ai/accelerator-warning` counts tensor times data; the accelerators asked for "
                "are those of the plan",
            )
        )
    return tuple(gaps)


__all__ = ["BASE", "OMIT", "View", "view"]
