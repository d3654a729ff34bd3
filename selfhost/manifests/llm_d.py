"""What templates/llm-d/ sees as `plan`: values of llm-d's chart llm-d-modelservice, and the objects beside it.

Read in the project's repository at chart 0.4.12 (commit 3051935e of 2026-04-22), on 2026-11-26. The chart starts
exactly the command and arguments of `modelCommand: custom`; its own pods have no probes, drain or security context, so
that all of them stand in `extraConfig`, which it reads as a template.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from selfhost.manifests.document import Document
from selfhost.manifests.exposure import request_timeout
from selfhost.manifests.kubernetes import View as Base
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.peers import (
    Gap,
    beside,
    main_container,
    one_node,
    only_engines,
    refuse,
    templated_container,
)
from selfhost.manifests.pod import Container, Noted, Number, Pair, PodView
from selfhost.manifests.queries import served_name
from selfhost.plan import Plan

CHART, CHART_VERSION = "llm-d-modelservice", "v0.4.12"
POOL_CHART, POOL_VERSION = "inferencepool", "v1.5.0"
# Engines whose metrics the endpoint picker reads (charts/epplib of gateway-api-inference-extension v1.5.0).
ENGINES = ("vllm", "sglang")
_ACCELERATORS = {"NVIDIA": "nvidia", "AMD": "amd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a template may print; `files` are written as they are."""

    base: Base
    name: str
    namespace: str
    headline: tuple[str, ...]
    chart: str
    chart_version: str
    pool_chart: str
    pool_version: str
    workload: str
    engine: str
    served_name: str
    uri: Noted
    port: int
    timeout: Number
    accelerator: str
    resource: str | None
    replicas: int
    annotations: tuple[Pair, ...]
    tensor: int
    data: int
    pod: PodView
    container: Container
    gaps: tuple[Gap, ...]
    files: tuple[Document, ...]
    resources: tuple[str, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: several nodes, whose pods the chart cannot tell apart, or an engine it does not route to.
        UsageError: options that contradict the plan, or that the chart has no place for.
    """
    only_engines(plan, "llm-d", ENGINES, "its endpoint picker reads the metrics of vLLM and SGLang")
    one_node(plan, "llm-d", "its chart gives leader and workers the same pod, with the same probes")
    _refuse(options)
    base = beside(plan, options)
    container = templated_container(main_container(base.server))
    device = container.devices[0] if container.devices else None
    return View(
        base=base,
        name=plan.name,
        namespace=options.namespace,
        headline=base.headline,
        chart=CHART,
        chart_version=CHART_VERSION,
        pool_chart=POOL_CHART,
        pool_version=POOL_VERSION,
        workload=f"{plan.name}-decode",
        engine=plan.engine.name,
        served_name=served_name(plan),
        uri=Noted(value=f"hf://{plan.model.id}", because="names the model; nothing is fetched from it"),
        port=plan.engine.port,
        timeout=request_timeout(plan, options),
        accelerator="cpu" if device is None else _ACCELERATORS.get(plan.gpu.vendor, "nvidia"),
        resource=None if device is None else device.name,
        replicas=plan.replicas,
        annotations=tuple(pair for pair in base.annotations if pair.key != "selfhost/plan"),
        tensor=plan.split.tensor,
        data=plan.split.data,
        pod=base.server,
        container=replace(container, name=plan.engine.name),
        gaps=_gaps(plan),
        files=base.files,
        resources=(),
    )


def _refuse(options: RenderOptions) -> None:
    refuse(
        "llm-d",
        (
            (
                f"--expose {options.access.expose}",
                options.access.expose != "none",
                "Requests come through the InferencePool: hang an HTTPRoute on it, as README.md says.",
            ),
            (
                f"--autoscale {options.scaling.autoscale}",
                options.scaling.autoscale is not None,
                "Render with --target kubernetes, or let llm-d's own autoscaler decide.",
            ),
        ),
    )


def _gaps(plan: Plan) -> tuple[Gap, ...]:
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
    ]
    if plan.split.pipeline > 1:
        gaps.append(
            Gap(
                what="stages of layers",
                so="its annotation `llm-d.ai/accelerator-warning` counts tensor times data; the accelerators asked for "
                "are those of the plan",
            )
        )
    return tuple(gaps)
