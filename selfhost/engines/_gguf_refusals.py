"""What servers built on llama.cpp refuse, in the sentences of whichever it is."""

from __future__ import annotations

from selfhost.engines import Objection, Serving
from selfhost.engines._gguf import CACHE_TYPES

# Images for CUDA are built for these and newer (ggml/src/ggml-cuda/CMakeLists.txt, default CMAKE_CUDA_ARCHITECTURES).
_LEAST_CAPABILITY = (5, 0)


def gguf_objection(serving: Serving, *, called: str) -> Objection | None:
    """Why the server would not run this, None where it would.

    Args:
        serving: what is asked.
        called: the server's name for people.
    """
    return (
        _weights(serving, called)
        or _split(serving, called)
        or _features(serving, called)
        or _limits(serving, called)
    )


def _weights(serving: Serving, called: str) -> Objection | None:
    if not serving.gguf:
        return Objection(
            because=f"{called} reads GGUF files alone, and this model is none",
            hint="Name a .gguf file, or take --engine vllm.",
        )
    wanted = serving.workload.quantization
    if wanted is not None and wanted != serving.checkpoint_quantization:
        return Objection(
            because=f"{called} serves the file as it is and does not make {wanted} of it",
            hint="Take a file that is quantized so, and leave --quant out.",
        )
    return None


def _split(serving: Serving, called: str) -> Objection | None:
    split = serving.split
    if split.tensor > 1 or split.expert:
        return Objection(
            because=f"{called} divides a model by layers; by rows all of the KV cache would lie on one GPU",
            hint=f"Take --pp {split.tensor * split.pipeline} instead of --tp.",
        )
    if split.data > 1:
        return Objection(because=f"{called} has no data parallelism", hint=f"Take --replicas {split.data}.")
    if serving.platform == "cpu" and split.gpus > 1:
        return Objection(
            because="main memory is one device", hint="Leave --pp out, or take more --gpu-memory."
        )
    if serving.mig and split.gpus > 1:
        return Objection(
            because="CUDA shows a process one MIG instance", hint="Take a larger profile or whole GPUs."
        )
    return None


def _features(serving: Serving, called: str) -> Objection | None:
    load = serving.workload
    for flag, used in (
        ("--max-loras", load.max_loras > 0),
        ("--speculative-tokens", load.speculative_tokens > 0),
        ("--block-size", load.block_size is not None),
        ("--kv-cache-memory", load.kv_cache_memory_bytes is not None),
    ):
        if used:
            return Objection(because=f"{flag} means nothing to {called}", hint=f"Leave {flag} out.")
    if load.kv_dtype not in CACHE_TYPES:
        return Objection(
            because=f"{called} has no KV cache of {load.kv_dtype}",
            hint="Take --kv-dtype fp8, which is q8_0 there, or fp4, which is q4_0.",
        )
    return None


def _limits(serving: Serving, called: str) -> Objection | None:
    load, limit = serving.workload, serving.max_context_tokens
    if limit is not None and load.max_model_len is not None and load.max_model_len > limit:
        return Objection(
            because=f"a context of {load.max_model_len:,} tokens is beyond the model's {limit:,}",
            hint=f"Take --context {limit}.",
        )
    if load.max_num_seqs is not None and load.concurrency > load.max_num_seqs:
        return Objection(
            because=f"{load.concurrency:,} requests at once are more than its {load.max_num_seqs:,} slots",
            hint=f"Take --max-num-seqs {load.concurrency}.",
        )
    have = serving.compute_capability
    if have is not None and have < _LEAST_CAPABILITY:
        shown = ".".join(map(str, have))
        return Objection(because=f"the image of {called} has no kernels for compute capability {shown}")
    return None
