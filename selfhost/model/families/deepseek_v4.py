"""DeepSeek V4: one latent head of 512, a window on every layer, compressed caches with an indexer, hyper-connections.

vLLM 0.32 models/deepseek_v4/{attention,compressor}.py and nvidia/model.py.
"""

from __future__ import annotations

from selfhost.attention import Attention, V4Compressed, V4CompressorState, V4Indexer, V4Window
from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, draft_count, facts, numbered, same_items
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    embedding,
    experts_item,
    gated_mlp,
    head,
    norm,
    rope_buffer,
    router,
    row,
    whole,
)
from selfhost.model.modules import Block, Item, Matrix, Part, Vector
from selfhost.units import ceil_div

# A rank's sinks are padded to the query heads that the kernel takes (attention.py `get_padded_num_q_heads`).
_PADDED_HEADS = 64


def _compressor(name: str, width: int, hidden: int, ratio: int) -> tuple[Item, ...]:
    """A compressor keeps twice the width where groups overlap (ratio 4); never quantized (compressor.py:262-280)."""
    span = (2 if ratio == 4 else 1) * width
    parts = (Part(name=f"{name}.wkv", units=span), Part(name=f"{name}.wgate", units=span))
    return (
        Vector(name=f"{name}.ape", units=ratio, unit=span, dtype="float32"),
        Matrix(
            name=f"{name}.fused_wkv_wgate", parts=parts, inputs=hidden, division="none", quantizable=False
        ),
        norm(f"{name}.norm", width),
    )


def fused_attention(config: Config, hidden: int) -> tuple[Item, ...]:
    """Projections of one latent head and its sinks, without compressor and indexer."""
    heads, dim = config.int("num_attention_heads", maximum=1 << 16), config.int("head_dim")
    query, output, groups = config.int("q_lora_rank"), config.int("o_lora_rank"), config.int("o_groups")
    if (heads * dim) % groups:
        raise config.error("o_groups", f"is {groups}, which does not divide {heads} heads of {dim}")
    fused = (Part(name="attn.wq_a", units=query), Part(name="attn.wkv", units=dim))
    return (
        Vector(
            name="attn.attn_sink",
            units=ceil_div(heads, _PADDED_HEADS),
            unit=_PADDED_HEADS,
            divided=True,
            dtype="float32",
        ),
        Matrix(name="attn.fused_wqa_wkv", parts=fused, inputs=hidden, division="none"),
        norm("attn.q_norm", query),
        column("attn.wq_b", heads * dim, query, units=heads),
        norm("attn.kv_norm", dim),
        column("attn.wo_a", groups * output, heads * dim // groups, units=groups),
        row("attn.wo_b", hidden, groups * output),
    )


def _attention(config: Config, hidden: int, ratio: int) -> tuple[Item, ...]:
    items = list(fused_attention(config, hidden))
    dim, query = config.int("head_dim"), config.int("q_lora_rank")
    if ratio > 1:
        items.extend(_compressor("attn.compressor", dim, hidden, ratio))
    if ratio == 4:
        index_heads, index_dim = config.int("index_n_heads"), config.int("index_head_dim")
        items.append(whole("attn.indexer.wq_b", index_heads * index_dim, query))
        items.append(whole("attn.indexer.weights_proj", index_heads, hidden, quantizable=False))
        items.extend(_compressor("attn.indexer.compressor", index_dim, hidden, ratio))
    return tuple(items)


def _keeps(config: Config, ratio: int) -> tuple[Attention, ...]:
    dim = config.int("head_dim")
    kept: list[Attention] = [V4Window(head_dim=dim, window=config.int("sliding_window"))]
    if ratio == 4:
        index = config.int("index_head_dim")
        kept += [
            V4Indexer(head_dim=index, ratio=ratio),
            V4CompressorState(head_dim=index, ratio=ratio),
        ]
    if ratio > 1:
        kept += [V4Compressed(head_dim=dim, ratio=ratio), V4CompressorState(head_dim=dim, ratio=ratio)]
    return tuple(kept)


def deepseek_v4(config: Config) -> Draught:
    """DeepseekV4ForCausalLM; with a vision tower vLLM takes the class that has one.

    transformers_utils/model_arch_config_convertor.py:592-606.
    """
    if config.int("vision_n_layers", default=0, minimum=0):
        from selfhost.model.families.deepseek_v41 import deepseek_v4_vision

        return deepseek_v4_vision(config)
    return v4_text(config)


def v4_text(config: Config) -> Draught:
    """The language model of DeepSeek V4."""
    heads = config.int("num_attention_heads", maximum=1 << 16)
    sizes = Heads(
        hidden=config.int("hidden_size"), layers=config.layers(), heads=heads, kv_heads=1,
        head_dim=config.int("head_dim"), vocab=config.int("vocab_size"),
        positions=config.int("max_position_embeddings"),
    )  # fmt: skip
    ratios = config.ints("compress_ratios")
    if len(ratios) < sizes.layers:
        raise config.error("compress_ratios", f"names {len(ratios)} layers, but there are {sizes.layers}")
    if any(ratio not in (0, 1, 4, 128) for ratio in ratios[: sizes.layers]):
        raise config.error("compress_ratios", "holds a ratio other than 0, 1, 4 and 128")
    count, inner = config.int("n_routed_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    per_token = config.int("num_experts_per_tok")
    shared = config.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10)
    hashed = config.int("num_hash_layers", default=0, minimum=0)
    mix = config.int("hc_mult", maximum=256)
    common: tuple[Item, ...] = (
        Vector(name="hc_fn", units=(2 + mix) * mix, unit=mix * sizes.hidden, dtype="float32", copies=2),
        Vector(name="hc_base_scale", units=(2 + mix) * mix + 3, dtype="float32", copies=2),
        norm("norms", sizes.hidden, copies=2),
        router("ffn.gate", count, sizes.hidden),
        experts_item("ffn.experts", count, sizes.hidden, inner, names=("w1", "w3", "w2")),
        *(gated_mlp("ffn.shared_experts", sizes.hidden, inner * shared,
                    names=("gate_up_proj", "w1", "w3", "w2")) if shared else ()),
    )  # fmt: skip
    by_hash = Vector(name="ffn.gate.tid2eid", units=sizes.vocab, unit=per_token, dtype="int32")
    by_score = Vector(name="ffn.gate.e_score_correction_bias", units=count, dtype="float32")

    @same_items
    def items(ratio: int, is_hashed: bool) -> tuple[Item, ...]:
        return (*_attention(config, sizes.hidden, ratio), *common, by_hash if is_hashed else by_score)

    def layer(index: int) -> Layer:
        ratio = max(1, ratios[index])
        return items(ratio, index < hashed), _keeps(config, ratio)

    draft_items = (
        *_attention(config, sizes.hidden, 1), *common, by_score,
        whole("e_proj", sizes.hidden, sizes.hidden), whole("h_proj", sizes.hidden, sizes.hidden),
        norm("enorm_hnorm_norm", sizes.hidden, copies=3),
    )  # fmt: skip
    table = rope_buffer(sizes.positions, config.int("qk_rope_head_dim"), dtype="float32")
    return Draught(
        facts=facts(
            config, sizes, intermediate=inner, experts_per_token=per_token,
        ),
        first=Block(prefixes=("model",), items=(embedding("embed_tokens", sizes.vocab, sizes.hidden),)),
        layers=numbered(("layers", "model.layers"), map(layer, range(sizes.layers))),
        last=Block(
            prefixes=("",),
            items=(
                Vector(name="hc_head", units=mix, unit=mix * sizes.hidden, dtype="float32"),
                Vector(name="hc_head_base_scale", units=mix + 1, dtype="float32"),
                norm("norm", sizes.hidden),
                head("lm_head", sizes.vocab, sizes.hidden),
            ),
        ),
        # Windowed and compressed layers rotate with different bases (common/rope.py).
        buffers=(table,) * len({max(1, ratio) > 1 for ratio in ratios[: sizes.layers]}),
        draft=tuple(
            Block(prefixes=(f"mtp.{index}",), items=draft_items, keeps=_keeps(config, 1))
            for index in range(draft_count(config))
        ),
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {"DeepseekV4ForCausalLM": deepseek_v4}
