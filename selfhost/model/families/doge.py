"""Doge, through vLLM's transformers backend: dynamic-mask attention, learned residual scales, experts of one row each.

Modules of transformers 5.19 (models/doge/modeling_doge.py), divided by its tensor-parallel plan.
"""

from __future__ import annotations

import math

from selfhost.model.config import Config
from selfhost.model.families._stack import attention_kind, cache_window, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    projections,
    qk_norms,
    read_heads,
    row,
)
from selfhost.model.families.transformers_backend import frequencies
from selfhost.model.modules import Embedding, Item, Vector


def _feed(config: Config, sizes: Heads, inner: int, *, bias: bool) -> tuple[Item, ...]:
    """A gated MLP, beside which the mixtures look rows up in two tables by a product of keys."""
    if not config.bool("is_moe", default=False):
        return gated_mlp("mlp", sizes.hidden, inner, bias=bias)
    count = config.int("num_experts", default=16384, maximum=1 << 24)
    keys = math.isqrt(count)
    return (
        column("mlp.gate_proj", inner, sizes.hidden, bias=bias),
        column("mlp.up_proj", inner, sizes.hidden, bias=bias),
        row("mlp.down_proj", sizes.hidden, inner, bias=bias),
        column("mlp.router_gate", 2 * keys, sizes.hidden),
        Embedding(name="mlp.down_embed", rows=count, width=sizes.hidden, divided=False),
        Embedding(name="mlp.up_embed", rows=count, width=sizes.hidden, divided=False),
    )


def doge(config: Config) -> Draught:
    """DogeForCausalLM. The mask's own windows are not those of the cache, which keeps every token."""
    sizes = read_heads(config)
    inner = config.int("intermediate_size")
    bias = config.bool("attention_bias", default=False)
    items: tuple[Item, ...] = (
        *projections(sizes, bias=bias, output_bias=bias),
        *qk_norms(sizes, "head"),
        row("self_attn.dt_proj", sizes.kv_heads, sizes.kv_heads * sizes.head_dim, bias=bias),
        Vector(name="self_attn.A", units=sizes.kv_heads),
        *_feed(config, sizes, inner, bias=config.bool("mlp_bias", default=False)),
        norm("layer_norms", sizes.hidden, copies=2),
        Vector(name="residual_scales", units=sizes.hidden, copies=2),
    )
    kept = (attention_kind(config, sizes, cache_window(config)),)
    return stack(
        config,
        sizes,
        lambda index: (items, kept),
        intermediate=inner,
        buffers=frequencies(config, sizes.head_dim),
    )


ARCHITECTURES: dict[str, Builder] = {"DogeForCausalLM": doge}
