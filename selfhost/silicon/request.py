"""Model, split and GPU -> the request to the child, in words of aiconfigurator-core 0.12.0; or why there is none."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from selfhost.errors import UnsupportedError
from selfhost.throughput.work import Work
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion
    from selfhost.model.spec import ModelSpec

# GPU of the catalogue -> system that has tables in the package. The 40 GB A100, H800 and H20 have other bandwidths or
# other peaks than the boards that were measured, so they have none; h100_pcie, a100_pcie, a30 and l4 are there empty.
SYSTEMS = {
    "a100-sxm-80gb": "a100_sxm",
    "arc-pro-b60-24gb": "b60",
    "b200-sxm-180gb": "b200_sxm",
    "b300-sxm-288gb": "b300_sxm",
    "gb200-186gb": "gb200",
    "gb300-279gb": "gb300",
    "h100-sxm-80gb": "h100_sxm",
    "h200-sxm-141gb": "h200_sxm",
    "l40s-48gb": "l40s",
    "rtx-pro-6000-server-96gb": "rtx_pro_6000_server",
}
BACKENDS = ("sglang", "vllm")
# Weight format -> the package's names for dense products and for experts (sdk/common.py, GEMMQuantMode, MoEQuantMode).
_DENSE = {
    None: "bfloat16",
    "fp8": "fp8",
    "fp8-block": "fp8_block",
    "int8": "sq",
    "gptq-int8": "int8_wo",
    "w8a16": "int8_wo",
    "awq-int4": "int4_wo",
    "gptq-int4": "int4_wo",
    "w4a16": "int4_wo",
    "autoround-int4": "int4_wo",
    "nvfp4": "nvfp4",
}
_EXPERTS = {
    None: "bfloat16",
    "fp8": "fp8",
    "fp8-block": "fp8_block",
    "awq-int4": "int4_wo",
    "gptq-int4": "int4_wo",
    "w4a16": "int4_wo",
    "nvfp4": "nvfp4",
    "mxfp4": "w4a16_mxfp4",
}
# Ours: vLLM 0.24.0's table of block-wise FP8 products is not used. With it one token of Qwen3-8B takes 37 ms on a B200,
# 60 ms on an L40S and 11 ms on an H100, by the same package's bf16 tables, which read twice as much, 22 ms on the L40S
# and 6.5 ms on the H100; by its table of SGLang 5 ms on the H100 (2026-11). It seems to hold launches that a CUDA graph
# does not have.
_NOT_USED = frozenset({("vllm", "fp8-block")})
_OTHER = "Leave out --provider silicon for the roofline."


def request_of(
    config: Mapping[str, object],
    spec: ModelSpec,
    work: Work,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
    *,
    cache_format: str,
) -> dict[str, Any]:
    """What the child is asked, without the points.

    Args:
        config: config.json of the model.
        spec: the same, parsed.
        work: what a step does, which says the formats of dense matrices and of experts.
        workload: the engine's knobs.
        split: how the model is divided.
        gpu: the kind of GPU.
        engine: the release that is asked for.
        cache_format: dtype of the KV cache.

    Raises:
        UnsupportedError: the tables have no such GPU, engine, format or kind of step.
    """
    system = SYSTEMS.get(gpu.id)
    if system is None:
        raise UnsupportedError(
            f"The kernel tables have no {gpu.name}.", hint=f"{_OTHER} They have {', '.join(SYSTEMS)}."
        )
    if engine.engine not in BACKENDS:
        raise UnsupportedError(
            f"The kernel tables have no {engine.engine}.", hint=f"{_OTHER} They have vllm and sglang."
        )
    if workload.speculative_tokens:
        raise UnsupportedError("The kernel tables are not used with speculative decoding.", hint=_OTHER)
    experts = any(stage.routed for stage in work.stages)
    if experts and split.data > 1 and engine.engine == "sglang" and not split.expert:
        raise UnsupportedError(
            "The kernel tables have no experts divided over data-parallel copies.", hint=_OTHER
        )
    dense = _dense_scheme(work)
    if (engine.engine, dense) in _NOT_USED:
        raise UnsupportedError(
            f"The kernel tables have {dense} products of {engine.engine} slower than bf16, so they are not used.",
            hint=_OTHER,
        )
    data = split.data if experts else 1  # copies of a dense model share nothing
    ranks = split.tensor * data
    return {
        "model": spec.id,
        "config": plain(config),
        "system": system,
        "backend": engine.engine,
        "tensor": split.tensor,
        "pipeline": split.pipeline,
        "data": data,
        "expert_tensor": 1 if split.expert or not experts else ranks,
        "expert_parallel": ranks if split.expert and experts else 1,
        "dense_format": _format(_DENSE, dense, "dense products"),
        "expert_format": _format(_EXPERTS, _expert_scheme(work), "experts"),
        "cache_format": "fp8" if cache_format.startswith("fp8") else "bfloat16",
    }


def plain(config: Mapping[str, object]) -> dict[str, Any]:
    """config.json without what it says of quantization: formats are told apart from it, as we read them."""
    found: dict[str, Any] = copy.deepcopy(dict(config))
    for part in (found, *(inner for inner in found.values() if isinstance(inner, dict))):
        for key in ("quantization_config", "compression_config"):
            part.pop(key, None)
    return found


def _format(names: Mapping[str | None, str], scheme: str | None, of: str) -> str:
    if scheme not in names:
        raise UnsupportedError(f"The kernel tables have no {of} in {scheme}.", hint=_OTHER)
    return names[scheme]


def _dense_scheme(work: Work) -> str | None:
    """Format of most of what every token passes."""
    sizes: dict[str | None, int] = {}
    for stage in work.stages:
        for dense in stage.dense:
            sizes[dense.scheme] = sizes.get(dense.scheme, 0) + dense.weights
    return max(sizes, key=lambda scheme: sizes[scheme]) if sizes else None


def _expert_scheme(work: Work) -> str | None:
    for stage in work.stages:
        for routed in stage.routed:
            return routed.scheme
    return None
