"""What one GPU holds under any engine: vLLM's bill, or one by its rules within the engine's own limits.

selfhost/memory.py knows how vLLM allocates. Another engine says in its `Sizing` whose release stands in for it and
where it differs; here that becomes a bill, with a certainty as much wider.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from selfhost.attention import Attention, ChunkedLocal, FullAttention, SlidingWindow
from selfhost.engines import Bills, EngineVersion, Sizing, SizingFor, get_engine
from selfhost.memory import NEWEST, Bill, MemoryBudget, Version, bill, budget, left_for_cache
from selfhost.model.modules import Block
from selfhost.model.spec import ModelSpec
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu

_STEPS_PER_SHARE = 1000  # a share is lowered in thousandths


def budget_for(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu | None,
    engine: EngineVersion,
    *,
    brief: bool = False,
) -> MemoryBudget:
    """Size one deployment on the fullest GPU, for a release of any engine.

    Args:
        spec: the model.
        workload: the load and the engine's knobs; None takes the engine's default.
        split: how the model is divided.
        gpu: the GPU, None for the parts that need none.
        engine: the release.
        brief: without lines to print and the longest context, where an engine goes by vLLM's rules.

    Raises:
        UnsupportedError: the split or the combination is impossible.
        UsageError: an unknown `--quant`, or a version older than is known.
    """
    found = bill_for(spec, workload, split, gpu, engine)
    return found if isinstance(found, MemoryBudget) else found.budget(brief=brief)


def bill_for(
    spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu | None, engine: EngineVersion
) -> Bill | MemoryBudget:
    """The same, decided and not yet written out where the engine goes by vLLM's rules.

    Args: as `budget_for`.

    Raises: as `budget_for`.
    """
    own_bill = _own_bill(engine.engine)
    if own_bill is not None:
        return own_bill.bill(spec, workload, split, gpu)
    asked = SizingFor(
        platform=gpu.platform if gpu else "cuda",
        compute_capability=gpu.compute_capability if gpu else None,
        gpu_bytes=gpu.memory_bytes if gpu else None,
        split=split,
        workload=workload,
        context_tokens=workload.max_model_len or spec.facts.max_context_tokens,
    )
    own = get_engine(engine.engine).sizing(engine, asked)
    if own.because is None:
        return bill(spec, workload, split, gpu, own.release)
    model = spec if own.keeps_windows else _without_windows(spec)
    load = _own_load(
        workload, own.utilization, own.max_num_batched_tokens, own.max_num_seqs, asked.context_tokens
    )
    if gpu is None:
        return bill(model, load, split, gpu, own.release)
    wider = int(own.certainty_ratio * gpu.memory_bytes)
    lower = None
    if own.context_inside or own.static_ratio is not None:
        left = left_for_cache(model, load, split, gpu, own.release)
        lower = _lower_share(*left, gpu.memory_bytes, own, given=workload.gpu_memory_utilization is not None)
    return bill(model, load, split, gpu, own.release, share=lower, wider_bytes=wider)


@cache
def _own_bill(name: str) -> Bills | None:
    """The engine, where it makes bills of its own; asking a protocol takes longer than a bill."""
    driver = get_engine(name)
    return driver if isinstance(driver, Bills) else None


def highest_concurrency(
    spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu, version: Version = NEWEST
) -> int:
    """Whole requests of the workload's context that fit at once, 0 when none does."""
    one = budget(spec, replace(workload, concurrency=1), split, gpu, version)
    if not one.fits or one.max_concurrency is None:
        return 0
    low, high = 1, max(1, int(one.max_concurrency) + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if budget(spec, replace(workload, concurrency=middle * split.data), split, gpu, version).fits:
            low = middle
        else:
            high = middle - 1
    return low * split.data


def stands_in(engine: EngineVersion) -> str | None:
    """The sentence that says whose rules size this engine, None where they are its own."""
    return get_engine(engine.engine).sizing(engine).because


def why_certain(engine: EngineVersion) -> str:
    """What the width of the certainty comes from."""
    driver = get_engine(engine.engine)
    ratio = driver.sizing(engine).certainty_ratio
    if not ratio:
        return "as far as similar start-ups differed"
    if isinstance(driver, Bills):
        return f"0.5 GiB and {ratio:.0%} of the GPU: no start-up was compared"
    return (
        f"as far as start-ups of vLLM differed, and {ratio:.0%} of the GPU as the rules are another engine's"
    )


@lru_cache(maxsize=1024)
def _own_load(
    workload: Workload, utilization: float | None, batched: int | None, most: int | None, context_tokens: int
) -> Workload:
    """The load with the engine's own choices where nobody made others."""
    requests = workload.max_num_seqs or most
    tokens = workload.max_num_batched_tokens or batched
    if workload.max_num_batched_tokens is None and tokens is not None and requests is not None:
        tokens = max(min(tokens, requests * context_tokens), requests)
    return replace(
        workload,
        gpu_memory_utilization=workload.gpu_memory_utilization or utilization,
        max_num_batched_tokens=tokens,
        max_num_seqs=requests,
    )


def _lower_share(
    held: int, available: int, context: int, utilization: float, total: int, own: Sizing, *, given: bool
) -> float | None:
    """The share by vLLM's counting that is the engine's own by its counting, None where they are the same.

    Args:
        held, available, context, utilization: `left_for_cache`, by the stand-in's counting.
        total: bytes of the GPU.
        own: where the engine differs.
        given: the share was asked for, so that the engine's own limit for weights and KV cache does not hold.
    """
    over = float(context) if own.context_inside else 0.0
    if own.static_ratio is not None and not given:
        over = max(over, held + available - own.static_ratio * (total - context))
    if over <= 0:
        return None
    lower = int((utilization - over / total) * _STEPS_PER_SHARE) / _STEPS_PER_SHARE
    return max(lower, 1 / _STEPS_PER_SHARE)


@lru_cache(maxsize=256)
def _without_windows(spec: ModelSpec) -> ModelSpec:
    """The model as an engine sees it that keeps every token of every layer."""
    if not any(
        isinstance(kind, (SlidingWindow, ChunkedLocal)) for block in spec.layers for kind in block.keeps
    ):
        return spec
    made: dict[int, Block] = {}  # equal layers stay one object
    layers = tuple(made.setdefault(id(block), _whole(block)) for block in spec.layers)
    return replace(spec, layers=layers)


def _whole(block: Block) -> Block:
    return replace(block, keeps=tuple(map(_every_token, block.keeps)))


def _every_token(kind: Attention) -> Attention:
    if isinstance(kind, SlidingWindow):
        return FullAttention(
            kv_heads=kind.kv_heads,
            head_dim=kind.head_dim,
            value_dim=kind.value_dim,
            sinks=kind.sinks,
            prefix_bidirectional=kind.prefix_bidirectional,
        )
    if isinstance(kind, ChunkedLocal):
        return FullAttention(kv_heads=kind.kv_heads, head_dim=kind.head_dim)
    return kind
