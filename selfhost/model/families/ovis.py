"""Ovis: a visual tokenizer (AIMv2, SigLIP or SigLIP2 NaViT) with an embedding of its own.

models/ovis.py, ovis2_5.py.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, gated_mlp, norm, row
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    fused,
    language,
    plain,
    stage,
    table,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.siglip import siglip_layer, siglip_tower
from selfhost.model.modules import Block, Buffer, Item

_LLM = ("llm.model", "model")


def aimv2_tower(vision: Config, prefix: str) -> tuple[Block, ...]:
    """AIMv2Model without its last norm (models/aimv2.py)."""
    width = vision.int("hidden_size", default=1024)
    heads = vision.int("num_attention_heads", default=8, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=2816)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    bias = vision.bool("mlp_bias", default=False)
    items: tuple[Item, ...] = (
        fused("attn.qkv", heads, width // heads, width, bias=vision.bool("qkv_bias", default=False)),
        row("attn.proj", width, width, bias=bias),
        *gated_mlp("mlp", width, inner, bias=bias, names=("fc13", "fc1", "fc3", "fc2")),
        norm("norms", width, copies=2),
    )
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    positions = (vision.int("image_size", default=224, maximum=1 << 16) // patch) ** 2
    rest = stage(
        (prefix,),
        conv(
            "preprocessor.patchifier.proj",
            width,
            vision.int("num_channels", default=3, maximum=64) * patch**2,
            bias=True,
        ),
        norm("preprocessor.patchifier.norm", width),
        weights("preprocessor.pos_embed", positions, width),
    )
    layers = vision.int("num_hidden_layers", default=24, maximum=4096)
    return (*encoder((f"{prefix}.trunk.blocks",), layers, items), rest)


def _tokens(
    width: int, stride: int, vocab: int, reserved: int, hidden: int, vision: Config
) -> tuple[Block, ...]:
    """The head over visual words and their embedding."""
    size = vocab - reserved
    if size < 1:
        raise vision.error("vocab_size", f"is {vocab}, fewer than the {reserved} reserved words")
    return (
        stage(
            ("visual_tokenizer",),
            plain("head.0", size, width * stride**2, bias=False),
            norm("head.1", size, bias=True),
        ),
        stage(("",), table("vte", vocab, hidden)),
    )


def ovis(config: Config) -> Draught:
    """Ovis (1.6 and 2).

    Raises:
        ConfigError: a visual tokenizer that is neither AIMv2 nor SigLIP, as vLLM refuses it.
    """
    draught = language(text_config(config, "llm_config", "text_config"), prefixes=_LLM)
    visual = config.section("visual_tokenizer_config")
    backbone = visual.section("backbone_config")
    kind = backbone.str("model_type")
    buffers: tuple[Buffer, ...] = ()
    if kind in ("aimv2", "aimv2_vision_model"):
        width = backbone.int("hidden_size", default=1024)
        towers = aimv2_tower(backbone, "visual_tokenizer.backbone")
    elif kind == "siglip_vision_model":
        width = backbone.int("hidden_size", default=768)
        towers, buffers = siglip_tower(backbone, config, ("visual_tokenizer.backbone",))
    else:
        raise backbone.error("model_type", f"is {kind[:40]!r}, which Ovis does not have")
    hidden = config.int("hidden_size", default=draught.facts.hidden_size)
    stride = visual.int("hidden_stride", default=1, maximum=64)
    words = _tokens(width, stride, visual.int("vocab_size", default=16384), 5, hidden, visual)
    return with_towers(draught, (*towers, *words), modality="text+image", buffers=buffers)


def siglip2_navit(vision: Config, prefix: str) -> tuple[Block, ...]:
    """Siglip2NavitModel (models/siglip2navit.py)."""
    width = vision.int("hidden_size")
    heads = vision.int("num_attention_heads", maximum=1 << 12)
    inner = vision.int("intermediate_size")
    items = siglip_layer(vision, width, heads, inner)
    patch = vision.int("patch_size", maximum=1 << 10)
    given = vision.int("num_patches", default=-1, minimum=-1)
    positions = given if given > 0 else (vision.int("image_size", maximum=1 << 16) // patch) ** 2
    rest: list[Item] = [
        plain(
            "embeddings.patch_embedding", width, vision.int("num_channels", default=3, maximum=64) * patch**2
        ),
        norm("post_layernorm", width, bias=True),
    ]
    if vision.bool("preserve_original_pe", default=False):
        rest.append(table("embeddings.position_embedding", positions, width))
    name = f"{prefix}.vision_model"
    layers = vision.int("num_hidden_layers", maximum=4096)
    return (*encoder((f"{name}.encoder.layers",), layers, items), stage((name,), *rest))


def ovis2_5(config: Config) -> Draught:
    """Ovis2_5 and Ovis 2.6."""
    draught = language(text_config(config, "llm_config", "text_config"), prefixes=_LLM)
    vision = config.section("vit_config")
    kind = vision.str("model_type")
    if kind != "siglip2_navit":
        raise vision.error("model_type", f"is {kind[:40]!r}, which Ovis 2.5 does not have")
    width = vision.int("hidden_size")
    hidden = config.int("hidden_size", default=draught.facts.hidden_size)
    stride = vision.int("hidden_stride", maximum=64)
    words = _tokens(width, stride, config.int("visual_vocab_size", default=65536), 4, hidden, vision)
    towers = (*siglip2_navit(vision, "visual_tokenizer.vit"), *words)
    return with_towers(draught, towers, modality="text+image+video")


ARCHITECTURES: dict[str, Builder] = {
    "Ovis": ovis,
    "Ovis2_5": ovis2_5,
    "Ovis2_6ForCausalLM": ovis2_5,
    "Ovis2_6_MoeForCausalLM": ovis2_5,
}
