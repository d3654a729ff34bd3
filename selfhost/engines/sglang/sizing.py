"""How SGLang divides a GPU: the most that its own rule lets weights and KV cache take, and its own steps.

srt/server_args.py `_handle_gpu_memory_settings` of 0.5.3 and srt/arg_groups/memory_hook.py `handle_gpu_memory_settings`
of 0.5.23, which agree in what is used here; read 2026-11-26. The KV pool is what is free at start times
--mem-fraction-static, less what the weights took (mem_cache/kv_cache_configurator.py `_profile_available_bytes`).
"""

from __future__ import annotations

from selfhost.engines import Sizing, SizingFor
from selfhost.units import MIB

# Memory of the GPU in MiB, below which: tokens of a prefill chunk, and requests of the largest decode graph with TP
# below 4 and from 4 on.
_CLASSES = (
    (20 * 1024, 2048, 8, 8),
    (35 * 1024, 4096, 48, 160),
    (60 * 1024, 4096, 32, 160),
    (160 * 1024, 8192, 256, 512),
    (None, 16384, 512, 512),
)
_META_MIB, _MIB_PER_TOKEN, _MIB_PER_REQUEST, _LEAST_TOKENS = 512, 1.5, 2, 2048
_LARGE_MIB, _LARGE_FLOOR_MIB = 60 * 1024, 10 * 1024
_DRAFT_MIB = 2048  # 0.5.3: draft models and their graphs
_DP_MIB_PER_REQUEST = 4.5  # 3, and 1.5 more above 300 requests, for each rank of attention data parallelism
BECAUSE = (
    "sized by the rules of vLLM 0.32 for weights and cache, and by SGLang's own for what it keeps beside them; hence "
    "the wider certainty"
)
RELEASE = (0, 32, 0)
CERTAINTY_RATIO = 0.05  # ours: no series of start-up logs to derive one from
LEAST_RATIO = 0.1


def sizing_of(asked: SizingFor | None) -> Sizing:
    """The stand-in, with SGLang's own chunk and share where the GPU is known."""
    if asked is None or asked.gpu_bytes is None:
        return Sizing(release=RELEASE, because=BECAUSE, certainty_ratio=CERTAINTY_RATIO, keeps_windows=False)
    chunk, largest = _class(asked)
    return Sizing(
        release=RELEASE,
        because=BECAUSE,
        certainty_ratio=CERTAINTY_RATIO,
        max_num_batched_tokens=chunk,
        static_ratio=max(LEAST_RATIO, _static_ratio(asked, chunk, largest)),
        keeps_windows=False,
    )


def _class(asked: SizingFor) -> tuple[int, int]:
    """Tokens of a chunk and requests of the largest graph on this GPU."""
    assert asked.gpu_bytes is not None
    mib = asked.gpu_bytes // MIB
    for below, chunk, few, many in _CLASSES:
        if below is None or mib < below:
            return chunk, few if asked.split.tensor < 4 else many
    raise AssertionError("the last class has no end")


def _static_ratio(asked: SizingFor, chunk: int, largest: int) -> float:
    assert asked.gpu_bytes is not None
    load, split, mib = asked.workload, asked.split, asked.gpu_bytes / MIB
    graphs = 0 if load.enforce_eager else min(largest, load.max_num_seqs or largest)
    kept = _META_MIB + max(load.max_num_batched_tokens or chunk, _LEAST_TOKENS) * _MIB_PER_TOKEN
    kept += graphs * _MIB_PER_REQUEST + split.tensor * split.pipeline * 128
    if split.data > 1:
        kept += graphs * split.data * _DP_MIB_PER_REQUEST
    if mib > _LARGE_MIB:
        kept = max(kept, _LARGE_FLOOR_MIB)
    if load.speculative_tokens > 0:
        kept += _DRAFT_MIB
    return 1 - kept / mib
