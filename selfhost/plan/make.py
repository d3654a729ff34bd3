"""make_plan(): one placement and everything that follows from it becomes a Plan."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from selfhost import __version__
from selfhost.catalog.accelerators import accelerator
from selfhost.catalog.gpus import Gpu
from selfhost.dtypes import itemsize
from selfhost.engines import Engine, EngineVersion, Image, Serving, Vendor, get_engine
from selfhost.errors import UnsupportedError, UsageError
from selfhost.licence import Verdict
from selfhost.memory import MemoryBudget
from selfhost.model.raw import Origin
from selfhost.model.spec import ModelSpec
from selfhost.place import RANKING, Placement, Refusal
from selfhost.plan import derive
from selfhost.plan.check import NAME, check
from selfhost.plan.types import (
    SCHEMA,
    Alternative,
    Derived,
    Plan,
    PlannedCost,
    PlannedEngine,
    PlannedEstimate,
    PlannedGpu,
    PlannedModel,
    Provenance,
    Weights,
)
from selfhost.serving import CACHE_PATH, HOME_PATH, WEIGHTS_PATH, serving_for
from selfhost.units import gib
from selfhost.workload import Split, Workload

_SHOWN = 12  # alternatives and refusals that travel with the plan


def make_plan(
    *,
    spec: ModelSpec,
    engine: EngineVersion,
    gpu: Gpu,
    split: Split,
    workload: Workload,
    budget: MemoryBudget,
    created: str,
    stored_bytes: int | None = None,
    safetensors: bool = True,
    replicas: int = 1,
    name: str | None = None,
    image: Image | None = None,
    drain_seconds: int = derive.DRAIN_SECONDS,
    fitting: tuple[Placement, ...] = (),
    refused: tuple[Refusal, ...] = (),
    licence: Verdict | None = None,
    estimate: PlannedEstimate | None = None,
    cost: PlannedCost | None = None,
    ranking: str = RANKING,
) -> Plan:
    """Decide everything, once.

    Args:
        spec: the model.
        engine: the release to run.
        gpu: the kind of GPU.
        split: how the model is divided over it.
        workload: the load; what it leaves to the engine is written out as `budget` has it.
        budget: what the fullest GPU holds.
        created: UTC time in ISO 8601.
        stored_bytes: bytes of the weights as stored, None to work it out from the model.
        safetensors: whether the repository stores safetensors, so that its .bin copies can be left out.
        replicas: copies of the deployment.
        name: name of the Kubernetes objects, None to make one from the model's id.
        image: the engine's image from elsewhere (a mirror) or with its digest, None for the published one.
        drain_seconds: how long running requests may take after SIGTERM.
        fitting: other placements, ranked.
        refused: GPUs that do not carry it.
        licence: what the model's licence means for its use, None where nobody judged it.
        estimate: speed of all replicas, None where nobody asked for it.
        cost: what they cost, likewise.
        ranking: the rule by which it was chosen.

    Raises:
        UnsupportedError: the engine or the GPU cannot run it.
        UsageError: a name or a number is out of range.
    """
    called = _name(spec, name)
    stored = _stored(spec, budget, split, stored_bytes)
    driver = get_engine(engine.engine)
    clocks = derive.clocks(stored.value, drains=driver.drains(engine), drain_seconds=drain_seconds)
    resolved = _resolved(workload, budget)
    waits = {"load_seconds": clocks.load_seconds.value, "drain_seconds": clocks.drain_seconds.value}
    serving = serving_for(spec, engine, gpu, split, resolved, memory=budget, **waits)
    objection = driver.object_to(serving)
    if objection is not None:
        raise UnsupportedError(f"{spec.id} on {gpu.name}: {objection.because}.", hint=objection.hint)
    plan = Plan(
        schema=SCHEMA,
        name=called,
        model=_model(spec),
        weights=_weights(spec, serving, stored, safetensors=safetensors),
        engine=_engine(driver, engine, serving, image),
        gpu=_gpu(gpu, split),
        split=split,
        replicas=replicas,
        workload=resolved,
        clocks=clocks,
        pod=derive.pod(driver, serving),
        memory=budget,
        alternatives=_alternatives(fitting, (gpu.id, split)),
        refusals=refused[:_SHOWN],
        provenance=_provenance(gpu, created, _sizing(gpu, driver.sizing(engine).because), ranking),
        licence=licence,
        estimate=estimate,
        cost=cost,
    )
    check(plan)
    return plan


def _name(spec: ModelSpec, name: str | None) -> str:
    if name is not None and NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is no name for Kubernetes objects.",
            hint="Lower-case letters, digits, dashes; at most 40.",
        )
    return name or derive.object_name(spec.id)


def _resolved(workload: Workload, budget: MemoryBudget) -> Workload:
    """The load with the engine's own choices written out."""
    return replace(
        workload,
        max_model_len=budget.max_model_len,
        max_num_batched_tokens=budget.max_num_batched_tokens,
        max_num_seqs=budget.max_num_seqs,
        gpu_memory_utilization=budget.utilization,
    )


def _model(spec: ModelSpec) -> PlannedModel:
    return PlannedModel(
        id=spec.id,
        revision=spec.revision,
        architecture=spec.architecture,
        parameters=spec.parameters,
        max_context_tokens=spec.facts.max_context_tokens,
        dtype=spec.dtype,
        quantization=spec.quantization,
        modality=spec.facts.modality,
        origin=cast(Origin, spec.origin),
        source=spec.source,
        licence=spec.licence,
    )


def _weights(spec: ModelSpec, serving: Serving, stored: Derived, *, safetensors: bool) -> Weights:
    hub = spec.origin in ("hub", "catalogue")
    return Weights(
        kind="hub" if hub else "volume",
        location=spec.id if hub else serving.model,
        skip=(derive.SKIP + (derive.SKIP_BESIDE_SAFETENSORS if safetensors else ())) if hub else (),
        stored_bytes=stored,
        volume_bytes=derive.volume_bytes(stored.value),
        mount_path=WEIGHTS_PATH,
        cache_path=CACHE_PATH,
    )


def _engine(driver: Engine, version: EngineVersion, serving: Serving, image: Image | None) -> PlannedEngine:
    probes = driver.probes(version)
    return PlannedEngine(
        name=driver.name,
        version=version.text,
        image=image or driver.image(version, serving.platform),
        command=driver.command(version),
        args=driver.args(serving),
        env=driver.env(serving),
        port=serving.port,
        health_path=probes.ready,
        metrics_path=driver.metrics_path,
        metrics=driver.metrics(version),
        home_path=HOME_PATH,
        live_path=probes.live,
        probe_timeout_seconds=probes.timeout_seconds,
        probe_because=probes.because,
        metrics_port=driver.metrics_port(version),
        key=driver.key(version),
        files=driver.files(serving),
        shell=driver.shell(version),
        notes=driver.notes(serving),
        needs_root=driver.needs_root(version),
    )


def _gpu(gpu: Gpu, split: Split) -> PlannedGpu:
    label, value = gpu.node_label
    products = {value, *(alias.replace(" ", "-") for alias in gpu.aliases if alias.startswith("NVIDIA"))}
    capability = gpu.compute_capability
    return PlannedGpu(
        id=gpu.id,
        name=gpu.name,
        vendor=cast(Vendor, gpu.vendor),
        platform=gpu.platform,
        count=split.gpus,
        memory_bytes=gpu.memory_bytes,
        compute_capability=".".join(map(str, capability)) if capability else gpu.gfx,
        resource=gpu.resource,
        label=label,
        label_values=(value,) if gpu.mig_profile else tuple(sorted(products)),
    )


def _alternatives(fitting: tuple[Placement, ...], chosen: tuple[str, Split]) -> tuple[Alternative, ...]:
    others = tuple(
        Alternative(
            gpu_id=other.gpu_id,
            split=other.split,
            kv_tokens=other.budget.kv_tokens,
            max_concurrency=other.budget.max_concurrency,
        )
        for other in fitting
        if (other.gpu_id, other.split) != chosen
    )
    return others[:_SHOWN]


def _sizing(gpu: Gpu, because: str | None) -> str | None:
    """Whose rules stand in for the engine's, and for the platform's."""
    platform = accelerator(gpu.platform)
    if not platform.estimated:
        return because
    own = f"sized on {platform.name} by the rules of CUDA: an estimate, compared with no start-up"
    return own if because is None else f"{because}; {own}"


def _provenance(gpu: Gpu, created: str, sizing: str | None, ranking: str) -> Provenance:
    return Provenance(
        selfhost_version=__version__,
        created=created,
        gpu_source=gpu.source,
        gpu_checked=gpu.checked,
        ranking=ranking,
        sizing=sizing,
    )


def _stored(spec: ModelSpec, budget: MemoryBudget, split: Split, stored_bytes: int | None) -> Derived:
    if stored_bytes is not None:
        return Derived(value=stored_bytes, because="sum of the weight files")
    if spec.quantization is None:
        size = spec.parameters * itemsize(spec.dtype)
        return Derived(value=size, because=f"{spec.parameters:,} parameters in {spec.dtype}")
    size = budget.weights_bytes * split.tensor * split.pipeline
    because = f"{gib(budget.weights_bytes)} GiB on the fullest GPU x {split.tensor * split.pipeline}, an upper bound"
    return Derived(value=size, because=because)
