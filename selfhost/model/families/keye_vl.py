"""Keye-VL and PaddleOCR-VL: SigLIP with rotary positions and a merging projector (models/keye.py, paddleocr_vl.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, row
from selfhost.model.families.multimodal import language, part, plain, stage, table, text_config, with_towers
from selfhost.model.families.siglip import siglip_tower

_TEXT = ("model", "language_model.model")


def _keye(config: Config, *, merged_norm: bool) -> Draught:
    section = text_config(config)
    draught = language(section, "Qwen3ForCausalLM", prefixes=_TEXT)
    vision = config.section("vision_config")
    width = vision.int("hidden_size", default=1152)
    filled = Config({"hidden_size": 1152, "num_attention_heads": 16, **vision.data}, vision.path)
    blocks, buffers = siglip_tower(filled, config, ("visual",), post_norm=True)
    merged = width * 4
    towers = (
        *blocks,
        stage(("visual.vision_model",), table("embeddings.packing_position_embedding", 32768, width)),
        stage(
            ("mlp_AR",),
            norm("pre_norm", merged if merged_norm else width, bias=True),
            column("linear_1", merged, merged, bias=True),
            row("linear_2", draught.facts.hidden_size, merged, bias=True),
        ),
    )
    return with_towers(draught, towers, modality="text+image+video", buffers=buffers)


def keye(config: Config) -> Draught:
    """KeyeForConditionalGeneration."""
    return _keye(config, merged_norm=False)


def keye_1_5(config: Config) -> Draught:
    """KeyeVL1_5ForConditionalGeneration: the projector's norm is over the merged patches."""
    return _keye(config, merged_norm=True)


def paddleocr(config: Config) -> Draught:
    """PaddleOCRVLForConditionalGeneration: Ernie 4.5, whose embeddings are tied unless its section says otherwise."""
    given = config.optional_section("text_config")
    stated = given is not None and given.has("tie_word_embeddings")
    tied = given.bool("tie_word_embeddings", default=True) if stated and given is not None else True
    outer = config.bool("tie_word_embeddings", default=True)
    section = text_config(config, model_type="ernie4_5")
    section = Config({**section.data, "tie_word_embeddings": tied or outer}, section.path)
    draught = language(
        section, "Ernie4_5ForCausalLM", prefixes=("model.language_model", "model", "language_model.model")
    )
    vision = part(config, "vision_config")
    filled = Config(
        {
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "image_size": 384, "patch_size": 14, **vision.data,
        },
        vision.path,
    )  # fmt: skip
    width = filled.int("hidden_size")
    blocks, buffers = siglip_tower(filled, config, ("visual",), post_norm=True)
    projector = stage(
        ("mlp_AR",),
        norm("pre_norm", width, bias=True),
        plain("linear_1", 4 * width, 4 * width),
        plain("linear_2", draught.facts.hidden_size, 4 * width),
    )
    return with_towers(draught, (*blocks, projector), modality="text+image", buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {
    "KeyeForConditionalGeneration": keye,
    "KeyeVL1_5ForConditionalGeneration": keye_1_5,
    "PaddleOCRVLForConditionalGeneration": paddleocr,
}
