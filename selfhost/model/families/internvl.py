"""InternVL and its relatives: InternViT with an MLP, around any language model (models/internvl.py, interns1.py)."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, row, whole
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    fused,
    language,
    pair,
    plain,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.siglip import siglip_tower
from selfhost.model.modules import Block, Item, Matrix

_MODALITY = "text+image+video"


def intern_tower(
    vision: Config,
    prefixes: tuple[str, ...],
    *,
    layers: int | None = None,
    dummy_heads: int = 0,
    quantizable: bool = True,
) -> tuple[Block, ...]:
    """InternVisionModel (models/intern_vit.py:365); its attention is whole where TP does not divide the heads.

    Args:
        dummy_heads: heads added so that TP divides them (NVLM-D).
    """
    width = vision.int("hidden_size")
    heads = vision.int("num_attention_heads", maximum=1 << 12)
    inner = vision.int("intermediate_size")
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    head_dim, count = width // heads, heads + dummy_heads
    layer_norm = vision.str("norm_type", default="layer_norm") == "layer_norm"
    output = row("attn.proj", width, count * head_dim, bias=True)
    items: list[Item] = [
        fused(
            "attn.qkv",
            count,
            head_dim,
            width,
            bias=vision.bool("qkv_bias", default=False),
            whole_unless=count,
        ),
        replace(output, whole_unless=count),
        column("mlp.fc1", inner, width, bias=True),
        row("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=layer_norm, copies=2),
        weights("layer_scales", 2, width),
    ]
    if vision.bool("qk_normalization", default=False):
        items.append(norm("attn.qk_norm", count * head_dim, copies=2))
    if not quantizable:
        items = [replace(item, quantizable=False) if isinstance(item, Matrix) else item for item in items]
    patch = vision.int("patch_size", maximum=1 << 10)
    positions = (vision.int("image_size", maximum=1 << 16) // patch) ** 2 + 1
    rest = stage(
        prefixes,
        weights("embeddings.class_embedding", width),
        conv("embeddings.patch_embedding", width, 3 * patch**2, bias=True),
        weights("embeddings.position_embedding", positions, width),
    )
    count_layers = vision.int("num_hidden_layers", maximum=4096) if layers is None else layers
    return (*encoder(tuple(f"{one}.encoder.layers" for one in prefixes), count_layers, tuple(items)), rest)


def used_layers(config: Config, vision: Config) -> int:
    """Layers up to `select_layer` (models/internvl.py `_init_vision_model`)."""
    chosen = config.int("select_layer", default=-1, minimum=-4096, maximum=4096)
    count = vision.int("num_hidden_layers", maximum=4096)
    return count + chosen + 1 if chosen < 0 else chosen + 1


def merged_width(config: Config, width: int) -> int:
    """Width after pixels are shuffled together by `downsample_ratio`."""
    ratio = config.float("downsample_ratio", default=0.5)
    if not 0 < ratio <= 1:
        raise config.error("downsample_ratio", f"is {ratio:g}, outside 0 to 1")
    return width * int(1 / ratio) ** 2


def mlp1(merged: int, hidden: int) -> Block:
    """The projector of InternVL's own format."""
    return stage(
        ("mlp1",), norm("0", merged, bias=True), plain("1", hidden, merged), plain("3", hidden, hidden)
    )


def chat_model(config: Config) -> Draught:
    """InternVLChatModel, and classes that differ in processing only."""
    section = text_config(config, "llm_config", "text_config")
    draught = language(section)
    vision = config.section("vision_config")
    # AWQ checkpoints leave the tower alone (models/internvl.py `_patch_quant_config`).
    towers = (
        *intern_tower(
            vision, ("vision_model",), layers=used_layers(config, vision), quantizable=not _awq(config)
        ),
        mlp1(merged_width(config, vision.int("hidden_size")), draught.facts.hidden_size),
    )
    return with_towers(draught, towers, modality=_MODALITY)


def _awq(config: Config) -> bool:
    for name in ("llm_config", "text_config"):
        section = config.optional_section(name)
        given = section.optional_section("quantization_config") if section is not None else None
        if given is not None and given.str("quant_method", default="") == "awq":
            return not given.has("modules_to_not_convert")
    return False


def image_only(config: Config) -> Draught:
    """H2OVLChatModel."""
    return _modality(chat_model(config), "text+image")


def skywork(config: Config) -> Draught:
    """SkyworkR1VChatModel: its projector takes part in quantization."""
    draught = image_only(config)
    hidden = draught.facts.hidden_size
    merged = merged_width(config, config.section("vision_config").int("hidden_size"))
    projector = stage(
        ("mlp1",),
        norm("0", merged, bias=True),
        whole("1", hidden, merged, bias=True),
        whole("3", hidden, hidden, bias=True),
    )
    return replace(draught, towers=(*draught.towers[:-1], projector))


def nvlm(config: Config) -> Draught:
    """NVLM_D: seven dummy heads, and a projector as wide as the language model's MLP (models/nvlm_d.py)."""
    section = text_config(config, "llm_config", "text_config")
    draught = language(section)
    vision = config.section("vision_config")
    merged = merged_width(config, vision.int("hidden_size"))
    hidden, inner = draught.facts.hidden_size, draught.facts.intermediate_size
    projector = stage(
        ("mlp1",),
        norm("0", merged, bias=True),
        plain("1", inner, merged, bias=False),
        plain("3", hidden, inner, bias=False),
    )
    tower = intern_tower(vision, ("vision_model",), layers=used_layers(config, vision), dummy_heads=7)
    return with_towers(draught, (*tower, projector), modality="text+image")


def eagle(config: Config) -> Draught:
    """Eagle2_5_VLForConditionalGeneration: SigLIP in place of InternViT."""
    section = text_config(config, "text_config", "llm_config")
    draught = language(section)
    vision = config.section("vision_config")
    width = vision.int("hidden_size", default=768)
    blocks, buffers = siglip_tower(vision, config, ("vision_model",), layers=used_layers(config, vision))
    towers = (*blocks, mlp1(merged_width(config, width), draught.facts.hidden_size))
    return with_towers(draught, towers, modality="text+image", buffers=buffers)


def _modality(draught: Draught, modality: str) -> Draught:
    return replace(draught, facts=replace(draught.facts, modality=modality))


def interns1_tower(vision: Config, prefixes: tuple[str, ...]) -> tuple[Block, ...]:
    """InternS1VisionModel (models/interns1_vit.py): attention whole on every rank, MLP divided, nothing quantized."""
    width = vision.int("hidden_size", default=1024)
    inner = vision.int("intermediate_size", default=4096)
    bias = vision.bool("attention_bias", default=False)
    layer_norm = vision.str("norm_type", default="layer_norm") == "layer_norm"
    items: list[Item] = [
        plain("attention.qkv_proj", width, width, bias=bias, copies=3),
        plain("attention.projection_layer", width, width),
        replace(column("mlp.fc1", inner, width, bias=True), quantizable=False),
        replace(row("mlp.fc2", width, inner, bias=True), quantizable=False),
        norm("norms", width, bias=layer_norm, copies=2),
        weights("lambdas", 2, width),
    ]
    if vision.bool("use_qk_norm", default=False):
        items.append(norm("attention.qk_norm", width, copies=2))
    height, across = pair(vision, "image_size", default=448)
    patch, patch_across = pair(vision, "patch_size", default=14)
    patches = (height // patch) * (across // patch_across)
    rest: list[Item] = [
        weights("embeddings.cls_token", width),
        conv(
            "embeddings.patch_embeddings",
            width,
            vision.int("num_channels", default=3, maximum=64) * patch * patch_across,
            bias=True,
        ),
    ]  # fmt: skip
    if vision.bool("use_mask_token", default=False):
        rest.append(weights("embeddings.mask_token", width))
    if vision.bool("use_absolute_position_embeddings", default=True):
        rest.append(weights("embeddings.position_embeddings", patches + 1, width))
    if not vision.bool("use_mean_pooling", default=True):
        rest.append(norm("layernorm", width, bias=True))
    count = vision.int("num_hidden_layers", default=24, maximum=4096)
    return (
        *encoder(tuple(f"{one}.encoder.layer" for one in prefixes), count, tuple(items)),
        stage(prefixes, *rest),
    )


def interns1(config: Config) -> Draught:
    """InternS1ForConditionalGeneration and InternVL in transformers' format."""
    section = text_config(config, model_type="qwen2", outer_tie=True)
    draught = language(section)
    vision = config.section("vision_config")
    hidden = draught.facts.hidden_size
    merged = merged_width(config, vision.int("hidden_size", default=1024))
    towers = (
        *interns1_tower(vision, ("model.vision_tower", "vision_tower")),
        stage(
            ("model.multi_modal_projector", "multi_modal_projector"),
            norm("layer_norm", merged, bias=True),
            plain("linear_1", hidden, merged),
            plain("linear_2", hidden, hidden),
        ),
    )
    return with_towers(draught, towers, modality=_MODALITY)


ARCHITECTURES: dict[str, Builder] = {
    "InternVLChatModel": chat_model,
    "H2OVLChatModel": image_only,
    "SkyworkR1VChatModel": skywork,
    "NVLM_D": nvlm,
    "Eagle2_5_VLForConditionalGeneration": eagle,
    "InternVLForConditionalGeneration": interns1,
    "InternS1ForConditionalGeneration": interns1,
}
