"""LLaVA and its relatives: CLIP, SigLIP or Pixtral up to the layer that is read, a projector, any language model."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, gated_mlp, norm, qkv, row
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    language,
    part,
    plain,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.siglip import clip_tower, siglip_tower
from selfhost.model.modules import Block, Buffer, Item

TOWER = ("model.vision_tower", "vision_tower")
PROJECTOR = ("model.multi_modal_projector", "multi_modal_projector")
Tower = tuple[tuple[Block, ...], tuple[Buffer, ...]]


def pixtral_tower(vision: Config, prefixes: tuple[str, ...], *, layers: int | None = None) -> Tower:
    """PixtralHFVisionModel (models/pixtral.py:1502)."""
    width = vision.int("hidden_size", default=1024)
    heads = vision.int("num_attention_heads", default=16, maximum=1 << 12)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    items: tuple[Item, ...] = (
        qkv("attention.qkv_proj", width, heads, heads, width // heads),
        row("attention.o_proj", width, width),
        *gated_mlp("feed_forward", width, vision.int("intermediate_size", default=4096)),
        norm("norms", width, copies=2),
    )
    patch = vision.int("patch_size", default=16, maximum=1 << 10)
    count = vision.int("num_hidden_layers", default=24, maximum=4096) if layers is None else layers
    rest = stage(
        prefixes,
        conv("patch_conv", width, vision.int("num_channels", default=3, maximum=64) * patch**2),
        norm("ln_pre", width),
    )
    return (*encoder(tuple(f"{one}.transformer.layers" for one in prefixes), count, items), rest), ()


def feature_layers(config: Config, *, default: int) -> tuple[int, ...]:
    """`vision_feature_layer`, one or several."""
    value = config.data.get("vision_feature_layer", default)
    found = value if isinstance(value, (list, tuple)) else (value,)
    if not found or any(isinstance(one, bool) or not isinstance(one, int) for one in found):
        raise config.error("vision_feature_layer", "should be a whole number or a list of them")
    return tuple(one for one in found if isinstance(one, int))


def deepest(vision: Config, features: tuple[int, ...], *, default: int) -> int:
    """Layers to build: up to the deepest that is read (models/llava.py `_get_num_hidden_layers`)."""
    count = vision.int("num_hidden_layers", default=default, maximum=4096)
    return max(count + one + 1 if one < 0 else one for one in features)


def llava_tower(config: Config, *, feature_layer: int) -> Tower:
    """The tower that LLaVA-like classes build (models/llava.py `init_vision_tower_for_llava`).

    Raises:
        ConfigError: a tower that is neither CLIP, SigLIP nor Pixtral, as vLLM refuses it.
    """
    vision = config.section("vision_config")
    kind = vision.str("model_type", default="clip_vision_model")
    features = feature_layers(config, default=feature_layer)
    if kind == "clip_vision_model":
        return clip_tower(vision, TOWER, layers=deepest(vision, features, default=12), post_norm=False)
    if kind == "siglip_vision_model":
        return siglip_tower(
            vision, config, TOWER, layers=deepest(vision, features, default=12), post_norm=False
        )
    if kind == "pixtral":
        return pixtral_tower(vision, TOWER, layers=deepest(vision, features, default=24))
    raise vision.error("model_type", f"is {kind[:40]!r}, a tower that vLLM does not build here")


def _build(
    config: Config, projector: tuple[Item, ...], hidden: int, *, tower: Tower, newline: bool, modality: str,
    draught: Draught,
) -> Draught:  # fmt: skip
    blocks, buffers = tower
    towers = (*blocks, stage(PROJECTOR, *projector))
    if newline:
        towers = (*towers, stage(("model", ""), weights("image_newline", hidden)))
    return with_towers(draught, towers, modality=modality, buffers=buffers)


def _projector(width: int, hidden: int, *, bias: bool) -> tuple[Item, ...]:
    return column("linear_1", hidden, width, bias=bias), row("linear_2", hidden, hidden, bias=bias)


def _plain_projector(width: int, hidden: int, *, bias: bool) -> tuple[Item, ...]:
    return plain("linear_1", hidden, width, bias=bias), plain("linear_2", hidden, hidden, bias=bias)


def _section(config: Config, *, forward: bool = True) -> Config:
    return text_config(config, model_type="llama", outer_tie=False, forward_tie=forward)


def llava(config: Config) -> Draught:
    """LlavaForConditionalGeneration (models/llava.py)."""
    section = _section(config)
    name = None
    if not section.has("architectures") and section.str("model_type") == "mistral":
        name = "MistralForCausalLM"
    draught = language(section, name)
    hidden = draught.facts.hidden_size
    width = config.section("vision_config").int("hidden_size", default=_width(config))
    projector = _projector(width, hidden, bias=config.bool("multimodal_projector_bias", default=True))
    return _build(
        config, projector, hidden, tower=llava_tower(config, feature_layer=-2), newline=False, modality="text+image",
        draught=draught,
    )  # fmt: skip


def _width(config: Config) -> int:
    return 1024 if config.section("vision_config").str("model_type", default="") == "pixtral" else 768


def llava_next(config: Config) -> Draught:
    """LlavaNextForConditionalGeneration: several feature layers side by side, a learned line break."""
    draught = language(_section(config, forward=False))
    hidden = draught.facts.hidden_size
    width = config.section("vision_config").int("hidden_size", default=_width(config))
    if isinstance(config.data.get("vision_feature_layer"), (list, tuple)):
        width *= len(feature_layers(config, default=-2))
    projector = _projector(width, hidden, bias=config.bool("multimodal_projector_bias", default=True))
    return _build(
        config, projector, hidden, tower=llava_tower(config, feature_layer=-2), newline=True, modality="text+image",
        draught=draught,
    )  # fmt: skip


def llava_next_video(config: Config) -> Draught:
    """LlavaNextVideoForConditionalGeneration: vLLM reads video only, without the line break."""
    draught = language(_section(config))
    hidden = draught.facts.hidden_size
    width = config.section("vision_config").int("hidden_size", default=_width(config))
    projector = _plain_projector(width, hidden, bias=config.bool("multimodal_projector_bias", default=True))
    return _build(
        config, projector, hidden, tower=llava_tower(config, feature_layer=-2), newline=False, modality="text+video",
        draught=draught,
    )  # fmt: skip


def llava_onevision(config: Config) -> Draught:
    """LlavaOnevisionForConditionalGeneration."""
    draught = language(text_config(config, model_type="qwen2", outer_tie=False, forward_tie=True))
    hidden = draught.facts.hidden_size
    width = config.section("vision_config").int("hidden_size", default=_width(config))
    projector = _plain_projector(width, hidden, bias=config.bool("multimodal_projector_bias", default=True))
    return _build(
        config, projector, hidden, tower=llava_tower(config, feature_layer=-1), newline=True,
        modality="text+image+video", draught=draught,
    )  # fmt: skip


def _normed_onevision(config: Config, factor: int) -> Draught:
    """LLaVA-OneVision with a norm before the projector, which is `factor` times as wide as the language model."""
    draught = language(text_config(config, model_type="qwen3", outer_tie=False, forward_tie=True))
    hidden = draught.facts.hidden_size
    width = config.section("vision_config").int("hidden_size", default=_width(config))
    projector: tuple[Item, ...] = (
        norm("pre_norm", width, bias=True),
        plain("linear_1", factor * hidden, width),
        plain("linear_2", hidden, factor * hidden),
    )
    return _build(
        config, projector, hidden, tower=llava_tower(config, feature_layer=-1), newline=True,
        modality="text+image+video", draught=draught,
    )  # fmt: skip


def bee(config: Config) -> Draught:
    """BeeForConditionalGeneration (models/bee.py)."""
    return _normed_onevision(config, 4)


def r_vl(config: Config) -> Draught:
    """RForConditionalGeneration, R-4B (models/rvl.py)."""
    return _normed_onevision(config, 1)


# Mistral3Config's own language model and patch size, which it takes where the sections are absent.
_MISTRAL3_TEXT = {
    "model_type": "mistral", "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768,
    "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8,
    "sliding_window": None, "vocab_size": 131072,
}  # fmt: skip


def mistral3(config: Config) -> Draught:
    """Mistral3ForConditionalGeneration: Pixtral's tower, merged patches, a projector (models/mistral3.py)."""
    if not config.has("text_config"):
        config = Config({**config.data, "text_config": _MISTRAL3_TEXT}, config.path)
    draught = language(text_config(config, model_type="mistral", outer_tie=True))
    hidden = draught.facts.hidden_size
    vision = (
        part(config, "vision_config")
        if config.has("vision_config")
        else Config({"patch_size": 14}, "vision_config")
    )
    width = vision.int("hidden_size", default=1024)
    merge = config.int("spatial_merge_size", default=2, maximum=64)
    features = feature_layers(config, default=-1)
    tower = pixtral_tower(vision, TOWER, layers=deepest(vision, features, default=24))
    projector: tuple[Item, ...] = (
        norm("norm", width),
        plain("patch_merger.merging_layer", width, width * merge**2, bias=False),
        *_projector(width, hidden, bias=config.bool("multimodal_projector_bias", default=False)),
    )
    return _build(
        config, projector, hidden, tower=tower, newline=False, modality="text+image", draught=draught
    )


def light_on_ocr(config: Config) -> Draught:
    """LightOnOCRForConditionalGeneration: Mistral 3's tower before Qwen3."""
    return mistral3(config)


ARCHITECTURES: dict[str, Builder] = {
    "LlavaForConditionalGeneration": llava,
    "LlavaNextForConditionalGeneration": llava_next,
    "LlavaNextVideoForConditionalGeneration": llava_next_video,
    "LlavaOnevisionForConditionalGeneration": llava_onevision,
    "Mistral3ForConditionalGeneration": mistral3,
    "LightOnOCRForConditionalGeneration": light_on_ocr,
    "BeeForConditionalGeneration": bee,
    "RForConditionalGeneration": r_vl,
}
