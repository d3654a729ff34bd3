"""Triton, llama.cpp and Ollama: on one GPU, on several, on a CPU, with replicas."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from selfhost.catalog.gpus import main_memory
from selfhost.manifests import RenderOptions
from selfhost.manifests.options.gpus import GpuOptions
from selfhost.model.spec import ModelSpec
from selfhost.units import GIB
from selfhost.workload import Split, Workload
from tests.ggufs import gguf_plan, gguf_spec
from tests.matrices import Case, fitting
from tests.plans import plan


@cache
def _spec() -> ModelSpec:
    with TemporaryDirectory() as folder:
        one = gguf_spec(Path(folder))
    return replace(one, layers=one.layers * 2)  # so that two GPUs have a layer each


def cases() -> dict[str, Case]:
    """Each engine where it runs."""
    found = {
        "triton": Case(plan=plan(engine="triton")),
        "triton-old": Case(plan=plan(engine="triton@25.12", replicas=2)),
        "triton-mig": Case(plan=fitting("h100-sxm-80gb:3g.40gb", engine="triton")),
        "triton-dra": Case(
            plan=fitting("l40s-48gb", engine="triton"),
            options=RenderOptions(gpus=GpuOptions(dra=True)),
            since="1.34",
        ),
    }
    for engine in ("llamacpp", "ollama"):
        found[engine] = Case(plan=gguf_plan(_spec(), engine))
        found[f"{engine}-quantized-cache"] = Case(
            plan=gguf_plan(
                _spec(), engine, workload=Workload(max_model_len=2000, concurrency=8, kv_dtype="fp8")
            )
        )
        found[f"{engine}-two"] = Case(plan=gguf_plan(_spec(), engine, split=Split(pipeline=2), replicas=2))
        found[f"{engine}-amd"] = Case(plan=gguf_plan(_spec(), engine, gpu="mi300x-192gb"))
        for machine in ("amd64", "arm64"):
            card = main_memory(8 * GIB, machine=machine)
            found[f"{engine}-cpu-{machine}"] = Case(plan=gguf_plan(_spec(), engine, gpu=card))
    found["llamacpp-intel"] = Case(plan=gguf_plan(_spec(), "llamacpp", gpu="arc-pro-b60-24gb"))
    return found
