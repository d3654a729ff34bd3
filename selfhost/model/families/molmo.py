"""Molmo: a CLIP-like tower of fixed size with pooling, and a decoder of its own (models/molmo.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families._kit import by_window, layer_windows, projections, stack
from selfhost.model.families.common import Builder, Draught, Heads, column, gated_mlp, norm, read_heads, row
from selfhost.model.families.multimodal import conv, encoder, stage, weights, with_towers
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


def _tower(config: Config, hidden: int, inner: int) -> tuple[Block, ...]:
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
        Config({**config.data, "vocab_size": words}, config.path),
        read_heads(Config({**config.data, "vocab_size": words})),
        by_window(items, config, sizes, layer_windows(config, sizes.layers)), tied=False, intermediate=inner,
    )  # fmt: skip
    first = Block(
        prefixes=draught.first.prefixes,
        items=(Embedding(name="embed_tokens", rows=words + _EXTRA_WORDS, width=sizes.hidden),),
    )
    from dataclasses import replace

    return with_towers(
        replace(draught, first=first), _tower(config, sizes.hidden, inner), modality="text+image"
    )


ARCHITECTURES: dict[str, Builder] = {"MolmoForCausalLM": molmo}
