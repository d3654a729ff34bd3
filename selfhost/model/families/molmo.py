"""Molmo and Molmo 2: a tower whose layers are pooled by attention, and a decoder of its own."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._stack import by_window, layer_windows, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    projections,
    qkv,
    read_heads,
    row,
)
from selfhost.model.families.multimodal import conv, encoder, plain, stage, weights, with_towers
from selfhost.model.modules import Block, Embedding, Item

# VisionBackboneConfig, which vLLM does not read from the configuration (models/molmo.py:115-126).
_WIDTH, _LAYERS, _MLP, _POSITIONS, _PATCH = 1024, 23, 4096, 577, 14
# Two layers of the tower are read (:85), and 128 words are added to the embedding (:87).
_READ_LAYERS, _EXTRA_WORDS = 2, 128


def _attention(name: str, inputs: int) -> tuple[Item, ...]:
    dot = f"{name}." if name else ""
    return (
        *(column(f"{dot}{one}", _WIDTH, inputs, bias=True, units=16) for one in ("wq", "wk", "wv")),
        row(f"{dot}wo", _WIDTH, _WIDTH, bias=True),
    )


def _tower(hidden: int, inner: int) -> tuple[Block, ...]:
    items: tuple[Item, ...] = (
        *_attention("attention", _WIDTH),
        column("feed_forward.w1", _MLP, _WIDTH, bias=True),
        row("feed_forward.w2", _WIDTH, _MLP, bias=True),
        norm("norms", _WIDTH, bias=True, copies=2),
    )
    rest = stage(
        ("model.vision_backbone", "vision_backbone"),
        weights("pad_embed", 2, _WIDTH * _READ_LAYERS),
        weights("image_vit.class_embedding", _WIDTH),
        weights("image_vit.positional_embedding", _POSITIONS, _WIDTH),
        conv("image_vit.patch_embedding", _WIDTH, 3 * _PATCH**2),
        norm("image_vit.pre_ln", _WIDTH, bias=True),
        *_attention("image_pooling_2d", _WIDTH * _READ_LAYERS),
        *_projector(hidden, inner),
    )
    names = (
        "model.vision_backbone.image_vit.transformer.resblocks",
        "vision_backbone.image_vit.transformer.resblocks",
    )
    return (*encoder(names, _LAYERS, items), rest)


def _projector(hidden: int, inner: int) -> tuple[Item, ...]:
    up, _ = gated_mlp(
        "image_projector", _WIDTH, inner, names=("merged_linear", "gate_proj", "up_proj", "down_proj")
    )
    return up, row("image_projector.down_proj", hidden, inner)


def molmo(config: Config) -> Draught:
    """MolmoForCausalLM."""
    sizes: Heads = read_heads(config)
    inner = config.int("intermediate_size") // 2
    if config.str("layer_norm_type", default="rms") != "rms":
        raise config.error("layer_norm_type", "is not 'rms', the only norm that vLLM builds")
    items: tuple[Item, ...] = (
        *projections(sizes, bias=config.bool("qkv_bias", default=False)),
        *gated_mlp("mlp", sizes.hidden, inner),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    if config.bool("attention_layer_norm", default=False):
        items = (
            *items,
            norm("self_attn.q_norm", sizes.hidden),
            norm("self_attn.k_norm", sizes.kv_heads * sizes.head_dim),
        )
    if config.bool("weight_tying", default=False):
        # vLLM reaches for a module that its Molmo does not have (models/molmo.py:1479).
        raise config.error("weight_tying", "is true, which vLLM cannot load for Molmo")
    words = config.int("embedding_size", default=sizes.vocab)
    draught = stack(
        config.replaced(vocab_size=words),
        read_heads(Config({**config.data, "vocab_size": words})),
        by_window(items, config, sizes, layer_windows(config, sizes.layers)), tied=False, intermediate=inner,
    )  # fmt: skip
    first = Block(
        prefixes=draught.first.prefixes,
        items=(Embedding(name="embed_tokens", rows=words + _EXTRA_WORDS, width=sizes.hidden),),
    )
    return with_towers(replace(draught, first=first), _tower(sizes.hidden, inner), modality="text+image")


def _molmo2_tower(vision: Config, adapter: Config) -> tuple[Block, ...]:
    """Molmo2VisionBackbone: layers up to the deepest that is read, pooling, a gated projector (models/molmo2.py)."""
    width, count = vision.int("hidden_size"), vision.int("num_hidden_layers", maximum=4096)
    heads, head_dim = vision.int("num_attention_heads", maximum=1 << 12), vision.int("head_dim")
    if heads * head_dim != width:
        raise vision.error("head_dim", f"is {head_dim}, which {heads} heads do not make {width} of")
    read = adapter.list("vit_layers")
    if not read or any(isinstance(one, bool) or not isinstance(one, int) for one in read):
        raise adapter.error("vit_layers", "should hold numbers of layers")
    deepest = max(one if one >= 0 else one + count for one in read if isinstance(one, int)) + 1
    if not 0 < deepest <= count:
        raise adapter.error("vit_layers", f"names a layer beyond the {count} of the tower")
    items: tuple[Item, ...] = (
        qkv(
            "attention.merged_qkv", width, heads, vision.int("num_key_value_heads", maximum=1 << 12), head_dim,
            bias=True, names=("wq", "wk", "wv"),
        ),
        row("attention.wo", width, width, bias=True),
        column("feed_forward.w1", vision.int("intermediate_size"), width, bias=True),
        row("feed_forward.w2", width, vision.int("intermediate_size"), bias=True),
        norm("norms", width, bias=True, copies=2),
    )  # fmt: skip
    inner, pooled = adapter.int("hidden_size"), width * len(read)
    keys = adapter.int("num_key_value_heads", maximum=1 << 12) * adapter.int("head_dim")
    up, _ = gated_mlp(
        "image_projector", inner, adapter.int("intermediate_size"),
        names=("merged_linear", "gate_proj", "up_proj", "down_proj"),
    )  # fmt: skip
    rest = stage(
        ("model.vision_backbone", "vision_backbone"),
        weights("image_vit.positional_embedding", vision.int("image_num_pos"), width),
        plain("image_vit.patch_embedding", width, 3 * vision.int("image_patch_size", maximum=1 << 10) ** 2),
        column("image_pooling_2d.q_proj", inner, pooled, bias=True),
        *(column(f"image_pooling_2d.{one}", keys, pooled, bias=True) for one in ("k_proj", "v_proj")),
        row("image_pooling_2d.o_proj", inner, inner, bias=True),
        up,
        row("image_projector.down_proj", adapter.int("text_hidden_size"), adapter.int("intermediate_size")),
    )
    names = ("model.vision_backbone", "vision_backbone")
    prefixes = tuple(f"{name}.image_vit.transformer.resblocks" for name in names)
    return (*encoder(prefixes, deepest, items), rest)


def molmo2(config: Config) -> Draught:
    """Molmo2ForConditionalGeneration: the head has fewer rows than the embedding and is never tied."""
    section = config.optional_section("text_config", "llm_config") or config.section("text_config")
    sizes = read_heads(section)
    inner = section.int("intermediate_size")
    items: tuple[Item, ...] = (
        *projections(sizes, bias=section.bool("qkv_bias", default=False)),
        *gated_mlp("mlp", sizes.hidden, inner),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    if section.bool("use_qk_norm", default=False):
        by_head = section.str("qk_norm_type", default="olmo") == "qwen3"
        query, key = (1, 1) if by_head else (sizes.heads, sizes.kv_heads)
        items = (
            *items,
            norm("self_attn.q_norm", query * sizes.head_dim),
            norm("self_attn.k_norm", key * sizes.head_dim),
        )
    windows = layer_windows(section, sizes.layers)
    draught = stack(section, sizes, by_window(items, section, sizes, windows), tied=False, intermediate=inner)
    words = sizes.vocab + section.int("additional_vocab_size", default=0, minimum=0)
    first = replace(draught.first, items=(Embedding(name="embed_tokens", rows=words, width=sizes.hidden),))
    towers = _molmo2_tower(config.section("vit_config"), config.section("adapter_config"))
    return with_towers(replace(draught, first=first), towers, modality="text+image+video")


ARCHITECTURES: dict[str, Builder] = {
    "MolmoForCausalLM": molmo,
    "Molmo2ForConditionalGeneration": molmo2,
}
