"""Hunyuan 4: sparse latent attention with an output gate and sinks, experts, hyper-connections without mixing.

vLLM 0.32 models/hy_v4/nvidia/{model,attention,moe,hc}.py and transformers_utils/configs/hy_v4.py.
"""

from __future__ import annotations

from selfhost.attention import Attention, LatentAttention, SparseIndexer
from selfhost.model.config import Config
from selfhost.model.families._stack import draft_layers, layer_types, per_layer, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    routed_mlp,
)
from selfhost.model.families.deepseek import indexer, latent_attention, latent_buffers, read_latent_heads
from selfhost.model.modules import Item, Vector

_SPARSE = ("deepseek_sparse_attention", "sparse_attention", "sparse", "indexed_attention")


def _mixing(hidden: int, streams: int) -> tuple[Item, ...]:
    """Gates into and out of the streams, for attention and for the MLP."""
    return (
        Vector(name="hc_fn", units=2 * streams, unit=streams * hidden, dtype="float32", copies=2),
        Vector(name="hc_base_scale", units=2 * streams + 2, dtype="float32", copies=2),
    )


def _latent(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """Latent attention with the output gate and the sinks that come with it."""
    items = latent_attention(config, sizes)
    gating = config.str("gating_type", default="elementwise")
    if gating not in ("elementwise", "headwise"):
        raise config.error("gating_type", f"is {gating[:30]!r}, not elementwise or headwise")
    if config.bool("gated_mla", default=True):
        width = config.int("v_head_dim") if gating == "elementwise" else 1
        gate = column("self_attn.linear_gate", sizes.heads * width, sizes.hidden, units=sizes.heads)
        items = (*items, gate)
    if config.bool("learnable_sink", default=True):
        name = "self_attn.learnable_sink_param"
        items = (*items, Vector(name=name, units=sizes.heads, divided=True, dtype="float32"))
    return items


def _experts(config: Config, hidden: int) -> tuple[Item, ...]:
    count, inner = config.int("n_routed_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("n_shared_experts", default=1, minimum=0, maximum=1 << 10)
    return routed_mlp(
        hidden, count, inner, router_dtype="float32", correction="expert_bias", shared=inner * shared
    )


def _layer_kinds(config: Config, layers: int) -> tuple[tuple[bool, ...], tuple[bool, ...], tuple[bool, ...]]:
    """Which layers route, which attend sparsely, and which of those have an indexer of their own."""
    every = range(layers)
    mlps = per_layer(config, "mlp_layer_types", layers)
    kinds = layer_types(config, layers) or ("",) * layers
    modes = per_layer(config, "indexer_types", layers)
    routed = tuple(index > 0 for index in every) if mlps is None else tuple(mlp != "dense" for mlp in mlps)
    sparse = tuple(kind in _SPARSE for kind in kinds)
    if modes is None:
        return routed, sparse, tuple(sparse[index] and (index == 0 or index % 4 == 1) for index in every)
    return routed, sparse, tuple(sparse[index] and modes[index] == "full" for index in every)


def hy_v4(config: Config) -> Draught:
    """HYV4ForCausalLM."""
    sizes = read_latent_heads(config)
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    mixed = config.bool("enable_ihc", default=True)
    streams = config.int("hc_mult", default=4, maximum=256)
    attention, experts = _latent(config, sizes), _experts(config, hidden)
    index_dim = config.int("index_head_dim", default=128)
    indexing = config.filled({"index_n_heads": 16, "index_head_dim": index_dim})

    @same_items
    def items(routed: bool, indexed: bool) -> tuple[Item, ...]:
        return (
            *attention,
            *(indexer(indexing, sizes) if indexed else ()),
            *(experts if routed else gated_mlp("mlp", hidden, inner)),
            norm("layer_norms", hidden, copies=2),
            *(_mixing(hidden, streams) if mixed else ()),
        )

    def keeps(sparse: bool, indexed: bool) -> tuple[Attention, ...]:
        latent = LatentAttention(
            rank=config.int("kv_lora_rank"),
            rope_dim=config.int("qk_rope_head_dim"),
            nope_dim=config.int("qk_nope_head_dim"),
            sparse=sparse,
        )
        return (latent, SparseIndexer(head_dim=index_dim)) if indexed else (latent,)

    routed, sparse, indexed = _layer_kinds(config, sizes.layers)
    final: tuple[Item, ...] = (norm("norm", hidden),)
    if mixed:
        final = (
            *final,
            Vector(name="hc_head_fn", units=streams, unit=streams * hidden, dtype="float32"),
            Vector(name="hc_head_base_scale", units=streams + 1, dtype="float32"),
        )
    return stack(
        config,
        sizes,
        lambda index: (items(routed[index], indexed[index]), keeps(sparse[index], indexed[index])),
        final=final,
        intermediate=inner,
        buffers=latent_buffers(config, sizes),
        draft=draft_layers(
            config, sizes, (items(True, sparse[-1]), keeps(sparse[-1], sparse[-1])), default=1, own_head=True
        ),
        experts_per_token=config.int("num_experts_per_tok", default=8),
    )


ARCHITECTURES: dict[str, Builder] = {"HYV4ForCausalLM": hy_v4}
