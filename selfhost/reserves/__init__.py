"""What vLLM needs on a GPU beside weights and KV cache: activations, CUDA graphs, memory outside torch, per version.

vLLM 0.32 (v1/worker/gpu_worker.py `determine_available_memory`):
KV cache = utilization x total - weights - activation peak of a profiling run - memory gained outside torch
- graph estimate.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu

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
    peak, estimate, captured, sampler = _inside_torch(
        shape,
        _kernels_of(settings.gpu, settings.version < _BLIND_TO_PROCESSORS),
        settings.version,
        settings.tensor,
        settings.pipeline,
        settings.expert,
        settings.max_num_batched_tokens,
        settings.max_num_seqs,
        settings.max_model_len if shape.latent_up_width else 0,  # what alone simulates a context
        settings.enforce_eager,
        settings.speculative_tokens,
        settings.last_stage,
    )
    # AMD: servers start with captured graphs larger than what the share leaves. A CPU captures none.
    if settings.gpu.vendor in ("AMD", "CPU"):
        captured = replace(captured, bytes=0)
    outside, held = _outside_torch(
        shape.num_experts > 0, settings.gpu, settings.version, settings.tensor, settings.pipeline,
        settings.enforce_eager,
    )  # fmt: skip
    subtracted = subtracts_graphs(settings)
    return Reserves(
        activation=peak,
        graphs=estimate,
        captured=captured,
        non_torch=outside,
        context=held,
        warmup=sampler,
        graphs_subtracted=subtracted,
        share_bytes=int(settings.gpu.memory_bytes * settings.utilization),
        total_bytes=settings.gpu.memory_bytes,
        certainty_bytes=certainty_bytes(shape, settings, peak.bytes, estimate.bytes if subtracted else 0),
    )


# From here on the sampler's buffers do not follow the number of multiprocessors (`sampler_peak`).
_BLIND_TO_PROCESSORS = (0, 26, 0)
Kernels = tuple[tuple[int, int] | None, int]
_FIRST_OF: dict[Kernels, Gpu] = {}


@lru_cache(maxsize=1024)
def _kernels_of(gpu: Gpu, counts: bool) -> Kernels:
    """What of a GPU decides about activations and graphs; the first of each kind stands for all of them."""
    key = (gpu.compute_capability, gpu.multiprocessors if counts else 0)
    _FIRST_OF.setdefault(key, gpu)
    return key


@lru_cache(maxsize=8192)
def _inside_torch(
    shape: ModelShape, kernels: Kernels, version: tuple[int, int, int], tensor: int, pipeline: int, expert: bool,
    batched: int, requests: int, max_model_len: int, eager: bool, drafted: int, last: bool,
) -> tuple[Reserve, Reserve, Reserve, Reserve]:  # fmt: skip
    """(activation peak, graphs as estimated, graphs as captured, sampler warm-up), whatever memory there is."""
    settings = EngineSettings(
        version=version, gpu=_FIRST_OF[kernels], tensor=tensor, pipeline=pipeline, expert=expert, utilization=1.0,
        max_num_batched_tokens=batched, max_num_seqs=requests, max_model_len=max_model_len, enforce_eager=eager,
        speculative_tokens=drafted, last_stage=last,
    )  # fmt: skip
    return activation(shape, settings), *graphs(shape, settings), warmup(shape, settings)


@lru_cache(maxsize=8192)
def _outside_torch(
    experts: bool, gpu: Gpu, version: tuple[int, int, int], tensor: int, pipeline: int, eager: bool
) -> tuple[Reserve, Reserve]:
    """(memory outside torch, context and collectives)."""
    settings = EngineSettings(
        version=version, gpu=gpu, tensor=tensor, pipeline=pipeline, utilization=1.0, max_num_batched_tokens=0,
        max_num_seqs=0, max_model_len=0, enforce_eager=eager,
    )  # fmt: skip
    return non_torch(settings), context(experts, settings)


def subtracts_graphs(settings: EngineSettings) -> bool:
    """Whether this release takes its estimate of the CUDA graphs out of the KV cache (from 0.21 on)."""
    return settings.version >= (0, 21, 0) and settings.gpu.vendor == "NVIDIA"
