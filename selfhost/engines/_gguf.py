"""What servers built on llama.cpp hold on one GPU: the file's tensors, a KV cache of fixed slots, a compute buffer.

An estimate. llama.cpp divides layers over GPUs (--split-mode layer) and allocates the KV cache of all slots at start
(src/llama-kv-cache.cpp); nothing here was compared with start-ups of our own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from selfhost.errors import UnsupportedError
from selfhost.kv import step_tokens
from selfhost.memory import MemoryBudget, Prepared, Term, prepare
from selfhost.units import GIB, MIB, ceil_div, gib, round_up
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.model.spec import ModelSpec

SOURCE = "llama.cpp common/arg.cpp, src/llama-kv-cache.cpp; ggml block sizes"
BECAUSE = (
    "sized by an estimate: tensors as the file stores them, the KV cache of all slots and a compute buffer; "
    "no start-up was compared"
)
# Element type of the KV cache by selfhost's name -> llama.cpp's, and bits of an element (ggml: 34 bytes hold 32 values
# of q8_0, 18 hold 32 of q4_0).
CACHE_TYPES = {
    "auto": ("f16", 16.0),
    "fp16": ("f16", 16.0),
    "float16": ("f16", 16.0),
    "bf16": ("bf16", 16.0),
    "bfloat16": ("bf16", 16.0),
    "fp8": ("q8_0", 8.5),
    "fp4": ("q4_0", 4.5),
}
BATCH, MICRO_BATCH = 2048, 512  # -b and -ub by default (common/common.h)
CONTEXT_STEP = 256  # a slot's context is rounded up to it (src/llama-context.cpp)
CONTEXT_BYTES = 600 * MIB  # ours (2026-11-26): CUDA context and cuBLAS workspaces of a process
CERTAINTY_RATIO = 0.1  # ours (2026-11-26), of the GPU's memory
_STEPS = step_tokens(MICRO_BATCH, async_scheduling=False)
_RULES = (0, 23)  # the last release of vLLM that read GGUF files, whose sizes of their blocks are used


def slots_of(workload: Workload) -> int:
    """Requests that are held at once."""
    return max(workload.concurrency, workload.max_num_seqs or 0)


def slot_tokens(context_tokens: int) -> int:
    """Tokens that one slot holds."""
    return round_up(context_tokens, CONTEXT_STEP)


def compute_buffer_bytes(vocabulary: int, hidden: int, held_tokens: int) -> int:
    """The buffer of one step: logits and activations of a micro-batch in 32 bits, twice, and its attention mask.

    Our estimate. Once the first two are 512 x (128,256 + 4,096) x 4 bytes = 258.5 MiB for Llama 3 8B, which is the
    `compute buffer size` in start-up logs of it that users show in public (looked up 2026-11-26); twice is kept because
    other models' graphs hold more. With flash attention, which releases since 0.3.17 take by themselves where the GPU
    has a kernel for it, attention adds the mask alone; without it, scores of every head, for which there is no room.

    Args:
        vocabulary: tokens of the vocabulary.
        hidden: width of the residual stream.
        held_tokens: tokens of one slot.
    """
    return 2 * MICRO_BATCH * (vocabulary + hidden) * 4 + MICRO_BATCH * held_tokens * 4


def bill(spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu | None) -> MemoryBudget:
    """What the fullest GPU holds.

    Raises:
        UnsupportedError: a split by anything but layers, or a cache type that llama.cpp has not.
    """
    if split.tensor > 1 or split.data > 1 or split.expert:
        raise UnsupportedError(
            "llama.cpp divides a model by layers.", hint="Take --pp, not --tp, --dp or --ep."
        )
    if workload.kv_dtype not in CACHE_TYPES:
        raise UnsupportedError(
            f"llama.cpp has no KV cache of {workload.kv_dtype}.",
            hint=f"Take one of {', '.join(CACHE_TYPES)}.",
        )
    plain = replace(workload, kv_dtype="bf16", block_size=None, max_loras=0)
    prepared = prepare(spec, plain, split, "NVIDIA", (9, 0), _RULES)
    return _budget(prepared, workload, split, gpu)


def _budget(prepared: Prepared, workload: Workload, split: Split, gpu: Gpu | None) -> MemoryBudget:
    model, layout = prepared.spec, prepared.layout
    context, slots = workload.max_model_len or model.facts.max_context_tokens, slots_of(workload)
    name, bits = CACHE_TYPES[workload.kv_dtype]
    held = slot_tokens(context)
    weights = prepared.stages[prepared.fullest].weights_bytes
    needed = int(layout.needed_bytes(held, _STEPS, slots) * bits / 16)
    per_token = max(1, round(layout.bytes_per_token * bits / 16))
    compute = compute_buffer_bytes(model.facts.vocab_size, model.facts.hidden_size, held)
    terms = [
        Term(name="weights", bytes=weights, because=_why_weights(prepared, split), source=SOURCE),
        Term(
            name="KV cache",
            bytes=needed,
            because=f"{slots} slots × {held:,} tokens × {per_token / 1024:g} KiB ({name})",
            source=SOURCE,
        ),
        Term(
            name="compute buffer",
            bytes=compute,
            because=f"estimate: {MICRO_BATCH} tokens × vocabulary in 32 bits, twice, and the mask",
            source="ours (2026-11-26)",
        ),
        Term(
            name="context",
            bytes=CONTEXT_BYTES,
            because="estimate: CUDA context and workspaces",
            source="ours (2026-11-26)",
        ),
    ]
    total = gpu.memory_bytes if gpu else None
    available = None if total is None else total - weights - compute - CONTEXT_BYTES
    used = weights + needed + compute + CONTEXT_BYTES
    if total is not None:
        left = Term(
            name="free",
            bytes=total - used,
            because=f"of {gib(total)} GiB on each GPU; it takes no more",
            source=SOURCE,
        )
        terms.append(left)
    tokens = None if available is None else max(0, available) // per_token
    return MemoryBudget(
        gpu_id=gpu.id if gpu else None,
        gpu_memory_bytes=total,
        weights_bytes=weights,
        buffers_bytes=0,
        extra_bytes=0,
        kv_bytes_per_token=per_token,
        state_bytes_per_sequence=layout.state_bytes_per_sequence,
        activation_bytes=compute if gpu else None,
        graphs_bytes=0 if gpu else None,
        non_torch_bytes=0 if gpu else None,
        context_bytes=CONTEXT_BYTES if gpu else None,
        kv_available_bytes=available,
        kv_needed_bytes=needed,
        kv_block_tokens=CONTEXT_STEP,
        kv_blocks=None if tokens is None else tokens // CONTEXT_STEP,
        kv_tokens=tokens,
        max_concurrency=None if tokens is None else tokens / held,
        max_context_tokens=None if tokens is None else min(model.facts.max_context_tokens, tokens // slots),
        max_model_len=context,
        max_num_batched_tokens=BATCH,
        max_num_seqs=slots,
        utilization=1.0 if total is None else min(1.0, ceil_div(100 * used, total) / 100),
        concurrency=workload.concurrency,
        fits=None if available is None else needed <= available,
        short_bytes=0 if available is None else max(0, needed - available),
        certainty_bytes=None if total is None else int(GIB // 2 + CERTAINTY_RATIO * total),
        terms=tuple(terms),
    )


def _why_weights(prepared: Prepared, split: Split) -> str:
    spec, stages = prepared.spec, split.pipeline
    share = "all tensors" if stages == 1 else f"the fullest of {stages} shares of {len(spec.layers)} layers"
    return f"{share}, in the file's own blocks ({spec.scheme.id if spec.scheme else spec.dtype})"
