"""The plan's memory bill beside what an engine says, and what would make it fit."""

from __future__ import annotations

import re

from selfhost.plan import Plan
from selfhost.units import GIB, gib

_SIZE = re.compile(r"([\d.]+) ?(GiB|MiB|KiB|GB|MB)")
_UNIT = {"GiB": GIB, "MiB": 1 << 20, "KiB": 1 << 10, "GB": 10**9, "MB": 10**6}
# vLLM's own floor for a request: one block; a context below this serves nobody (ours).
_LEAST_CONTEXT = 2048
_FEWER_SEQS = 256  # vLLM's default before 0.8 (max_num_seqs); a warm-up of as many takes a quarter of 1024's
_STEP = 0.02  # Ours: what a person would try; finer is noise against the certainty of the bill


def size(words: str | None) -> int:
    """Bytes of `1.40 GiB`, `56.88 MiB`; 0 for none."""
    found = _SIZE.search(words or "")
    return round(float(found[1]) * _UNIT[found[2]]) if found else 0


def predicted(plan: Plan) -> int:
    """Bytes of one GPU that the plan expects besides the KV cache."""
    memory = plan.memory
    parts = (
        memory.weights_bytes,
        memory.buffers_bytes,
        memory.extra_bytes,
        memory.activation_bytes,
        memory.graphs_bytes,
        memory.non_torch_bytes,
        memory.context_bytes,
    )
    return sum(part or 0 for part in parts)


def told(plan: Plan) -> str:
    """The bill in one line, for evidence."""
    memory = plan.memory
    named = (
        ("weights", memory.weights_bytes + memory.buffers_bytes + memory.extra_bytes),
        ("activations", memory.activation_bytes),
        ("CUDA graphs", memory.graphs_bytes),
        ("outside torch", memory.non_torch_bytes),
        ("CUDA context", memory.context_bytes),
        ("KV cache", memory.kv_available_bytes),
    )
    terms = ", ".join(f"{name} {gib(size)}" for name, size in named if size)
    sure = f"; certain to ±{gib(memory.certainty_bytes)} GiB" if memory.certainty_bytes else ""
    share = (
        f" of {gib(memory.gpu_memory_bytes)} GiB at {memory.utilization:g}" if memory.gpu_memory_bytes else ""
    )
    return f"plan, GiB on each GPU: {terms}{share}{sure}"


def command(plan: Plan, *settings: str) -> str:
    """The deploy with something changed."""
    return " ".join(["selfhost deploy PLAN", *(f"--set {one}" for one in settings)])


def context_of(plan: Plan, fits_bytes: int, needed_bytes: int) -> int:
    """The longest context whose KV cache fits, in tokens, rounded down to 1,024; 0 where none does."""
    if needed_bytes <= 0 or fits_bytes <= 0:
        return 0
    tokens = plan.memory.max_model_len * fits_bytes // needed_bytes
    rounded = tokens // 1024 * 1024
    return rounded if rounded >= _LEAST_CONTEXT else 0


def fewer_seqs(plan: Plan) -> str:
    """Fewer requests in one step, empty where they are few already."""
    now = plan.memory.max_num_seqs
    return f"max-num-seqs={_FEWER_SEQS if now > _FEWER_SEQS else now // 2}" if now > 8 else ""


def lower_share(plan: Plan, short_bytes: int) -> str:
    """A smaller share of the GPU for the engine, so that what is short is left for what it does not count."""
    total = plan.memory.gpu_memory_bytes or 0
    if not total:
        return ""
    steps = max(1, -(-short_bytes // max(1, round(total * _STEP))))
    share = round(plan.memory.utilization - _STEP * steps, 2)
    return f"gpu-memory-utilization={share:g}" if share >= 0.3 else ""


def smaller_batch(plan: Plan, short_bytes: int) -> tuple[str, int]:
    """Fewer tokens in one step, and about what that frees: activations grow with them."""
    now, activations = plan.memory.max_num_batched_tokens, plan.memory.activation_bytes or 0
    half = now // 2
    if half < 1024 or activations == 0:
        return "", 0
    return (
        (f"max-num-batched-tokens={half}", activations // 2) if activations // 2 >= short_bytes else ("", 0)
    )


def smaller_weights(plan: Plan) -> str:
    """A plan whose weights take less of each GPU."""
    quantized = plan.model.quantization or plan.workload.quantization
    halves = "" if quantized else " --quant fp8"
    return f"selfhost plan {plan.model.id}{halves} finds a placement that fits" + (
        "" if halves else ": more or larger GPUs"
    )
