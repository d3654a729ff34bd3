"""Mixture-of-experts decoders whose layers attend in different ways: Llama 4, MiMo V2, MiniMax M3."""

from __future__ import annotations

from selfhost.attention import (
    Attention,
    BlockSparse,
    BlockSparseIndexer,
    ChunkedLocal,
    FullAttention,
    SlidingWindow,
)
from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    experts_item,
    gated_mlp,
    norm,
    qkv,
    read_heads,
    rope_buffer,
    router,
    row,
)
from selfhost.model.families.moe import attention
from selfhost.model.modules import Item, Matrix, Part, Vector


def _flags(config: Config, field: str, layers: int) -> tuple[bool, ...]:
    """A list of 0 and 1, one for each layer."""
    values = config.ints(field)
    if len(values) < layers:
        raise config.error(field, f"names {len(values)} layers, but there are {layers}")
    return tuple(value != 0 for value in values[:layers])


def llama4(config: Config) -> Draught:
    """Llama4ForCausalLM: chunked local attention with rotation, full attention without (models/llama4.py)."""
    sizes = read_heads(config)
    step = config.int("interleave_moe_layer_step", default=1, minimum=0)
    inner = config.int("intermediate_size")
    count = config.int("num_local_experts", maximum=1 << 16)
    if config.has("no_rope_layers") and config.list("no_rope_layers"):
        rotates = _flags(config, "no_rope_layers", sizes.layers)
    else:
        every = config.int("no_rope_layer_interval", default=4)
        rotates = tuple((index + 1) % every != 0 for index in range(sizes.layers))
    chunk = config.int("attention_chunk_size", default=8192, minimum=0)
    full = FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim)
    local: Attention = full
    if chunk:
        local = ChunkedLocal(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, chunk=chunk)
    common = (*attention(sizes), norm("layer_norms", sizes.hidden, copies=2))
    routed = (
        *common,
        router("feed_forward.router", count, sizes.hidden),
        experts_item("feed_forward.experts", count, sizes.hidden, inner),
        *gated_mlp("feed_forward.shared_expert", sizes.hidden, inner),
    )
    needs_dense = step != 1
    dense_size = config.int("intermediate_size_mlp") if needs_dense else inner
    dense = (*common, *gated_mlp("feed_forward", sizes.hidden, dense_size)) if needs_dense else routed

    def layer(index: int) -> Layer:
        is_routed = step > 0 and (index + 1) % step == 0
        return routed if is_routed else dense, (local if rotates[index] else full,)

    return stack(
        config, sizes, layer, intermediate=max(dense_size, inner),
        experts_per_token=config.int("num_experts_per_tok", default=1),
    )  # fmt: skip


def mimo_v2(config: Config) -> Draught:
    """MiMoV2FlashForCausalLM: values narrower than keys, windowed layers with heads of their own and sinks."""
    sizes = read_heads(config)
    value = config.int("v_head_dim", default=sizes.head_dim)
    window_sizes = Heads(
        hidden=sizes.hidden,
        layers=sizes.layers,
        heads=config.int("swa_num_attention_heads", maximum=1 << 16),
        kv_heads=config.int("swa_num_key_value_heads", maximum=1 << 16),
        head_dim=config.int("swa_head_dim"),
        vocab=sizes.vocab,
        positions=sizes.positions,
    )
    window_value = config.int("swa_v_head_dim", default=window_sizes.head_dim)
    window = config.int("sliding_window_size", "sliding_window")
    windowed = _flags(config, "hybrid_layer_pattern", sizes.layers)
    routes = _flags(config, "moe_layer_freq", sizes.layers)
    count, inner = config.int("n_routed_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    router_dtype = config.str("moe_router_dtype", default="float32")
    biased = config.bool("attention_bias", default=False)

    def attend(one: Heads, values: int, sinks: bool) -> tuple[Item, ...]:
        items: list[Item] = [
            qkv(
                "self_attn.qkv_proj",
                one.hidden,
                one.heads,
                one.kv_heads,
                one.head_dim,
                value_dim=values,
                bias=biased,
            ),
            row("self_attn.o_proj", one.hidden, one.heads * values),
        ]
        if sinks:
            items.append(Vector(name="self_attn.attention_sink_bias", units=one.heads, divided=True))
        return tuple(items)

    sinks_window = config.bool("add_swa_attention_sink_bias", default=False)
    sinks_full = config.bool("add_full_attention_sink_bias", default=False)
    parts = {
        False: attend(sizes, value, sinks_full),
        True: attend(window_sizes, window_value, sinks_window),
    }
    norms = norm("layer_norms", sizes.hidden, copies=2)
    mlps: dict[bool, tuple[Item, ...]] = {
        False: gated_mlp("mlp", sizes.hidden, config.int("intermediate_size")),
        True: (
            router("mlp.gate", count, sizes.hidden, dtype=router_dtype),
            Vector(name="mlp.gate.e_score_correction_bias", units=count, dtype="float32"),
            experts_item("mlp.experts", count, sizes.hidden, inner),
        ),
    }
    built = {(w, r): (*parts[w], norms, *mlps[r]) for w in (False, True) for r in (False, True)}
    kinds: dict[bool, Attention] = {
        False: FullAttention(
            kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, value_dim=value, sinks=sinks_full
        ),
        True: SlidingWindow(
            kv_heads=window_sizes.kv_heads, head_dim=window_sizes.head_dim, value_dim=window_value, window=window,
            sinks=sinks_window,
        ),
    }  # fmt: skip
    rotary = int(sizes.head_dim * config.float("partial_rotary_factor", default=1.0))
    one_table = rope_buffer(sizes.positions, rotary)
    return stack(
        config, sizes, lambda index: (built[windowed[index], routes[index]], (kinds[windowed[index]],)),
        intermediate=config.int("intermediate_size"), buffers=(one_table, one_table),
        experts_per_token=config.int("num_experts_per_tok", default=8),
    )  # fmt: skip


def minimax_m3(config: Config) -> Draught:
    """MiniMaxM3SparseForCausalLM: dense layers, then block-sparse ones whose indexer shares the QKV projection."""
    sizes = read_heads(config)
    sparse = config.section("sparse_attention_config")
    index_heads, index_dim = sparse.int("sparse_num_index_heads"), sparse.int("sparse_index_dim")
    count, inner = config.int("num_local_experts", maximum=1 << 16), config.int("intermediate_size")
    dense_size = config.int("dense_intermediate_size")
    shared = config.int("shared_intermediate_size", default=inner)
    shared *= config.int("n_shared_experts", default=0, minimum=0)
    routes = _flags(config, "moe_layer_freq", sizes.layers)
    indexed = _flags(sparse, "sparse_attention_freq", sizes.layers)
    plain = attention(sizes, qk_norm="head")
    base = plain[0]
    assert isinstance(base, Matrix)
    fused = Matrix(
        name=base.name,
        parts=(
            *base.parts,
            # Index queries follow the KV heads: one head per rank where TP exceeds them.
            Part(name="self_attn.index_q_proj", units=index_heads, unit=index_dim),
            Part(name="self_attn.index_k_proj", units=1, unit=index_dim),
        ),
        inputs=sizes.hidden,
        division="column",
    )
    with_index = (fused, *plain[1:], norm("self_attn.index_norms", index_dim, copies=2))
    norms = norm("layer_norms", sizes.hidden, copies=2)
    mlps: dict[bool, tuple[Item, ...]] = {
        False: gated_mlp("mlp", sizes.hidden, dense_size),
        True: (
            router("block_sparse_moe.gate", count, sizes.hidden, dtype="float32"),
            experts_item("block_sparse_moe.experts", count, sizes.hidden, inner, names=("w1", "w3", "w2"),
                         activation=config.str("hidden_act", default="silu")),
            *((Vector(name="block_sparse_moe.e_score_correction_bias", units=count, dtype="float32"),)
              if config.bool("use_routing_bias", default=False) else ()),
            *(gated_mlp("block_sparse_moe.shared_experts", sizes.hidden, shared) if shared else ()),
        ),
    }  # fmt: skip
    built = {
        (i, r): (*(with_index if i else plain), norms, *mlps[r]) for i in (False, True) for r in (False, True)
    }
    keeps: dict[bool, tuple[Attention, ...]] = {
        False: (FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim),),
        True: (
            BlockSparse(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim),
            BlockSparseIndexer(head_dim=index_dim),
        ),
    }
    rotary = int(sizes.head_dim * config.float("partial_rotary_factor", default=1.0))
    return stack(
        config, sizes, lambda index: (built[indexed[index], routes[index]], keeps[indexed[index]]),
        intermediate=dense_size, buffers=(rope_buffer(sizes.positions, rotary),),
        experts_per_token=config.int("num_experts_per_tok", default=4),
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {
    "Llama4ForCausalLM": llama4,
    "MiMoV2FlashForCausalLM": mimo_v2,
    "MiMoV2ForCausalLM": mimo_v2,
    "MiniMaxM3SparseForCausalLM": minimax_m3,
}
