"""Sarvam and Param-2: Ling-like mixtures of experts, one of them with latent attention.

vLLM 0.32 models/sarvam.py and param2moe.py.
"""

from __future__ import annotations

from selfhost.attention import LatentAttention
from selfhost.model.config import Config
from selfhost.model.families._rope import table
from selfhost.model.families._stack import Layer, grouped, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    column,
    gated_mlp,
    norm,
    projections,
    qk_norms,
    read_heads,
    routed_mlp,
    row,
    whole,
)
from selfhost.model.families.deepseek import latent_buffers, read_latent_heads
from selfhost.model.families.moe_shared import bailing_moe
from selfhost.model.modules import Item


def _experts(
    config: Config, hidden: int, *, router_dtype: str | None, total_shared: bool
) -> tuple[Item, ...]:
    """Router, experts and shared experts.

    Args:
        config: the model's configuration.
        hidden: its hidden size.
        router_dtype: the router's element type where it is not the model's.
        total_shared: `moe_shared_expert_intermediate_size` is of all shared experts together, not of one.
    """
    count, inner = config.int("num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("num_shared_experts", default=1, minimum=0, maximum=1 << 10)
    width = config.int("moe_shared_expert_intermediate_size", default=None)
    corrected = config.bool("moe_router_enable_expert_bias", default=True)
    return routed_mlp(
        hidden,
        count,
        inner,
        router_dtype=router_dtype,
        correction="gate.e_score_correction_bias" if corrected else None,
        shared=width if shared and width and total_shared else (width or inner) * shared,
    )


def sarvam_mla(config: Config) -> Draught:
    """SarvamMLAForCausalLM: latent attention whose A projections are not fused."""
    sizes = read_latent_heads(config)
    rank, query = config.int("kv_lora_rank"), config.int("q_lora_rank", default=None)
    nope, rope, value = (
        config.int("qk_nope_head_dim"),
        config.int("qk_rope_head_dim"),
        config.int("v_head_dim"),
    )
    queries = sizes.heads * sizes.head_dim
    attention: tuple[Item, ...] = (
        whole("self_attn.kv_a_proj_with_mqa", rank + rope, sizes.hidden),
        norm("self_attn.kv_a_layernorm", rank),
        column("self_attn.kv_b_proj", sizes.heads * (nope + value), rank, units=sizes.heads),
        row("self_attn.o_proj", sizes.hidden, sizes.heads * value),
    )
    if query is None:
        attention = (column("self_attn.q_proj", queries, sizes.hidden, units=sizes.heads), *attention)
    else:
        attention = (
            whole("self_attn.q_a_proj", query, sizes.hidden),
            norm("self_attn.q_a_layernorm", query),
            column("self_attn.q_b_proj", queries, query, units=sizes.heads),
            *attention,
        )
    inner = config.int("intermediate_size", default=16384)
    common = (*attention, norm("layer_norms", sizes.hidden, copies=2))
    dense = (*common, *gated_mlp("mlp", sizes.hidden, inner))
    routed = dense
    if config.has("num_experts"):
        routed = (*common, *_experts(config, sizes.hidden, router_dtype=None, total_shared=False))
    first = config.int("first_k_dense_replace", default=1, minimum=0)
    every = config.int("moe_layer_freq", default=1)
    kept = LatentAttention(rank=rank, rope_dim=rope, nope_dim=nope)

    def layer(index: int) -> Layer:
        return (routed if index >= first and (index - first) % every == 0 else dense), (kept,)

    return stack(
        config,
        sizes,
        layer,
        intermediate=inner,
        buffers=latent_buffers(config, sizes),
        experts_per_token=_experts_per_token(config),
    )


def _experts_per_token(config: Config) -> int:
    return config.int("num_experts_per_tok") if config.has("num_experts") else 0


def param2_moe(config: Config) -> Draught:
    """Param2MoEForCausalLM: an fp32 router, and one size for all shared experts together."""
    sizes = read_heads(config)
    inner = config.int("intermediate_size")
    common: tuple[Item, ...] = (
        *projections(sizes, name="attention.qkv_proj", out="o_proj",
                     parts=("query_key_value", "query_key_value", "query_key_value"),
                     bias=config.bool("use_qkv_bias", default=False),
                     output_bias=config.bool("use_bias", default=False)),
        *(qk_norms(sizes, "head", name="attention") if config.bool("use_qk_norm", default=False) else ()),
        norm("layer_norms", sizes.hidden, copies=2),
    )  # fmt: skip
    dense = (*common, *gated_mlp("mlp", sizes.hidden, inner))
    routed = dense
    if config.has("num_experts"):
        routed = (*common, *_experts(config, sizes.hidden, router_dtype="float32", total_shared=True))
    first = config.int("first_k_dense_replace", default=1, minimum=0)
    # The share that rotates is taken twice: before `get_rope`, and inside it (param2moe.py:160-175).
    rotating = max(1, int(sizes.head_dim * config.float("partial_rotary_factor", default=1.0)))
    kept = (grouped(sizes.kv_heads, sizes.head_dim),)
    return stack(
        config, sizes, lambda index: (routed if index >= first else dense, kept), intermediate=inner,
        buffers=(table(config, rotating, sizes.positions),), experts_per_token=_experts_per_token(config),
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {
    "SarvamMLAForCausalLM": sarvam_mla,
    "SarvamMoEForCausalLM": bailing_moe,
    "Param2MoEForCausalLM": param2_moe,
}
