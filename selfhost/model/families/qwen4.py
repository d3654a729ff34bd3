"""The text part of Qwen4 (experimental): gated delta nets, sparse grouped attention, gated residual streams, n-grams.

vLLM 0.32 models/qwen4_exp/nvidia/{model,qsa,indexer_qsa,hyperconnection,ple_layer}.py. The n-gram tables lie in pinned
host memory (config/engram.py `cpu_offload`) and are not counted here.
"""

from __future__ import annotations

from selfhost.attention import Attention, FullAttention, PooledKeyRing, PooledKeys, ShortConvState
from selfhost.model.config import Config
from selfhost.model.families._rope import table
from selfhost.model.families._stack import Layer, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    experts_item,
    gated_mlp,
    norm,
    read_heads,
    router,
    row,
    whole,
)
from selfhost.model.families.multimodal import part, with_towers
from selfhost.model.families.qwen_next import delta_net, replicates_gates
from selfhost.model.families.qwen_vl import qwen3_tower
from selfhost.model.modules import Buffer, Item, Matrix, Part, Vector
from selfhost.units import round_up

_DEFAULTS: dict[str, object] = {
    "head_dim": 256, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "hc_count": 4, "hc_lowrank": 320,
    "ple_conv_kernel_size": 4, "ngram_size": 3, "max_position_embeddings": 32768,
}  # fmt: skip
_FULL = ("full_attention", "indexed_attention", "qwen_sparse_attention")
# The merged projection of a residual gate is padded to whole tiles (hyperconnection.py:95-117).
_GATE_ROWS = 16
# Tokens of a step by default, for which the selected positions have a buffer.
_STEP_TOKENS = 8192


def _residual(hidden: int, streams: int, rank: int, *, inject: bool = True) -> tuple[Item, ...]:
    """One gated residual: norm of all streams, a low-rank mix down and up; never quantized."""
    wide = streams * hidden
    rows = round_up(rank + streams, _GATE_ROWS) if inject else rank
    return (
        norm("hyper_connection.hc_norm", wide),
        whole("hyper_connection.input_mix_weight_down", rows, wide, quantizable=False),
        whole("hyper_connection.input_mix_weight_up", wide, rank, quantizable=False),
    )


def _attention(config: Config, sizes: Heads, *, sparse: bool) -> tuple[Item, ...]:
    """Gated queries, keys and values, and the indexer's replicated projection behind them (qsa.py:60-90)."""
    name = "self_attn"
    parts = [
        Part(name=f"{name}.q_proj", units=sizes.heads * 2, unit=sizes.head_dim),
        Part(name=f"{name}.k_proj", units=sizes.kv_heads, unit=sizes.head_dim),
        Part(name=f"{name}.v_proj", units=sizes.kv_heads, unit=sizes.head_dim),
    ]
    items: list[Item] = [norm(f"{name}.qk_norm", sizes.head_dim, copies=2)]
    if sparse:
        heads = config.int("indexer_n_heads", maximum=1 << 16)
        both = heads + config.int("indexer_kv_heads", maximum=1 << 16)
        dim = config.int("indexer_head_dim", minimum=2)
        parts.append(Part(name=f"{name}.indexer.index_qk_proj", units=1, unit=both * dim))
        items.append(norm(f"{name}.indexer.layernorms", dim, copies=2))
    qkv = Matrix(name=f"{name}.qkv_proj", parts=tuple(parts), inputs=sizes.hidden, division="column")
    return qkv, row(f"{name}.o_proj", sizes.hidden, sizes.heads * sizes.head_dim), *items


def _ngrams(config: Config, hidden: int, streams: int) -> tuple[Item, ...]:
    """What an n-gram layer holds on the GPU (ple_layer.py:97-137)."""
    wide = streams * hidden
    width = config.int("ple_embed_dim", default=hidden)
    parts = (Part(name="ple.key_proj", units=wide), Part(name="ple.value_proj", units=hidden))
    return (
        Matrix(name="ple.kv_proj", parts=parts, inputs=width, division="none"),
        norm("ple.norms", wide, copies=3),
        Vector(name="ple.conv1d", units=wide, unit=config.int("ple_conv_kernel_size", maximum=1 << 8)),
    )


def _experts(config: Config, hidden: int) -> tuple[Item, ...]:
    count, inner = config.int("num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("shared_expert_intermediate_size")
    return (
        router("mlp.gate", count, hidden),
        router("mlp.shared_expert_gate", 1, hidden),
        experts_item("mlp.experts", count, hidden, inner),
        *gated_mlp("mlp.shared_expert", hidden, shared),
    )


def qwen4_exp(config: Config, *, prefix: str = "model", engine_prefixes: tuple[str, ...] = ()) -> Draught:
    """Qwen4ExpForCausalLM, and the text section of Qwen4ExpForConditionalGeneration.

    Args:
        config: the configuration; its `text_config` where it has one.
        prefix: the checkpoint's prefix of the model.
        engine_prefixes: vLLM's where it differs.
    """
    replicate = replicates_gates(config)
    if config.has("text_config"):
        config = config.section("text_config")
    config = config.filled(_DEFAULTS)
    sizes = read_heads(config)
    hidden = sizes.hidden
    streams = config.int("hc_count", minimum=2, maximum=256)
    rank = config.int("hc_lowrank")
    sparse = config.has("indexer_n_heads")
    recalls = {index - 1 for index in config.ints("ple_layer_ids", minimum=1, default=())}
    linear, state = delta_net(config, hidden, interleaved=False, replicate=replicate)
    kinds = config.strings("layer_types", default=()) or tuple(
        "full_attention" if (index + 1) % 4 == 0 else "linear_attention" for index in range(sizes.layers)
    )
    if len(kinds) < sizes.layers:
        raise config.error("layer_types", f"names {len(kinds)} layers, but there are {sizes.layers}")
    for kind in kinds:
        if kind not in (*_FULL, "linear_attention"):
            raise config.error("layer_types", f"names {kind[:40]!r}, which this family does not have")

    @same_items
    def items(full: bool, recall: bool) -> tuple[Item, ...]:
        return (
            *(_attention(config, sizes, sparse=sparse) if full else linear),
            *_experts(config, hidden),
            *_residual(hidden, streams, rank),
            *_residual(hidden, streams, rank),
            *(_ngrams(config, hidden, streams) if recall else ()),
        )

    whole_kv: tuple[Attention, ...] = (
        FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, selected=sparse),
    )
    pool = config.int("indexer_compress_ratio", maximum=1 << 12) if sparse else 1
    if sparse:
        dim = config.int("indexer_head_dim", minimum=2)
        whole_kv = (*whole_kv, PooledKeyRing(head_dim=dim, pool=pool), PooledKeys(head_dim=dim, pool=pool))
    # A dilated convolution over the n-gram rows of all streams.
    reach = (config.int("ple_conv_kernel_size", maximum=1 << 8) - 1) * config.int(
        "ngram_size", maximum=1 << 8
    )
    recalled = ShortConvState(dim=streams * hidden, kernel=reach + 1, replicated=True)

    def layer(index: int) -> Layer:
        full, recall = kinds[index] in _FULL, index in recalls
        kept = whole_kv if full else (state,)
        return items(full, recall), (*kept, recalled) if recall else kept

    buffers = [table(config, sizes.head_dim, sizes.positions, share=0.25, mrope_factor=1)]
    if sparse:
        selected = config.int("indexer_budget") + pool
        count = sum(kind in _FULL for kind in kinds[: sizes.layers])
        elements = _STEP_TOKENS * selected * count
        buffers.append(Buffer(name="selected positions of a step", elements=elements, dtype="int32"))
    return stack(
        config,
        sizes,
        layer,
        prefix=prefix,
        engine_prefixes=engine_prefixes,
        final=_residual(hidden, streams, rank, inject=False),
        tied=False,
        buffers=tuple(buffers),
        intermediate=config.int("moe_intermediate_size"),
        experts_per_token=config.int("num_experts_per_tok", default=10),
    )


def qwen4_exp_vision(config: Config) -> Draught:
    """Qwen4ExpForConditionalGeneration: Qwen3-VL's vision transformer before the same text model."""
    draught = qwen4_exp(
        config, prefix="model.language_model", engine_prefixes=("language_model.model", "model")
    )
    towers, buffers = qwen3_tower(part(config, "vision_config"))
    return with_towers(draught, towers, modality="text+image+video", buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {
    "Qwen4ExpForCausalLM": qwen4_exp,
    "Qwen4ExpForConditionalGeneration": qwen4_exp_vision,
}
