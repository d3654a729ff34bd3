"""Ling 3 with Qwen3-VL's tower, and openPangu-VL's tower with several mergers."""

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
    unquantized,
    with_towers,
)
from selfhost.model.families.qwen_vl import MODALITY, qwen3_tower
from selfhost.model.modules import Block, Item

_VISUAL = ("model.visual", "visual")


def ling3_vl(config: Config) -> Draught:
    """BailingMoeV3VLForConditionalGeneration: the projector stands beside the tower (models/bailing_moe_v3_vl.py)."""
    draught = language(text_config(config), "BailingMoeV3ForCausalLM")
    vision = part(config, "vision_config")
    towers, buffers = qwen3_tower(vision, merging=False)
    if _left_out(config, "visual"):
        towers = tuple(unquantized(block) for block in towers)
    hidden = draught.facts.hidden_size
    merged = (
        vision.int("hidden_size", default=1152) * vision.int("spatial_merge_size", default=2, maximum=64) ** 2
    )
    projector = stage(
        ("model.linear_proj", "linear_proj"),
        column("linear_fc1", hidden, merged, bias=True),
        row("linear_fc2", hidden, hidden, bias=True),
    )
    if _left_out(config, "linear_proj"):
        projector = unquantized(projector)
    return with_towers(draught, (*towers, projector), modality="text+image", buffers=buffers)


def _left_out(config: Config, module: str) -> bool:
    """FP8 checkpoints name the whole module in their exclusions (models/bailing_moe_v3_vl.py:215, :255)."""
    given = config.optional_section("quantization_config")
    if given is None or given.str("quant_method", default="") != "fp8":
        return False
    names = given.data.get("modules_to_not_convert") or given.data.get("ignored_layers") or ()
    return isinstance(names, (list, tuple)) and (module in names or f"model.{module}" in names)


def _pangu_tower(vision: Config, hidden: int) -> tuple[Block, ...]:
    """OpenPanguVisionTransformer: a merger for each layer that is read (models/openpangu_vl.py:370)."""
    width = vision.int("hidden_size")
    heads = vision.int("num_heads", maximum=1 << 12)
    if width % heads:
        raise vision.error("num_heads", f"is {heads}, which does not divide the width {width}")
    inner = vision.int("intermediate_size")
    if vision.str("hidden_act") == "silu":
        # vLLM pads these to a multiple of the ranks (:176); ranks that need it are refused.
        mlp = gated_mlp("mlp", width, inner, bias=True)
    else:
        mlp = (column("mlp.up_proj", inner, width, bias=True), row("mlp.down_proj", width, inner, bias=True))
    items: tuple[Item, ...] = (
        qkv("attn.qkv", width, heads, heads, width // heads, bias=True, names=("qkv", "qkv", "qkv")),
        row("attn.proj", width, width, bias=True),
        *mlp,
        norm("norms", width, copies=2),
    )
    outputs = vision.int("out_hidden_size")
    merged = width * vision.int("spatial_merge_size", maximum=64) ** 2
    mergers: list[Item] = []
    for index in range(len(vision.list("mm_unit_vision_select_layer", default=(-1, -3)))):
        mergers.append(norm(f"merger.{index}.ln_q", width))
        mergers.append(column(f"merger.{index}.mlp.0", merged, merged, bias=True))
        mergers.append(row(f"merger.{index}.mlp.2", outputs, merged, bias=True))
    pixels = (
        vision.int("in_channels", default=3, maximum=64)
        * vision.int("temporal_patch_size", maximum=64)
        * vision.int("patch_size", maximum=1 << 10) ** 2
    )
    rest = stage(
        _VISUAL,
        conv("patch_embed.proj", width, pixels),
        norm("final_layernorm", width),
        *mergers,
        plain("vision_projection.fc1", hidden, outputs),
    )
    layers = vision.int("depth", maximum=4096)
    return (*encoder(tuple(f"{one}.blocks" for one in _VISUAL), layers, items), rest)


def pangu_vl(config: Config) -> Draught:
    """OpenPanguVLForConditionalGeneration."""
    draught = language(text_config(config), "PanguEmbeddedForCausalLM")
    towers = _pangu_tower(config.section("vision_config"), draught.facts.hidden_size)
    return with_towers(draught, towers, modality=MODALITY)


ARCHITECTURES: dict[str, Builder] = {
    "BailingMoeV3VLForConditionalGeneration": ling3_vl,
    "OpenPanguVLForConditionalGeneration": pangu_vl,
}
