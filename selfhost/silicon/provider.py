"""Model, GPUs and engine -> a clock by kernel tables and what to say of it, with one start of the child."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from selfhost.memory import prepare
from selfhost.silicon.clock import KernelClock, grid_of
from selfhost.silicon.process import DEADLINE_SECONDS, Answer, ask
from selfhost.silicon.request import request_of
from selfhost.throughput.efficiency import Utilization
from selfhost.throughput.estimate import clock_of
from selfhost.throughput.types import Provenance
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion
    from selfhost.model.spec import ModelSpec

RELEASED = (
    "2026-09"  # aiconfigurator-core 0.12.0; tables of its that state a day were collected in August 2026
)


def kernel_clock(
    config: Mapping[str, object],
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
    *,
    environ: Mapping[str, str] = os.environ,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> tuple[KernelClock, Provenance]:
    """Step times of one copy of the model, and where they come from; both go into `estimate` and `curve`.

    Args:
        config: config.json of the model, as `RawModel.config` has it.
        spec: the same, parsed.
        workload: the engine's knobs.
        split: how one copy is divided.
        gpu: the kind of GPU.
        engine: the release that is asked for; the tables have the package's own.
        environ: SELFHOST_SILICON_PYTHON is read.
        deadline_seconds: longest wait for the child.

    Raises:
        UnsupportedError: not installed, not covered, or impossible.
        ProviderError: the child failed.
    """
    step, used = clock_of(spec, workload, split, gpu, engine)
    capability = gpu.compute_capability
    layout = prepare(
        spec, workload, split, "AMD" if gpu.vendor == "AMD" else "NVIDIA", capability, (0, 32)
    ).layout
    asked = request_of(
        config, spec, step.work, workload, split, gpu, engine, cache_format=str(layout.kv_dtype)
    )
    grid = grid_of(spec.facts.max_context_tokens)
    found = ask({**asked, "points": grid.points}, environ=environ, deadline_seconds=deadline_seconds)
    decode, prompt = grid.tables(found.seconds)
    clock = KernelClock(
        decode=decode,
        prompt=prompt,
        step_overhead_seconds=used.efficiency.step_seconds,
        sequence_overhead_seconds=used.efficiency.sequence_seconds,
    )
    return clock, _provenance(found, str(asked["system"]), gpu, engine, used)


def _provenance(found: Answer, system: str, gpu: Gpu, engine: EngineVersion, used: Utilization) -> Provenance:
    text = (
        f"kernel times of aiconfigurator-core {found.package}, measured in {engine.engine} {found.database} on "
        f"{gpu.name} ({system}), and the time of scheduling and sampling that the roofline takes"
    )
    if found.database != engine.text:
        text += f"; carried over to {engine}"
    return Provenance(
        number="tpot_ms",
        kind="kernel tables",
        because=text,
        sources=(
            f"aiconfigurator-core {found.package}, database {engine.engine} {found.database} (NVIDIA, Apache-2.0)",
        ),
        date=RELEASED,
    )
