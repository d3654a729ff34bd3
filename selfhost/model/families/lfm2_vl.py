"""LFM2-VL: SigLIP2 with patches as a linear layer, and a projector (models/lfm2_vl.py, lfm2_siglip2.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, norm
from selfhost.model.families.multimodal import (
    encoder,
    language,
    part,
    plain,
    stage,
    table,
    text_config,
    with_towers,
)
from selfhost.model.families.siglip import siglip_layer
from selfhost.model.modules import Block, Item


def siglip2_tower(vision: Config, prefixes: tuple[str, ...], *, post_norm: bool = True) -> tuple[Block, ...]:
    """Siglip2Model of LFM2-VL."""
    width = vision.int("hidden_size", default=768)
    heads = vision.int("num_attention_heads", default=12, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=3072)
    items = siglip_layer(vision, width, heads, inner)
    patch = vision.int("patch_size", default=16, maximum=1 << 10)
    rest: list[Item] = [
        plain(
            "embeddings.patch_embedding", width, vision.int("num_channels", default=3, maximum=64) * patch**2
        ),
        table("embeddings.position_embedding", vision.int("num_patches", default=256), width),
    ]
    if post_norm:
        rest.append(norm("post_layernorm", width, bias=True))
    names = tuple(f"{one}.vision_model" for one in prefixes)
    count = vision.int("num_hidden_layers", default=12, maximum=4096)
    return (*encoder(tuple(f"{one}.encoder.layers" for one in names), count, items), stage(names, *rest))


def lfm2_vl(config: Config) -> Draught:
    """Lfm2VlForConditionalGeneration; embeddings are tied unless `tie_embedding` says otherwise."""
    tie = config.bool("tie_embedding", "tie_word_embeddings", default=True)
    section = text_config(config, model_type="lfm2", outer_tie=tie)
    draught = language(section)
    vision = part(config, "vision_config")
    merged = (
        vision.int("hidden_size", default=768) * config.int("downsample_factor", default=2, maximum=64) ** 2
    )
    middle = config.int("projector_hidden_size", default=2560)
    bias = config.bool("projector_bias", default=True)
    projector: list[Item] = [
        plain("linear_1", middle, merged, bias=bias),
        plain("linear_2", draught.facts.hidden_size, middle, bias=bias),
    ]
    if config.bool("projector_use_layernorm", default=True):
        projector.append(norm("layer_norm", merged, bias=True))
    towers = (
        *siglip2_tower(vision, ("model.vision_tower", "vision_tower")),
        stage(("model.multi_modal_projector", "multi_modal_projector"), *projector),
    )
    return with_towers(draught, towers, modality="text+image")


ARCHITECTURES: dict[str, Builder] = {"Lfm2VlForConditionalGeneration": lfm2_vl}
