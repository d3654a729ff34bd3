"""Kimi Linear and the text part of Kimi K3: Kimi delta attention, every fourth layer latent attention, experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from selfhost.attention import KimiDeltaState, LatentAttention
from selfhost.model.config import Config
from selfhost.model.families._mamba import state_dtype
from selfhost.model.families._rope import table
from selfhost.model.families._stack import Layer, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    experts_item,
    gated_mlp,
    norm,
    router,
    row,
    whole,
)
from selfhost.model.modules import Item, Matrix, Part, Vector

# vLLM pads a rank's share of the experts up to this, unless the configuration says otherwise
# (models/kimi_k3/nvidia/model.py:595-605).
_LEAST_SHARE = 256


def delta_attention(section: Config, hidden: int) -> tuple[Item, ...]:
    """One Kimi delta attention (layers/mamba/gdn/kimi_gdn_linear_attn.py:180-310).

    q, k, v, the gates' inputs and the step sizes stand in one matrix, of which the decay's input is replicated.
    """
    heads, dim = section.int("num_heads"), section.int("head_dim")
    full_gate = section.bool("use_full_rank_gate", default=False)
    kernel = section.int("short_conv_kernel_size")
    mixed = [Part(name=f"self_attn.{name}", units=heads, unit=dim) for name in ("q_proj", "k_proj", "v_proj")]
    if full_gate:
        mixed.append(Part(name="self_attn.g_proj", units=heads, unit=dim))
    mixed += [Part(name="self_attn.f_a_proj", units=1, unit=dim), Part(name="self_attn.b_proj", units=heads)]
    width = heads * dim
    gate: tuple[Item, ...] = ()
    if not full_gate:
        gate = (
            whole("self_attn.g_a_proj", dim, hidden),
            column("self_attn.g_b_proj", width, dim, units=heads),
        )
    return (
        Matrix(name="self_attn.in_proj_qkvgfab", parts=tuple(mixed), inputs=hidden, division="column"),
        column("self_attn.f_b_proj", width, dim, units=heads),
        Vector(name="self_attn.conv1d", units=heads, unit=3 * dim * kernel, divided=True, dtype="float32"),
        Vector(name="self_attn.dt_bias", units=heads, unit=dim, divided=True, dtype="float32"),
        Vector(name="self_attn.A_log", units=heads, divided=True, dtype="float32"),
        norm("self_attn.o_norm", dim),
        row("self_attn.o_proj", hidden, width),
        *gate,
    )


def latent_attention(config: Config, hidden: int, heads: int) -> tuple[Item, ...]:
    """Latent attention (models/kimi_k3/nvidia/mla.py:215-300), K3's with an output gate in the first projection."""
    rank, rope = config.int("kv_lora_rank"), config.int("qk_rope_head_dim")
    nope, value = config.int("qk_nope_head_dim"), config.int("v_head_dim")
    query_rank = config.int("q_lora_rank", default=None)
    gated = config.bool("mla_use_output_gate", default=False)
    items: list[Item] = []
    if query_rank is None:
        items += [
            column("self_attn.q_proj", heads * (nope + rope), hidden, units=heads),
            whole("self_attn.kv_a_proj_with_mqa", rank + rope, hidden),
        ]
        if gated:
            items.append(column("self_attn.g_proj", heads * value, hidden, units=heads))
    else:
        parts = [
            Part(name="self_attn.q_a_proj", units=1, unit=query_rank),
            Part(name="self_attn.kv_a_proj_with_mqa", units=1, unit=rank + rope),
        ]
        if gated:
            parts.append(Part(name="self_attn.g_proj", units=heads, unit=value))
        items += [
            Matrix(name="self_attn.fused_qkv_a_g_proj", parts=tuple(parts), inputs=hidden, division="column"),
            norm("self_attn.q_a_layernorm", query_rank),
            column("self_attn.q_b_proj", heads * (nope + rope), query_rank, units=heads),
        ]
    return (
        *items,
        norm("self_attn.kv_a_layernorm", rank),
        column("self_attn.kv_b_proj", heads * (nope + value), rank, units=heads),
        row("self_attn.o_proj", hidden, heads * value),
    )


def _experts(config: Config, hidden: int) -> tuple[Item, ...]:
    count = config.int("num_experts", maximum=1 << 16)
    inner = config.int("moe_intermediate_size")
    latent = config.int("routed_expert_hidden_size", default=None)
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    name = "block_sparse_moe"
    routed = experts_item(
        f"{name}.experts", count, latent or hidden, inner, names=("w1", "w3", "w2"),
        activation=config.str("hidden_act", default="silu"),
    )  # fmt: skip
    items: list[Item] = [
        router(f"{name}.gate", count, hidden),
        Vector(name=f"{name}.gate.e_score_correction_bias", units=count, dtype="float32"),
        replace(
            routed, least_per_rank=config.int("min_moe_intermediate_per_partition", default=_LEAST_SHARE)
        ),
    ]
    if latent:
        # K3's own MXFP4 checkpoints quantize the routed experts alone (vLLM 0.32 models/config.py:414-444).
        section = config.data.get("quantization_config")
        packed = isinstance(section, Mapping) and section.get("format") == "mxfp4-pack-quantized"
        items += [
            whole(f"{name}.routed_expert_down_proj", latent, hidden, quantizable=not packed),
            whole(f"{name}.routed_expert_up_proj", hidden, latent, quantizable=not packed),
        ]
        if config.bool("latent_moe_use_norm", default=False):
            items.append(norm(f"{name}.routed_expert_norm", latent))
    if shared:
        items += gated_mlp(f"{name}.shared_experts", hidden, inner * shared)
    return tuple(items)


def kimi_linear(config: Config, *, prefix: str = "model", engine_prefixes: tuple[str, ...] = ()) -> Draught:
    """KimiLinearForCausalLM, and Kimi K3's text section."""
    hidden = config.int("hidden_size")
    heads = config.int("num_attention_heads", maximum=1 << 16)
    if not config.has("kv_lora_rank"):
        raise config.error("kv_lora_rank", "is missing")
    linear = config.section("linear_attn_config")
    delta_layers = {index - 1 for index in linear.ints("kda_layers", minimum=1)}
    linear.ints("full_attn_layers", minimum=1)
    sizes = Heads(
        hidden=hidden,
        layers=config.layers(),
        heads=heads,
        kv_heads=config.int("num_key_value_heads", default=heads, maximum=1 << 16),
        head_dim=config.int("qk_nope_head_dim") + config.int("qk_rope_head_dim"),
        vocab=config.int("vocab_size"),
        positions=config.int("max_position_embeddings", default=None)
        or config.int("model_max_length", default=4096),
    )
    inner = config.int("intermediate_size")
    routes_at_all = config.has("num_experts")
    first = config.int("first_k_dense_replace", default=0, minimum=0)
    frequency = config.int("moe_layer_freq", default=1, maximum=1 << 16)
    residuals = config.has("attn_res_block_size")

    def build(delta: bool, sparse: bool) -> tuple[Item, ...]:
        mix = delta_attention(linear, hidden) if delta else latent_attention(config, hidden, heads)
        feed = _experts(config, hidden) if sparse else gated_mlp("mlp", hidden, inner)
        return (
            *mix,
            *feed,
            norm("layer_norms", hidden, copies=2),
            *(_residual(hidden, copies=2) if residuals else ()),
        )

    items = same_items(build)
    latent = LatentAttention(
        rank=config.int("kv_lora_rank"), rope_dim=config.int("qk_rope_head_dim"),
        nope_dim=config.int("qk_nope_head_dim"),
    )  # fmt: skip
    full_gate = linear.bool("use_full_rank_gate", default=False)
    state = KimiDeltaState(
        heads=linear.int("num_heads"), head_dim=linear.int("head_dim"),
        conv_kernel=linear.int("short_conv_kernel_size"),
        state_dtype=state_dtype(config, "mamba_ssm_dtype", default="auto"),
        flash_prefill=full_gate and linear.has("gate_lower_bound") and linear.int("head_dim") == 128,
    )  # fmt: skip

    def layer(index: int) -> Layer:
        sparse = routes_at_all and index >= first and index % frequency == 0
        delta = index in delta_layers
        return items(delta, sparse), (state,) if delta else (latent,)

    rotary = ()
    if not config.bool("mla_use_nope", default=False):
        rotary = (table(config, config.int("qk_rope_head_dim"), sizes.positions),)  # type: ignore[assignment]
    final: tuple[Item, ...] = (norm("norm", hidden), *(_residual(hidden, copies=1) if residuals else ()))
    return stack(
        config,
        sizes,
        layer,
        prefix=prefix,
        engine_prefixes=engine_prefixes,
        intermediate=inner,
        experts_per_token=config.int("num_experts_per_token") if routes_at_all else 0,
        buffers=rotary,
        final=final,
    )


def _residual(hidden: int, *, copies: int) -> tuple[Item, ...]:
    """Norm and weights over earlier layers' outputs, of attention and of the MLP, and once at the end."""
    return (
        norm("attention_residual_norms", hidden, copies=copies),
        Vector(name="attention_residual_proj", units=hidden, copies=copies),
    )


ARCHITECTURES: dict[str, Builder] = {"KimiLinearForCausalLM": kimi_linear}
