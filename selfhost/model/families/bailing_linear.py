"""Ling and Ring 2.5 and Ling 3: most layers linear or Kimi delta attention, the last of each group latent attention.

vLLM 0.32 models/bailing_moe_linear.py, layers/mamba/linear/bailing_linear_attn.py and models/bailing_moe_v3.py.
"""

from __future__ import annotations

from selfhost.attention import Attention, KimiDeltaState, LatentAttention, LinearState
from selfhost.model.config import Config
from selfhost.model.families._rope import parameters, table
from selfhost.model.families._stack import Layer, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    qkv,
    routed_mlp,
    row,
)
from selfhost.model.families.deepseek import latent_attention
from selfhost.model.modules import Buffer, Item, Matrix, Part, Vector

# What vLLM assumes of the latent attention where config.json is silent (bailing_moe_linear.py:94-105).
_LATENT = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}


def _sizes(config: Config) -> Heads:
    heads = config.int("num_attention_heads", maximum=1 << 16)
    return Heads(
        hidden=config.int("hidden_size"),
        layers=config.layers(),
        heads=heads,
        kv_heads=heads,
        head_dim=config.int("head_dim", default=max(1, config.int("hidden_size") // heads)),
        vocab=config.int("vocab_size"),
        positions=config.int("max_position_embeddings", default=8192),
    )


def _latent(config: Config) -> LatentAttention:
    return LatentAttention(
        rank=config.int("kv_lora_rank"),
        rope_dim=config.int("qk_rope_head_dim"),
        nope_dim=config.int("qk_nope_head_dim"),
    )


def _latent_table(config: Config, positions: int) -> Buffer:
    """The latent layers rotate all of their rope part, whatever share the linear ones rotate."""
    given = parameters(config)
    data = {
        key: value for key, value in given.data.items() if key not in ("partial_rotary_factor", "rope_dim")
    }
    return table(config, config.int("qk_rope_head_dim"), positions, given=Config(data, given.path))


def _experts(
    config: Config, hidden: int, *, router_dtype: str, corrected: bool, biased: bool
) -> tuple[Item, ...]:
    count, inner = config.int("num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    shared_size = config.int("moe_shared_expert_intermediate_size", default=inner) * shared
    return routed_mlp(
        hidden,
        count,
        inner,
        router_dtype=router_dtype,
        correction="gate.expert_bias" if corrected else None,
        shared=shared_size,
        shared_bias=biased,
    )


def _linear_attention(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """As many KV as query heads, a gate of the output and a norm over groups of it."""
    width = sizes.heads * sizes.head_dim
    biased = config.bool("use_bias", default=False)
    normed = config.bool("use_qk_norm", default=False)
    return (
        qkv(
            "self_attn.query_key_value",
            sizes.hidden,
            sizes.heads,
            sizes.heads,
            sizes.head_dim,
            bias=biased or config.bool("use_qkv_bias", default=False),
        ),
        *((norm("self_attn.qk_layernorm", sizes.head_dim, copies=2),) if normed else ()),
        column("self_attn.g_proj", width, sizes.hidden, units=sizes.heads),
        row("self_attn.dense", sizes.hidden, width, bias=biased),
        Vector(name="self_attn.g_norm", units=sizes.heads, unit=sizes.head_dim, divided=True),
    )


def bailing_v25(config: Config) -> Draught:
    """BailingMoeV2_5ForCausalLM: lightning attention in all layers of a group but the last."""
    config = config.filled(_LATENT)
    sizes = _sizes(config)
    every = config.int("layer_group_size", default=1, minimum=0)
    inner = config.int("intermediate_size")
    biased = config.bool("use_bias", default=False)
    first = config.int("first_k_dense_replace", default=0, minimum=0)
    routes_at_all = config.int("num_experts", maximum=1 << 16) > 1
    full_router = config.str("router_dtype", default="fp32") == "fp32"
    router_dtype = "float32" if full_router else "bfloat16"
    corrected = config.bool("moe_router_enable_expert_bias", default=False)

    def build(linear: bool, routed: bool) -> tuple[Item, ...]:
        feed: tuple[Item, ...] = gated_mlp("mlp", sizes.hidden, inner, bias=biased)
        if routed:
            feed = _experts(
                config, sizes.hidden, router_dtype=router_dtype, corrected=corrected, biased=biased
            )
        attention = _linear_attention(config, sizes) if linear else latent_attention(config, sizes)
        return (*attention, *feed, norm("layer_norms", sizes.hidden, copies=2))

    items = same_items(build)
    state: tuple[Attention, ...] = (LinearState(heads=sizes.heads, head_dim=sizes.head_dim),)
    latent: tuple[Attention, ...] = (_latent(config),)

    def layer(index: int) -> Layer:
        linear = every > 0 and (index + 1) % every != 0
        return items(linear, routes_at_all and index >= first), state if linear else latent

    kinds = {every > 0 and (index + 1) % every != 0 for index in range(sizes.layers)}
    buffers = ((table(config, sizes.head_dim, sizes.positions),) if True in kinds else ()) + (
        (_latent_table(config, sizes.positions),) if False in kinds else ()
    )
    return stack(
        config, sizes, layer, embed="word_embeddings", tied=False, intermediate=inner, buffers=buffers,
        experts_per_token=config.int("num_experts_per_tok", default=8) if routes_at_all else 0,
    )  # fmt: skip


def _delta_attention(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """Kimi delta attention whose gates have full rank."""
    heads, dim, hidden = sizes.heads, sizes.head_dim, sizes.hidden
    kernel = config.int("short_conv_kernel_size", default=4, maximum=1 << 10)
    if not config.bool("no_kda_lora", default=False):
        raise config.error("no_kda_lora", "is not true; vLLM runs this model with gates of full rank only")
    mixed = tuple(
        Part(name=f"self_attn.{name}", units=heads, unit=dim) for name in ("q_proj", "k_proj", "v_proj")
    )
    return (
        # With the step sizes, or beside them where they stay unquantized (bailing_moe_v3.py:668-696).
        Matrix(name="self_attn.qkv_proj", parts=mixed, inputs=hidden, division="column"),
        column("self_attn.b_proj", heads, hidden),
        column("self_attn.f_proj", heads * dim, hidden, units=heads),
        column("self_attn.g_proj", heads * dim, hidden, units=heads),
        Vector(
            name="self_attn.conv1d", units=heads, unit=dim * kernel, divided=True, dtype="float32", copies=3
        ),
        Vector(name="self_attn.dt_bias", units=heads, unit=dim, divided=True, dtype="float32"),
        Vector(name="self_attn.A_log", units=heads, divided=True, dtype="float32"),
        norm("self_attn.o_norm", dim),
        row("self_attn.o_proj", hidden, heads * dim),
    )


def bailing_v3(config: Config) -> Draught:
    """BailingMoeV3ForCausalLM (Ling 3): Kimi delta attention, latent attention with an output gate."""
    config = config.filled(_LATENT)
    sizes = _sizes(config)
    every = config.int("layer_group_size", maximum=1 << 16)
    inner = config.int("intermediate_size")
    routes_at_all = config.has("num_experts")
    first = config.int("first_k_dense_replace", minimum=0) if routes_at_all else sizes.layers
    gating = config.str("gated_attention_proj_granularity_type", default="")
    gates = {"head_wise": 1, "element_wise": config.int("v_head_dim")}.get(gating, 0)

    def build(delta: bool, routed: bool) -> tuple[Item, ...]:
        attention = _delta_attention(config, sizes) if delta else latent_attention(config, sizes)
        if not delta and gates:
            gate = column("self_attn.g_proj", sizes.heads * gates, sizes.hidden, units=sizes.heads)
            attention = (*attention, gate)
        feed: tuple[Item, ...] = gated_mlp("mlp", sizes.hidden, inner)
        if routed:
            feed = _experts(config, sizes.hidden, router_dtype="float32", corrected=True, biased=False)
        return (*attention, *feed, norm("layer_norms", sizes.hidden, copies=2))

    items = same_items(build)
    state: tuple[Attention, ...] = (
        KimiDeltaState(
            heads=sizes.heads,
            head_dim=sizes.head_dim,
            conv_kernel=config.int("short_conv_kernel_size", default=4, maximum=1 << 10),
        ),
    )
    latent: tuple[Attention, ...] = (_latent(config),)

    def layer(index: int) -> Layer:
        # The layers behind the last whole group are latent too (bailing_moe_v3.py:131-137).
        delta = (index + 1) % every != 0 and index < sizes.layers // every * every
        return items(delta, index >= first), state if delta else latent

    return stack(
        config,
        sizes,
        layer,
        embed="word_embeddings",
        tied=False,
        intermediate=inner,
        buffers=(_latent_table(config, sizes.positions),),
        experts_per_token=config.int("num_experts_per_tok", default=8) if routes_at_all else 0,
    )


ARCHITECTURES: dict[str, Builder] = {
    "BailingMoeV2_5ForCausalLM": bailing_v25,
    "BailingMoeV3ForCausalLM": bailing_v3,
}
