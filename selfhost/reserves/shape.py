"""The plain numbers of a model that decide what the engine needs beside weights and KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.model.spec import ImageEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Plain numbers of a model, unsharded. Widths are elements per token.

    `query_width` is heads x head size, `kv_width` KV heads x head size; for latent attention `query_width` is what the
    query projection makes and `latent_up_width` what kv_b_proj does. `recurrent_width` is the widest projection of a
    Mamba, gated-delta-net or linear layer. MoE fields are 0 for dense models.
    """

    architecture: str
    hidden_size: int
    num_layers: int
    query_width: int
    kv_width: int
    intermediate_size: int
    vocab_size: int
    dtype_bytes: int = 2
    num_experts: int = 0
    experts_per_token: int = 0
    moe_intermediate_size: int = 0
    shared_intermediate_size: int = 0
    latent_up_width: int = 0
    recurrent_width: int = 0
    quantization: str | None = None
    pooling: bool = False
    hybrid: bool = False
    vision: ImageEncoder | None = None
