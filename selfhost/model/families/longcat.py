"""LongCat Flash: layers of two latent attentions, two dense MLPs and one set of experts, some of which are empty.

vLLM 0.32 models/longcat_flash.py and longcat_flash_ngram.py.
"""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import LatentAttention
from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, stack
from selfhost.model.families.common import Builder, Draught, Heads, experts_item, gated_mlp, norm, router
from selfhost.model.families.deepseek import latent_attention, latent_buffers
from selfhost.model.modules import Buffer, Embedding, Experts, Item, Matrix, Vector


def _layers(config: Config) -> int:
    """`num_layers`, or half of `num_hidden_layers`, which counts the attentions (LongcatFlashConfig's setter)."""
    if config.has("num_hidden_layers"):
        return max(1, config.layers("num_hidden_layers") // 2)
    return config.layers("num_layers")


def _sizes(config: Config) -> Heads:
    heads = config.int("num_attention_heads", maximum=1 << 16)
    return Heads(
        hidden=config.int("hidden_size"),
        layers=_layers(config),
        heads=heads,
        kv_heads=heads,
        head_dim=config.int("qk_nope_head_dim") + config.int("qk_rope_head_dim"),
        vocab=config.int("vocab_size"),
        positions=config.int("max_position_embeddings", default=131072),
    )


def bare(items: tuple[Item, ...], *, keep: bool) -> tuple[Item, ...]:
    """Items that no quantization touches, unless `keep`."""
    if keep:
        return items
    return tuple(
        replace(item, quantizable=False) if isinstance(item, (Matrix, Experts)) else item for item in items
    )


def longcat_flash(config: Config, *, first: tuple[Item, ...] = ()) -> Draught:
    """LongcatFlashForCausalLM. Zero experts have a row in the router and no weights."""
    sizes = _sizes(config)
    inner = config.int("ffn_hidden_size", "intermediate_size")
    count = config.int("n_routed_experts", maximum=1 << 16)
    expert_size = config.int("expert_ffn_hidden_size", "moe_intermediate_size")
    zeros = config.int("zero_expert_num", default=256, minimum=0, maximum=1 << 16)
    skipped = config.strings("disable_quant_module", default=())
    attention: list[Item] = []
    mlps: list[Item] = []
    for number in range(2):
        attention.extend(latent_attention(config, sizes, name=f"self_attn.{number}"))
        mlps.extend(gated_mlp(f"mlps.{number}", sizes.hidden, inner))
    items: tuple[Item, ...] = (
        *bare(tuple(attention), keep="self_attn" not in skipped),
        *bare(tuple(mlps), keep="mlps" not in skipped),
        norm("layer_norms", sizes.hidden, copies=4),
        router("mlp.router.classifier", count + zeros, sizes.hidden, dtype="float32"),
        Vector(name="mlp.router.e_score_correction_bias", units=count + zeros, dtype="float32"),
        experts_item("mlp.experts", count, sizes.hidden, expert_size),
    )
    latent = LatentAttention(
        rank=config.int("kv_lora_rank"),
        rope_dim=config.int("qk_rope_head_dim"),
        nope_dim=config.int("qk_nope_head_dim"),
    )
    layer: Layer = (items, (latent, latent))
    return stack(
        config,
        sizes,
        lambda index: layer,
        # The head is never tied (longcat_flash.py:520-530).
        tied=False,
        first=first,
        # Four fp32 scales per layer belong to its second attention.
        buffers=(
            *latent_buffers(config, sizes),
            Buffer(name="scales of the second attentions", elements=4 * sizes.layers, dtype="float32"),
        ),
        intermediate=inner,
        experts_per_token=config.int("moe_topk", "num_experts_per_tok", default=12),
    )


def longcat_ngram(config: Config) -> Draught:
    """LongcatFlashNgramForCausalLM: hashed tables of the preceding tokens beside the embedding."""
    if not config.has("ngram_vocab_size_ratio"):
        return longcat_flash(config)
    hidden, vocab = config.int("hidden_size"), config.int("vocab_size")
    neighbours = config.int("emb_neighbor_num", minimum=2, maximum=64)
    embedders = config.int("emb_split_num", maximum=1 << 10) * (neighbours - 1)
    if hidden % embedders:
        raise config.error(
            "emb_split_num", f"gives {embedders} tables, which do not divide a hidden size of {hidden}"
        )
    smallest = config.float("ngram_vocab_size_ratio", default=0) * vocab
    if not 0 < smallest < 1 << 36:
        raise config.error("ngram_vocab_size_ratio", "gives no sensible table size")
    width = hidden // embedders
    rows = sum(int(smallest + 2 * index + 1) for index in range(embedders))
    tables: tuple[Item, ...] = (
        Embedding(name="ngram_embeddings.oe_embedder", rows=rows, width=width),
        Vector(name="ngram_embeddings.oe_projection", units=embedders * width, unit=hidden),
    )
    return longcat_flash(config, first=tables)


ARCHITECTURES: dict[str, Builder] = {
    "LongcatFlashForCausalLM": longcat_flash,
    "LongcatFlashNgramForCausalLM": longcat_ngram,
}
