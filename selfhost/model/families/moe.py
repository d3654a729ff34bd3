"""Mixture-of-experts decoders with grouped-query attention: Mixtral, Qwen MoE, GLM-4.5, MiniMax-M2, gpt-oss."""

from __future__ import annotations

from collections.abc import Callable

from selfhost.model.config import Config
from selfhost.model.families._rope import table
from selfhost.model.families._stack import draft_layers, grouped, grouped_layers, layer_types, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    experts_item,
    gated_mlp,
    norm,
    projections,
    qk_norms,
    read_heads,
    rope_buffer,
    routed_mlp,
    router,
    whole,
)
from selfhost.model.modules import Item, Vector


def attention(
    sizes: Heads, *, bias: bool = False, output_bias: bool = False, qk_norm: str | None = None
) -> tuple[Item, ...]:
    """QKV and output projection, with norms as `qk_norms` holds them."""
    return (
        *projections(sizes, bias=bias, output_bias=output_bias),
        *(qk_norms(sizes, qk_norm) if qk_norm else ()),
    )


def mixtral(config: Config) -> Draught:
    """MixtralForCausalLM: every layer routes."""
    sizes = read_heads(config)
    inner = config.int("intermediate_size")
    count = config.int("num_local_experts", maximum=1 << 16)
    items = (
        *attention(sizes),
        router("block_sparse_moe.gate", count, sizes.hidden),
        experts_item("block_sparse_moe.experts", count, sizes.hidden, inner, names=("w1", "w3", "w2")),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: items), intermediate=inner,
        experts_per_token=config.int("num_experts_per_tok"),
    )  # fmt: skip


def _sparse(config: Config) -> Callable[[int], bool]:
    """Which layers route, in Qwen's fields."""
    dense = set(config.ints("mlp_only_layers", default=()))
    step = config.int("decoder_sparse_step", default=1, maximum=1 << 16)
    return lambda index: index not in dense and (index + 1) % step == 0


def qwen_moe(config: Config, *, biased: bool, qk_norm: str | None) -> Draught:
    """Qwen2Moe and Qwen3Moe: a router, experts, and (Qwen2) one gated shared expert."""
    sizes = read_heads(config)
    count = config.int("num_experts", "num_local_experts", maximum=1 << 16)
    inner = config.int("moe_intermediate_size")
    shared = config.int("shared_expert_intermediate_size", default=0, minimum=0)
    common = (
        *attention(sizes, bias=biased, qk_norm=qk_norm),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    sparse: tuple[Item, ...] = (
        *common,
        # Qwen3's gate may be quantized, where a checkpoint does not name it (models/qwen3_moe.py:170).
        whole("mlp.gate", count, sizes.hidden, quantizable=qk_norm is not None),
        experts_item("mlp.experts", count, sizes.hidden, inner),
    )
    if shared:
        sparse = (
            *sparse,
            *gated_mlp("mlp.shared_expert", sizes.hidden, shared),
            router("mlp.shared_expert_gate", 1, sizes.hidden),
        )
    routes = _sparse(config)
    needs_dense = not all(routes(index) for index in range(sizes.layers))
    dense_size = config.int("intermediate_size", default=None)
    dense: tuple[Item, ...] = ()
    if needs_dense:
        dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size")))
    return stack(
        config,
        sizes,
        grouped_layers(sizes, lambda index: sparse if routes(index) else dense),
        intermediate=dense_size or inner,
        experts_per_token=config.int("num_experts_per_tok", default=8),
    )


def qwen2_moe(config: Config) -> Draught:
    """Qwen2MoeForCausalLM: QKV biases and a shared expert."""
    return qwen_moe(config, biased=config.bool("qkv_bias", default=True), qk_norm=None)


def qwen3_moe(config: Config) -> Draught:
    """Qwen3MoeForCausalLM."""
    return qwen_moe(config, biased=config.bool("attention_bias", default=False), qk_norm="head")


def glm4_moe(config: Config) -> Draught:
    """Glm4MoeForCausalLM (GLM-4.5 to 4.7): dense layers first, then fp32 router, experts and shared experts."""
    sizes = read_heads(config)
    count = config.int("n_routed_experts", maximum=1 << 16)
    inner = config.int("moe_intermediate_size")
    shared = config.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10)
    dense_layers = config.int("first_k_dense_replace", default=1, minimum=0)
    dense_size = config.int("intermediate_size")
    common = (
        *attention(
            sizes,
            bias=config.bool("attention_bias", default=False),
            qk_norm="head" if config.bool("use_qk_norm", default=False) else None,
        ),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    dense = (*common, *gated_mlp("mlp", sizes.hidden, dense_size))
    sparse = (
        *common,
        *routed_mlp(sizes.hidden, count, inner, router_dtype="float32", correction="gate.e_score_correction_bias",
                    shared=inner * shared),
    )  # fmt: skip
    return stack(
        config,
        sizes,
        grouped_layers(sizes, lambda index: dense if index < dense_layers else sparse),
        intermediate=dense_size,
        experts_per_token=config.int("num_experts_per_tok", default=8),
        buffers=(table(config, sizes.head_dim, sizes.positions, share=0.5),),
        draft=draft_layers(config, sizes, (sparse, (grouped(sizes.kv_heads, sizes.head_dim),))),
    )


def minimax_m2(config: Config) -> Draught:
    """MiniMaxM2ForCausalLM: Q and K norms over all heads, fp32 router."""
    sizes = read_heads(config)
    count = config.int("num_local_experts", maximum=1 << 16)
    inner = config.int("intermediate_size")
    items: tuple[Item, ...] = (
        *attention(sizes, bias=config.bool("attention_bias", default=False), qk_norm="divided"),
        norm("layer_norms", sizes.hidden, copies=2),
        router("block_sparse_moe.gate", count, sizes.hidden, dtype="float32"),
        experts_item("block_sparse_moe.experts", count, sizes.hidden, inner, names=("w1", "w3", "w2")),
    )
    if config.bool("use_routing_bias", default=False):
        items = (
            *items,
            Vector(name="block_sparse_moe.e_score_correction_bias", units=count, dtype="float32"),
        )
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: items), intermediate=inner,
        experts_per_token=config.int("num_experts_per_tok"),
        buffers=(rope_buffer(sizes.positions, config.int("rotary_dim", default=sizes.head_dim)),),
    )  # fmt: skip


def gpt_oss(config: Config) -> Draught:
    """GptOssForCausalLM: biases everywhere, attention sinks, a window on every other layer."""
    sizes = read_heads(config)
    count = config.int("num_local_experts", maximum=1 << 16)
    inner = config.int("intermediate_size")
    window = config.int("sliding_window")
    layer_types(config, sizes.layers)  # a list that is too short is refused; the pattern is fixed
    windows = tuple(window if index % 2 == 0 else None for index in range(sizes.layers))
    items: tuple[Item, ...] = (
        *attention(sizes, bias=True, output_bias=True),
        Vector(name="self_attn.sinks", units=sizes.heads, divided=True),
        norm("layer_norms", sizes.hidden, copies=2),
        router("mlp.router", count, sizes.hidden, bias=True),
        experts_item("mlp.experts", count, sizes.hidden, inner, bias=True, activation="swigluoai"),
    )
    scaling = config.optional_section("rope_parameters", "rope_scaling")
    positions = sizes.positions
    if scaling is not None and scaling.has("original_max_position_embeddings"):
        positions = int(
            scaling.int("original_max_position_embeddings") * max(1.0, scaling.float("factor", default=1.0))
        )
    return stack(
        config,
        sizes,
        grouped_layers(sizes, lambda index: items, windows),
        intermediate=inner,
        experts_per_token=config.int("num_experts_per_tok", "experts_per_token", default=4),
        buffers=(rope_buffer(positions, sizes.head_dim, dtype="float32"),),
    )


ARCHITECTURES: dict[str, Builder] = {
    "MixtralForCausalLM": mixtral,
    "Qwen2MoeForCausalLM": qwen2_moe,
    "Qwen3MoeForCausalLM": qwen3_moe,
    "Glm4MoeForCausalLM": glm4_moe,
    "MiniMaxM2ForCausalLM": minimax_m2,
    "GptOssForCausalLM": gpt_oss,
}
