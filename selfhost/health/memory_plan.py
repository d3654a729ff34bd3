"""Predicted against actual memory of an engine, term by term, on the fullest of its GPUs.

The KV cache is what the engine laid out (vllm:cache_config_info). The rest of what its process holds cannot be seen
apart from outside and is compared as one sum; with the engine's start-up log every term has its own figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from selfhost.health.engine import EngineTrail, every_engine, said
from selfhost.health.types import Check, Context, History
from selfhost.observation import (
    EngineSnapshot,
    GpuProcess,
    GpuSnapshot,
    Missing,
    Reading,
    StartupMemory,
    known,
)
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.plan import Plan

CODE = "memory-plan"
SOURCE = (
    "plan.json (memory.terms, kv_available_bytes, certainty_bytes) against vllm:cache_config_info and NVML's memory of "
    "the process; without a certainty in the plan 5 % of the GPU, ours (2026-11-21)"
)
FALLBACK_RATIO = 0.05
_TOTAL, _KV, _REST, _WEIGHTS = "total", "KV cache", "all but KV cache", "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTerm:
    """One line of the comparison, in bytes on one GPU. `because` says where the actual figure is from."""

    name: str
    predicted_bytes: int | None
    actual: Reading[int]
    because: str

    @property
    def error_bytes(self) -> int | None:
        """Actual less predicted, None where either is not known."""
        if self.predicted_bytes is None or isinstance(self.actual, Missing):
            return None
        return self.actual - self.predicted_bytes

    @property
    def error_ratio(self) -> float | None:
        """The error as a share of what was predicted."""
        if self.error_bytes is None or not self.predicted_bytes:
            return None
        return self.error_bytes / self.predicted_bytes


def memory_terms(plan: Plan, engine: EngineSnapshot, gpus: tuple[GpuSnapshot, ...]) -> tuple[MemoryTerm, ...]:
    """Every term, its prediction and what was seen of it.

    Args:
        plan: what the engine was deployed from.
        engine: joined with its GPUs.
        gpus: of the node; those that the engine is joined with count.

    Returns:
        The KV cache; weights, activations, graphs, memory outside torch and the context, of which a start-up log tells
        the first four; their sum; and the total, activations included.
    """
    kv = _kv_term(plan, engine)
    fullest = fullest_gpu(engine, gpus)
    held = fullest if isinstance(fullest, Missing) else process_bytes(engine, fullest)
    rest: Reading[int] = held if isinstance(held, Missing) else kv.actual
    if known(held) and known(kv.actual):
        rest = held - kv.actual
        if rest < 0:
            rest = Missing(missing=f"the process holds {gib(held)} GiB, less than its KV cache")
    parts = _predicted(plan)
    rest_predicted = None if None in parts.values() else sum(value or 0 for value in parts.values())
    kv_predicted = kv.predicted_bytes
    total = None if rest_predicted is None or kv_predicted is None else rest_predicted + kv_predicted
    where = "NVML's memory of its processes" if known(held) else "not seen"
    return (
        kv,
        *_logged(parts, engine.startup),
        MemoryTerm(
            name=_REST,
            predicted_bytes=rest_predicted,
            actual=rest,
            because=f"{where} less the KV cache",
        ),
        MemoryTerm(name=_TOTAL, predicted_bytes=total, actual=held, because=where),
    )


def _predicted(plan: Plan) -> dict[str, int | None]:
    """What the plan says of everything but the KV cache. None is what it does not know."""
    memory = plan.memory
    return {
        _WEIGHTS: memory.weights_bytes + memory.buffers_bytes + memory.extra_bytes,
        "activations": memory.activation_bytes,
        "CUDA graphs": memory.graphs_bytes,
        "outside torch": memory.non_torch_bytes,
        "CUDA context": _context_bytes(plan),
    }


def _context_bytes(plan: Plan) -> int:
    """What the process holds outside the engine's share, for which the plan has no line; 0 for an unknown GPU."""
    from selfhost.catalog.gpus import find_gpu
    from selfhost.errors import SelfhostError
    from selfhost.reserves import EngineSettings, parse_version
    from selfhost.reserves.card import context

    memory, split = plan.memory, plan.split
    try:
        settings = EngineSettings(
            version=parse_version(plan.engine.version),
            gpu=find_gpu(plan.gpu.id),
            tensor=split.tensor,
            pipeline=split.pipeline,
            utilization=memory.utilization,
            max_num_batched_tokens=memory.max_num_batched_tokens,
            max_num_seqs=memory.max_num_seqs,
            max_model_len=memory.max_model_len,
        )
    except SelfhostError:
        return 0
    return context(split.expert, settings).bytes


def _kv_term(plan: Plan, engine: EngineSnapshot) -> MemoryTerm:
    memory, blocks = plan.memory, engine.cache.gpu_blocks
    term = partial(MemoryTerm, name=_KV, predicted_bytes=memory.kv_available_bytes)
    if isinstance(blocks, Missing):
        return term(actual=blocks, because="the engine does not say how many blocks it has")
    if _other_dtype(plan, engine):
        why = f"its KV cache is kept in {engine.cache.kv_dtype}, the plan's in {plan.workload.kv_dtype}"
        return term(actual=Missing(missing=why), because=why)
    tokens = engine.cache.block_tokens
    same = known(tokens) and tokens == memory.kv_block_tokens
    size = _block_bytes(plan) if same or isinstance(tokens, Missing) else tokens * memory.kv_bytes_per_token
    if not size:
        return term(actual=Missing(missing="the plan does not say how large a block is"), because="")
    return term(actual=blocks * size, because=f"{blocks:,} blocks of {size:,} bytes (vllm:cache_config_info)")


def _block_bytes(plan: Plan) -> int | None:
    """Bytes of one block on one GPU: of the model where that agrees with the plan's number of blocks."""
    memory = plan.memory
    uniform = memory.kv_block_tokens * memory.kv_bytes_per_token
    if memory.kv_available_bytes is None or not memory.kv_blocks:
        return uniform or None
    if uniform and memory.kv_available_bytes // uniform == memory.kv_blocks:
        return uniform
    return memory.kv_available_bytes // memory.kv_blocks


def _other_dtype(plan: Plan, engine: EngineSnapshot) -> bool:
    """Whether plan and engine keep the KV cache in sizes that differ."""
    actual = engine.cache.kv_dtype
    if isinstance(actual, Missing):
        return False
    return _narrow(actual) != _narrow(plan.workload.kv_dtype) and "auto" not in (
        actual,
        plan.workload.kv_dtype,
    )


def _narrow(dtype: str) -> str:
    return next((kind for kind in ("fp8", "fp4", "int8", "int4") if kind in dtype), "wide")


def _logged(parts: dict[str, int | None], startup: Reading[StartupMemory]) -> tuple[MemoryTerm, ...]:
    """Terms that the start-up log alone tells one by one; without it they have a prediction and no figure."""
    lines = {
        _WEIGHTS: ("weights_bytes", "Model loading took"),
        "activations": ("activation_bytes", "peak of the profiling run"),
        "CUDA graphs": ("graphs_bytes", "graph capturing"),
        "outside torch": ("non_torch_bytes", "non-torch increase"),
    }
    found: list[MemoryTerm] = []
    for name, predicted in parts.items():
        actual: Reading[int] = Missing(missing="nothing tells it apart from the rest")
        field, line = lines.get(name, (None, None))
        if field is not None:
            told = startup if isinstance(startup, Missing) else getattr(startup, field)
            actual = Missing(missing="its start-up log does not tell it") if told is None else told
        if known(actual) or predicted:
            because = f"start-up log: {line}" if known(actual) else ""
            found.append(MemoryTerm(name=name, predicted_bytes=predicted, actual=actual, because=because))
    return tuple(found)


def fullest_gpu(engine: EngineSnapshot, gpus: tuple[GpuSnapshot, ...]) -> Reading[GpuSnapshot]:
    """Of the engine's GPUs the one on which it holds most memory; why there is none to look at."""
    if isinstance(engine.gpu_uuids, Missing):
        return Missing(missing=f"which GPUs it runs on is not known ({engine.gpu_uuids.missing})")
    held: list[tuple[int, int, GpuSnapshot]] = []
    why = Missing(missing="none of its GPUs can be seen")
    for gpu in gpus:
        if gpu.identity.uuid not in engine.gpu_uuids:
            continue
        size = process_bytes(engine, gpu) if gpu.fault is None else gpu.fault
        if isinstance(size, Missing):
            why = size
        else:
            held.append((size, -gpu.identity.index, gpu))
    return max(held, key=lambda one: one[:2])[2] if held else why


def process_bytes(engine: EngineSnapshot, gpu: GpuSnapshot) -> Reading[int]:
    """What the engine holds of one GPU, in bytes.

    NVML's figure of its processes; where the driver does not tell that, what is in use less what others hold (the
    driver's reserve is not in `memory_used_bytes` from driver 510 on).
    """
    processes = gpu.slow.processes
    rows = processes if known(processes) else ()
    own = [row for row in rows if row.pid in engine.pids]
    if not own:  # joined by name or as the only one: its PIDs are of another namespace
        own = [row for row in rows if row.kind == "compute"]
    sizes = [row.memory_bytes for row in own]
    if own and all(known(size) for size in sizes):
        return sum(size for size in sizes if known(size))
    used = gpu.fast.memory_used_bytes
    if isinstance(used, Missing):
        return Missing(missing=f"memory of {gpu.label} cannot be read ({used.missing})", code=used.code)
    return max(0, used - _others(rows, own))


def _others(rows: tuple[GpuProcess, ...], own: list[GpuProcess]) -> int:
    return sum(row.memory_bytes for row in rows if row not in own and known(row.memory_bytes))


def memory_plan(history: History, context: Context) -> list[Check]:
    """Whether an engine's memory is what its plan predicted."""
    if context.plan is None:
        why = "no plan.json was named (--plan)"
        return [Check(code=CODE, level="skipped", message=why, source=SOURCE)]
    gpus = history[-1].node.gpus
    return every_engine(
        history, context, code=CODE, source=SOURCE, rule=lambda trail, context: _judge(trail, context, gpus)
    )


def _judge(trail: EngineTrail, context: Context, gpus: tuple[GpuSnapshot, ...]) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    plan, engine = context.plan, trail.engine
    assert plan is not None
    other = _not_of_plan(trail, plan)
    if other is not None:
        return say("skipped", other)
    if engine.sleeping is True:
        return say("skipped", "asleep: its weights or KV cache are not on the GPU")
    terms = {term.name: term for term in memory_terms(plan, engine, gpus)}
    told = [term for term in terms.values() if known(term.actual) or term.name in (_KV, _REST, _TOTAL)]
    say = partial(say, evidence="; ".join(_line(term) for term in told))
    limit = plan.memory.certainty_bytes
    if limit is None:
        limit = round(FALLBACK_RATIO * plan.gpu.memory_bytes)
    off = _beyond(terms, limit, plan.memory.activation_bytes or 0)
    if off is not None:
        message = (
            f"its memory is not the plan's: {_line(off)}, beyond the plan's certainty of {gib(limit)} GiB"
        )
        return say("warn", message, action="fix_configuration")
    kv, total = terms[_KV], terms[_TOTAL]
    unread = [
        f"{term.name}: {term.actual.missing}" for term in (kv, total) if isinstance(term.actual, Missing)
    ]
    absent = [isinstance(term.actual, Missing) and term.actual.absent for term in (kv, total)]
    if unread and not (len(unread) == 1 and any(absent)):
        return say("unknown", f"memory cannot be compared with the plan: {'; '.join(unread)}")
    shown = "; ".join(_line(term) for term in (kv, total) if known(term.actual))
    return say("ok", f"memory as planned: {shown}")


def _beyond(terms: dict[str, MemoryTerm], limit: int, activation: int) -> MemoryTerm | None:
    """The term whose error is too large. Activations are taken as they are needed, so less of the total is well."""
    for name in (_KV, _WEIGHTS, _TOTAL):
        error = terms[name].error_bytes if name in terms else None
        slack = activation if name == _TOTAL else 0
        if error is not None and not -limit - slack <= error <= limit:
            return terms[name]
    return None


def _not_of_plan(trail: EngineTrail, plan: Plan) -> str | None:
    """Why the plan is not of this engine, None when it may be."""
    engine = trail.engine
    if engine.engine not in (plan.engine.name, "unknown"):
        return f"the plan is for {plan.engine.name}, this is {engine.engine}"
    names = {plan.name, plan.model.id}
    names |= {word.value for word in plan.engine.args if word.flag == "--served-model-name" and word.value}
    if not trail.alone and known(engine.model) and engine.model not in names:
        return f"the plan is of {plan.model.id}, this engine serves {engine.model}"
    return None


def _line(term: MemoryTerm) -> str:
    predicted = (
        "not predicted" if term.predicted_bytes is None else f"{gib(term.predicted_bytes)} GiB predicted"
    )
    if isinstance(term.actual, Missing):
        return f"{term.name} {predicted}, not seen ({term.actual.missing})"
    text = f"{term.name} {gib(term.actual)} GiB, {predicted}"
    if term.error_bytes is not None:
        text += f" ({term.error_bytes / 2**30:+.2f} GiB"
        text += f", {100 * term.error_ratio:+.1f} %)" if term.error_ratio is not None else ")"
    return text
