"""CUDA graphs, memory outside torch, context and certainty: what the card loses to the engine's process."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from selfhost.catalog.accelerators import accelerator
from selfhost.catalog.gpus import Gpu
from selfhost.reserves.activation import sampler_peak
from selfhost.reserves.items import Reserve
from selfhost.reserves.settings import EngineSettings
from selfhost.reserves.shape import ModelShape
from selfhost.units import MIB, ceil_div

_LOGS = "start-up logs, catalog/reserves.toml"
# Ours (2026-11-26): how much wider a size is held where CUDA's rules stand in for a platform of which no log is known.
UNKNOWN_RATIO = 0.1


@cache
def _constants() -> dict[str, Any]:
    import tomllib

    with open(
        os.path.join(os.path.dirname(os.path.dirname(__file__)), "catalog", "reserves.toml"), "rb"
    ) as file:
        return tomllib.load(file)


def _mib(table: str, key: str) -> int:
    return int(_constants()[table][key] * MIB)


def _count(limit: int) -> int:
    """How many of vLLM's batch sizes are at most `limit`: 1, 2, 4, every 8 up to 256, every 16 above."""
    small = sum(size <= limit for size in (1, 2, 4)) + len(range(8, min(limit + 1, 256), 8))
    return small + len(range(256, limit + 1, 16))


def capture_sizes(shape: ModelShape, settings: EngineSettings) -> tuple[int, int, int]:
    """(largest batch captured, piecewise graphs, full decode graphs); config/vllm.py `_set_cudagraph_sizes`."""
    capability = settings.gpu.compute_capability or (0, 0)
    decode_rows = settings.max_num_seqs * (1 + settings.speculative_tokens)
    limit = min(2 * decode_rows, 1024 if settings.version >= (0, 29, 0) and capability[0] == 10 else 512)
    if shape.architecture == "GptOssForCausalLM" and settings.version >= (0, 10, 0):
        limit = 1024  # models/config.py GptOssForCausalLMConfig
    limit = min(limit, settings.max_num_batched_tokens)
    full = _count(min(limit, decode_rows)) if settings.version >= (0, 11, 0) else 0
    return limit, _count(limit), full


def graphs(shape: ModelShape, settings: EngineSettings) -> tuple[Reserve, Reserve]:
    """CUDA graphs: (what vLLM estimates after capturing two sizes, what capturing them all takes)."""
    if settings.enforce_eager:
        none = Reserve(
            name="CUDA graphs", bytes=0, because="--enforce-eager: none are captured", source=_LOGS
        )
        return none, none
    table = _constants()["graphs"]
    era = 0 if settings.version < (0, 21, 0) else 1
    limit, piecewise, full = capture_sizes(shape, settings)
    layers = ceil_div(shape.num_layers, settings.pipeline)
    per_pair = table["pair_mib"][era] + table["pair_layer_mib"][era] * layers
    if shape.latent_up_width:
        per_pair += table["mla_pair_mib"]
    share = table["piecewise_share_ratio"]
    estimate = table["first_mib"] * max(1.0, limit / 512) + per_pair * (
        share * piecewise + (1 - share) * full
    )
    captured = estimate * table["captured_ratio"] + (
        table["captured_moe_mib"] * full if shape.num_experts else 0
    )
    because = f"{piecewise} batch sizes up to {limit} in pieces, {full} whole, {layers} layers"
    return (
        Reserve(name="CUDA graphs", bytes=int(estimate * MIB), because=because, source=_LOGS),
        Reserve(name="CUDA graphs captured", bytes=int(captured * MIB), because=because, source=_LOGS),
    )


def _era(version: tuple[int, int, int], key: str) -> int:
    table = _constants()["non_torch"]
    value = 0
    for since, mib in zip(table["since"], table[key], strict=True):
        major, minor = since.split(".")
        if version >= (int(major), int(minor), 0):
            value = mib
    return int(value * MIB)


def _has_nvlink(gpu: Gpu) -> bool:
    return gpu.link is not None and "NVLink" in gpu.link and "bridge" not in gpu.link


def _is_unified(gpu: Gpu) -> bool:
    return gpu.id.startswith("gb10")


def non_torch(settings: EngineSettings) -> Reserve:
    """What the worker gains outside torch between its first snapshot and the end of profiling."""
    gpu, version = settings.gpu, settings.version
    if gpu.vendor == "AMD":
        size, because = _mib("non_torch", "rocm_mib"), "ROCm libraries and kernels"
    elif _is_unified(gpu):
        size, because = (
            _mib("non_torch", "unified_mib"),
            "unified memory: the engine's host memory counts too",
        )
    else:
        large = gpu.compute_capability in ((8, 0), (9, 0), (10, 0), (10, 3))
        counted = min(version, (0, 17, 99)) if settings.enforce_eager else version  # no graphs to profile
        size = _era(counted, "cuda_mib" if large else "other_mib")
        because = f"CUDA libraries and kernels loaded by vLLM {version[0]}.{version[1]}"
        if settings.tensor > 1 and _has_nvlink(gpu) and version >= (0, 8, 0):
            size += _mib("non_torch", "nvlink_tp_mib") + (settings.tensor - 2) * _mib(
                "non_torch", "nvlink_tp_step_mib"
            )
            because += f"; NCCL buffers of TP {settings.tensor} over NVLink"
        elif settings.pipeline > 1 and settings.tensor == 1:
            size = min(size, _mib("non_torch", "pipeline_mib"))
    return Reserve(name="outside torch", bytes=size, because=because, source=_LOGS)


def context(experts: bool, settings: EngineSettings) -> Reserve:
    """What the process holds before its first snapshot: CUDA context, and NCCL where GPUs talk to each other."""
    gpu = settings.gpu
    several = settings.tensor * settings.pipeline > 1
    if gpu.vendor == "CPU":
        size, because = 0, "no device, no context"
    elif gpu.vendor == "AMD":
        size, because = _mib("context", "rocm_mib"), "HIP context"
        size += _mib("context", "rccl_mib") if several else 0
    else:
        key = {"Hopper": "hopper_mib", "Ampere": "ampere_mib"}.get(gpu.architecture, "other_mib")
        size, because = _mib("context", key), "CUDA context"
        if several:
            size += _mib("context", "nccl_mib" if _has_nvlink(gpu) else "nccl_pcie_mib")
        if experts and settings.tensor > 1 and _has_nvlink(gpu):
            size += _mib("context", "nccl_moe_mib")
    if several:
        because += f" and collectives of {settings.tensor * settings.pipeline} GPUs"
    return Reserve(
        name="context", bytes=size, because=f"{because}, outside the utilization share", source=_LOGS
    )


def warmup(shape: ModelShape, settings: EngineSettings) -> Reserve:
    """What the sampler needs after the KV cache is allocated (v1/worker/gpu_worker.py `compile_or_warm_up_model`)."""
    size, because = sampler_peak(shape, settings)
    if not settings.last_stage:
        size, because = 0, "the last pipeline stage samples"
    if shape.quantization == "mxfp4" and settings.version < (0, 22, 0):
        table = _constants()["pinned"]
        rows = min(settings.max_num_seqs, settings.max_num_batched_tokens)
        size += settings.max_num_batched_tokens * int(table["mxfp4_bytes_per_token"])
        size += int(rows * shape.vocab_size * 4 * table["mxfp4_logits"])
        because += "; MXFP4 experts pin torch segments"
    source = "vLLM v1/worker/gpu_worker.py compile_or_warm_up_model"
    return Reserve(name="sampler warm-up", bytes=size, because=because, source=source)


def certainty_bytes(
    shape: ModelShape, settings: EngineSettings, activation_bytes: int, graphs_bytes: int
) -> int:
    """Half the width of what the start-up logs of this class of GPU and version leave open, in bytes."""
    table = _constants()["certainty"]
    gpu = settings.gpu
    if gpu.vendor == "AMD":
        base = table["rocm_mib"]
    elif _is_unified(gpu):
        base = table["unified_mib"]
    elif settings.version < (0, 8, 0):
        base = table["v0_mib"]
    elif settings.version < (0, 20, 0):
        base = table["floor_mib"]
    else:
        base = table["other_cuda_mib"]
    base += table["tensor_parallel_mib"] * (settings.tensor > 1) + table["vision_mib"] * (
        shape.vision is not None
    )
    if accelerator(gpu.platform).estimated:
        base += UNKNOWN_RATIO * gpu.memory_bytes / MIB
    share = table["share_of_activation_ratio"] * activation_bytes + table["graphs_ratio"] * graphs_bytes
    return int(base * MIB + share)
