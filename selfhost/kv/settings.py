"""What decides the shape of the KV cache, apart from the model's layers and the memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfhost.attention import Attention

LayerGroup = tuple[int, Attention]
"""(number of layers, what each keeps)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvSettings:
    """The deployment, as far as the shape of the KV cache depends on it.

    Attributes:
        tensor: tensor-parallel size.
        kv_dtype: what the user asks for: auto, bf16, fp16, fp8, fp8_e4m3, fp8_e5m2, nvfp4 or fp4.
        declared_kv_dtype: what the checkpoint declares: fp8, fp8_e4m3 or nvfp4 (ModelOpt `kv_cache_quant_algo`,
            compressed-tensors `kv_cache_scheme`); None where it declares nothing.
        model_dtype: canonical dtype of the activations.
        vendor: the GPU's.
        compute_capability: (major, minor) of an NVIDIA GPU; (9, 0) stands in where no GPU is named.
        prefix_caching: what the user says, None for the engine's default; decides how many recurrent states a
            request keeps.
        block_size: the user's own block size in tokens; None for the engine's choice.
        speculative_tokens: tokens drafted per step.
        engine: (major, minor) of vLLM.
    """

    tensor: int = 1
    kv_dtype: str = "auto"
    declared_kv_dtype: str | None = None
    model_dtype: str = "bfloat16"
    vendor: Literal["nvidia", "amd"] = "nvidia"
    compute_capability: tuple[int, int] = (9, 0)
    prefix_caching: bool | None = None
    block_size: int | None = None
    speculative_tokens: int = 0
    engine: tuple[int, int] = (0, 32)
