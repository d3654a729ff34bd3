"""Hunyuan 4: sparse latent attention with an output gate and sinks, experts, hyper-connections without mixing.

vLLM 0.32 models/hy_v4/nvidia/{model,attention,moe,hc}.py and transformers_utils/configs/hy_v4.py.
"""

from __future__ import annotations

from selfhost.attention import Attention, LatentAttention, SparseIndexer
from selfhost.model.config import Config
from selfhost.model.families._kit import Layer, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    column,
    experts_item,
    gated_mlp,
    head,
    norm,
    router,
    whole,
)
from selfhost.model.families.deepseek import indexer, latent_attention, latent_buffers, read_latent_heads
from selfhost.model.modules import Block, Item, Vector

_SPARSE = ("deepseek_sparse_attention", "sparse_attention", "sparse", "indexed_attention")


def _words(config: Config, field: str, layers: int) -> tuple[str, ...] | None:
    if not config.has(field):
        return None
    words = config.strings(field)
    if len(words) < layers:
        raise config.error(field, f"names {len(words)} layers, but there are {layers}")
    return words[:layers]


def _mixing(hidden: int, streams: int) -> tuple[Item, ...]:
    """Gates into and out of the streams, for attention and for the MLP."""
    return (
        Vector(name="hc_fn", units=2 * streams, unit=streams * hidden, dtype="float32", copies=2),
        Vector(name="hc_base_scale", units=2 * streams + 2, dtype="float32", copies=2),
    )


def hy_v4(config: Config) -> Draught:
    """HYV4ForCausalLM."""
    sizes = read_latent_heads(config)
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    count, expert_size = config.int("n_routed_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("n_shared_experts", default=1, minimum=0, maximum=1 << 10)
    mixed = config.bool("enable_ihc", default=True)
    streams = config.int("hc_mult", default=4, maximum=256)
    gating = config.str("gating_type", default="elementwise")
    if gating not in ("elementwise", "headwise"):
        raise config.error("gating_type", f"is {gating[:30]!r}, not elementwise or headwise")
    attention: tuple[Item, ...] = latent_attention(config, sizes)
    if config.bool("gated_mla", default=True):
        width = config.int("v_head_dim") if gating == "elementwise" else 1
        gate = column("self_attn.linear_gate", sizes.heads * width, hidden, units=sizes.heads)
        attention = (*attention, gate)
    if config.bool("learnable_sink", default=True):
        sinks = Vector(
            name="self_attn.learnable_sink_param", units=sizes.heads, divided=True, dtype="float32"
        )
        attention = (*attention, sinks)
    index = config.int("index_head_dim", default=128)
    filled = Config({"index_n_heads": 16, "index_head_dim": index, **config.data}, config.path)

    @same_items
    def items(routed: bool, indexed: bool) -> tuple[Item, ...]:
        feed: tuple[Item, ...] = gated_mlp("mlp", hidden, inner)
        if routed:
            feed = (
                router("mlp.gate", count, hidden, dtype="float32"),
                Vector(name="mlp.expert_bias", units=count, dtype="float32"),
                experts_item("mlp.experts", count, hidden, expert_size),
                *(gated_mlp("mlp.shared_experts", hidden, expert_size * shared) if shared else ()),
            )
        return (
            *attention,
            *(indexer(filled, sizes) if indexed else ()),
            *feed,
            norm("layer_norms", hidden, copies=2),
            *(_mixing(hidden, streams) if mixed else ()),
        )

    mlps = _words(config, "mlp_layer_types", sizes.layers)
    kinds = _words(config, "layer_types", sizes.layers)
    modes = _words(config, "indexer_types", sizes.layers)

    def keeps(sparse: bool, indexed: bool) -> tuple[Attention, ...]:
        latent = LatentAttention(
            rank=config.int("kv_lora_rank"),
            rope_dim=config.int("qk_rope_head_dim"),
            nope_dim=config.int("qk_nope_head_dim"),
            sparse=sparse,
        )
        return (latent, SparseIndexer(head_dim=index)) if indexed else (latent,)

    known = {(sparse, own): keeps(sparse, own) for sparse in (False, True) for own in (False, True)}

    def layer(number: int) -> Layer:
        routed = number > 0 if mlps is None else mlps[number] != "dense"
        sparse = kinds is not None and kinds[number] in _SPARSE
        full = (number == 0 or (number - 1) % 4 == 0) if modes is None else modes[number] == "full"
        own = sparse and full
        return items(routed, own), known[sparse, own]

    final: tuple[Item, ...] = (norm("norm", hidden),)
    if mixed:
        final = (
            *final,
            Vector(name="hc_head_fn", units=streams, unit=streams * hidden, dtype="float32"),
            Vector(name="hc_head_base_scale", units=streams + 1, dtype="float32"),
        )
    drafts = config.int("num_nextn_predict_layers", default=1, minimum=0, maximum=16)
    sparse_drafts = kinds is not None and kinds[-1] in _SPARSE
    draft_items = (
        *items(True, sparse_drafts),
        whole("eh_proj", hidden, 2 * hidden, quantizable=False),
        norm("enorm_hnorm_norm", hidden, copies=3),
        head("shared_head.head", sizes.vocab, hidden),
    )
    return stack(
        config,
        sizes,
        layer,
        final=final,
        intermediate=inner,
        buffers=latent_buffers(config, sizes),
        draft=tuple(
            Block(
                prefixes=(f"model.layers.{sizes.layers + number}",),
                items=draft_items,
                keeps=known[sparse_drafts, sparse_drafts],
            )
            for number in range(drafts)
        ),
        facts_more={
            "experts": count,
            "experts_per_token": config.int("num_experts_per_tok", default=8),
            "expert_intermediate_size": expert_size,
        },
    )


ARCHITECTURES: dict[str, Builder] = {"HYV4ForCausalLM": hy_v4}
