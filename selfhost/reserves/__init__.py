"""What vLLM needs on a GPU beside weights and KV cache: activations, CUDA graphs, memory outside torch, per version.

vLLM 0.32 (v1/worker/gpu_worker.py `determine_available_memory`):
KV cache = utilization x total - weights - activation peak of a profiling run - memory gained outside torch
- graph estimate.
"""

from __future__ import annotations

from dataclasses import replace

from selfhost.reserves.activation import activation, uses_model_runner_v2
from selfhost.reserves.card import capture_sizes, certainty_bytes, context, graphs, non_torch, warmup
from selfhost.reserves.items import Reserve, Reserves
from selfhost.reserves.settings import (
    KNOWN_VERSIONS,
    Defaults,
    EngineSettings,
    defaults,
    parse_version,
    version_warning,
)
from selfhost.reserves.shape import ModelShape

__all__ = [
    "KNOWN_VERSIONS",
    "Defaults",
    "EngineSettings",
    "ModelShape",
    "Reserve",
    "Reserves",
    "capture_sizes",
    "defaults",
    "parse_version",
    "reserves",
    "subtracts_graphs",
    "uses_model_runner_v2",
    "version_warning",
]


def reserves(shape: ModelShape, settings: EngineSettings) -> Reserves:
    """Everything vLLM keeps beside weights and KV cache on one GPU.

    Args:
        shape: the model, unsharded.
        settings: engine version, GPU, split and limits; use `defaults` where the user gave none.

    Returns:
        Itemised bytes; `kv_available_bytes` and `short_bytes` answer the two questions vLLM itself asks.
    """
    peak = activation(shape, settings)
    estimate, captured = graphs(shape, settings)
    # AMD: servers start with captured graphs larger than what the share leaves. A CPU captures none.
    if settings.gpu.vendor in ("AMD", "CPU"):
        captured = replace(captured, bytes=0)
    subtracted = subtracts_graphs(settings)
    return Reserves(
        activation=peak,
        graphs=estimate,
        captured=captured,
        non_torch=non_torch(settings),
        context=context(shape, settings),
        warmup=warmup(shape, settings),
        graphs_subtracted=subtracted,
        share_bytes=int(settings.gpu.memory_bytes * settings.utilization),
        total_bytes=settings.gpu.memory_bytes,
        certainty_bytes=certainty_bytes(shape, settings, peak.bytes, estimate.bytes if subtracted else 0),
    )


def subtracts_graphs(settings: EngineSettings) -> bool:
    """Whether this release takes its estimate of the CUDA graphs out of the KV cache (from 0.21 on)."""
    return settings.version >= (0, 21, 0) and settings.gpu.vendor == "NVIDIA"
