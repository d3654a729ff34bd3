"""Plans for tests: real models and GPUs of the catalogues, and a memory bill that is easy to check by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from selfhost.catalog.gpus import Gpu, find_gpu
from selfhost.catalog.models import load
from selfhost.engines import parse_engine
from selfhost.licence import Declared, judge
from selfhost.memory import MemoryBudget, Term
from selfhost.model.parse import parse_model
from selfhost.model.raw import RawModel
from selfhost.model.spec import ModelSpec
from selfhost.place import Refusal
from selfhost.plan import Plan, make_plan
from selfhost.units import GIB
from selfhost.workload import Split, Workload

CREATED = "2026-11-23T12:00:00Z"
COMMIT = "9216db5781bf21249d130ec9da846c4624c16137"


@cache
def _bundled(model_id: str) -> ModelSpec:
    model = load(model_id)
    raw = RawModel(
        reference=model.id,
        id=model.id,
        revision=COMMIT,
        origin="hub",
        source=model.entry.source,
        config=model.config,
        licence=model.entry.licence,
    )
    return parse_model(raw)


def spec(model_id: str = "Qwen/Qwen3-32B", **changes: Any) -> ModelSpec:
    """Qwen3-32B, 32.8 B parameters in bf16, or another bundled model."""
    return replace(_bundled(model_id), **changes)


def budget(
    gpu: Gpu,
    split: Split,
    *,
    weights_bytes: int = 61 * GIB,
    kv_needed_bytes: int = 32 * GIB,
    reserve_bytes: int = 5 * GIB,
    max_model_len: int = 16384,
    concurrency: int = 16,
) -> MemoryBudget:
    """Weights and KV cache divided evenly over the GPUs, and 5 GiB of everything else on each."""
    ranks = split.tensor * split.pipeline
    weights, kv_needed = weights_bytes // ranks, kv_needed_bytes // ranks
    available = gpu.memory_bytes * 92 // 100 - weights - reserve_bytes
    short = max(0, kv_needed - available)
    per_token = 262144 // ranks
    return MemoryBudget(
        gpu_id=gpu.id,
        gpu_memory_bytes=gpu.memory_bytes,
        weights_bytes=weights,
        buffers_bytes=0,
        extra_bytes=0,
        kv_block_tokens=16,
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
        utilization=0.92,
        kv_bytes_per_token=per_token,
        state_bytes_per_sequence=0,
        activation_bytes=2 * GIB,
        graphs_bytes=GIB,
        non_torch_bytes=2 * GIB,
        kv_available_bytes=available,
        kv_needed_bytes=kv_needed,
        kv_blocks=max(0, available) // (16 * per_token),
        kv_tokens=max(0, available) // per_token,
        max_concurrency=max(0, available) / per_token / max_model_len,
        max_context_tokens=40960,
        max_model_len=max_model_len,
        concurrency=concurrency,
        fits=short == 0,
        short_bytes=short,
        certainty_bytes=GIB,
        terms=(Term(name="weights", bytes=weights, because=f"61 GiB / {ranks}", source="config.json"),),
    )


def plan(*, gpu: str = "h100-sxm-80gb", tensor: int = 2, engine: str = "vllm", **changes: Any) -> Plan:
    """A plan for the model above; `changes` go to make_plan, and those of the model in `model`."""
    card, split = (
        changes.pop("card", None) or find_gpu(gpu),
        changes.pop("split", None) or Split(tensor=tensor),
    )
    workload = changes.pop("workload", None) or Workload(max_model_len=16384, concurrency=16)
    values: dict[str, Any] = {
        "spec": spec(**changes.pop("model", {})),
        "engine": parse_engine(engine),
        "gpu": card,
        "split": split,
        "workload": workload,
        "budget": budget(card, split),
        "created": CREATED,
        "licence": judge(Declared(licence="apache-2.0", gate="none"), repo="Qwen/Qwen3-32B"),
        "refused": (
            Refusal(
                gpu_id="l4-24gb", split=Split(tensor=2), because="weights: no room", short_bytes=11 * GIB
            ),
        ),
    }
    return make_plan(**(values | changes))
