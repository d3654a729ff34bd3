"""Granite 4 Vision: SigLIP, and windows of queries that feed several layers of a Granite decoder."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.blip import qformer
from selfhost.model.families.common import Builder, Draught, norm
from selfhost.model.families.multimodal import (
    language,
    part,
    plain,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.siglip import siglip_tower
from selfhost.model.modules import Block

_TOWER = ("model.vision_tower", "vision_tower")


def _sides(config: Config) -> tuple[int, int]:
    """`downsample_rate`, e.g. "4/8": queries and patches along the side of a window."""
    words = config.str("downsample_rate").split("/")
    if len(words) != 2 or not all(
        word.isascii() and word.isdigit() and 0 < len(word) < 5 and int(word) for word in words
    ):
        raise config.error("downsample_rate", "should be two whole numbers with a slash between, as 4/8")
    return int(words[0]), int(words[1])


def _downsampler(prefix: str, width: int, hidden: int, sides: tuple[int, int]) -> tuple[Block, ...]:
    """WindowQFormerDownsampler: one layer of queries of fixed shape (models/granite4_vision.py:203)."""
    shape = {
        "hidden_size": width, "intermediate_size": 3072, "num_hidden_layers": 1, "encoder_hidden_size": width,
        "cross_attention_frequency": 1,
    }  # fmt: skip
    blocks, _ = qformer(Config(shape), f"{prefix}.qformer")
    rest = stage(
        (prefix,),
        weights("query", sides[0] ** 2, width),
        weights("image_positions", sides[1] ** 2, width),
        norm("norm", width, bias=True),
        plain("out_linear", hidden, width),
    )
    return (*blocks, rest)


def granite4_vision(config: Config) -> Draught:
    """Granite4VisionForConditionalGeneration (models/granite4_vision.py); four spatial projectors whatever is asked."""
    draught = language(text_config(config, model_type="granite", outer_tie=False), "GraniteForCausalLM")
    hidden = draught.facts.hidden_size
    vision = part(config, "vision_config")
    width = vision.int("hidden_size", default=768)
    sides = _sides(config)
    tower, buffers = siglip_tower(vision, config, _TOWER, post_norm=False)
    names = [f"layerwise_projectors.{index}" for index in range(len(config.list("deepstack_layer_map")))]
    names += [f"spatial_projectors.{index}" for index in range(4)]
    towers = [*tower, stage(("model", ""), weights("image_newline", hidden))]
    for name in names:
        towers += _downsampler(name, width, hidden, sides)
    return with_towers(draught, tuple(towers), modality="text+image", buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {"Granite4VisionForConditionalGeneration": granite4_vision}
