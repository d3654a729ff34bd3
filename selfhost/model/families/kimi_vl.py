"""Kimi with MoonViT: Kimi-VL, Kimi K2.5 and later, Kimi K3 (models/moonvit.py, kimi_k25_vit.py)."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, row, whole
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    fused,
    language,
    pair,
    part,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.siglip import method
from selfhost.model.modules import Block, Buffer, Item, Matrix

_TEXT = ("language_model.model", "model.language_model", "model")


def _fixed(items: tuple[Item, ...], *, quantizable: bool, whole_unless: int = 0) -> tuple[Item, ...]:
    return tuple(
        replace(item, quantizable=quantizable, whole_unless=whole_unless)
        if isinstance(item, Matrix)
        else item
        for item in items
    )


def moonvit_tower(vision: Config, hidden: int, *, projector: str) -> tuple[Block, ...]:
    """MoonViT with its projector, none of it quantized."""
    width = vision.int("hidden_size", default=1152)
    heads = vision.int("num_attention_heads", default=16, maximum=1 << 12)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    inner = vision.int("intermediate_size", default=4304)
    height, across = pair(vision, "merge_kernel_size", default=2)
    merged = width * height * across
    items = _fixed(
        (
            fused("wqkv", heads, width // heads, width, bias=True),
            row("wo", width, width, bias=True),
            column("mlp.fc0", inner, width, bias=True),
            row("mlp.fc1", width, inner, bias=True),
            norm("norms", width, bias=True, copies=2),
        ),
        quantizable=False,
    )
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    rest = stage(
        ("vision_tower",),
        conv("patch_embed.proj", width, 3 * patch**2, bias=True),
        weights(
            "patch_embed.pos_emb", vision.int("init_pos_emb_height", default=64),
            vision.int("init_pos_emb_width", default=64), width,
        ),
        norm("encoder.final_layernorm", width, bias=True),
    )  # fmt: skip
    projection = stage(
        (projector,),
        norm("pre_norm", width, bias=True),
        whole("linear_1", merged, merged, bias=True, quantizable=False),
        whole("linear_2", hidden, merged, bias=True, quantizable=False),
    )
    layers = vision.int("num_hidden_layers", default=27, maximum=4096)
    return (*encoder(("vision_tower.encoder.blocks",), layers, items), rest, projection)


def moonvit3d_tower(
    vision: Config, hidden: int, *, quantizable: bool, k3: bool
) -> tuple[tuple[Block, ...], Buffer]:
    """MoonViT over space and time; whole on every rank where TP does not divide its heads."""
    width = vision.int("vt_hidden_size", "hidden_size", default=1024 if k3 else 1152)
    heads = vision.int(
        "vt_num_attention_heads", "num_attention_heads", default=12 if k3 else 16, maximum=1 << 12
    )
    inner = vision.int("vt_intermediate_size", "intermediate_size", default=4096 if k3 else 4304)
    attended = vision.int("qkv_hidden_size", default=1536 if k3 else width)
    if attended % heads:
        raise vision.error(
            "vt_num_attention_heads", f"is {heads}, which does not divide the width {attended}"
        )
    attention_bias = vision.bool("attn_bias", default=not k3)
    bias = vision.bool("linear_bias", default=not k3)
    layer_norm = vision.str("norm_type", default="rmsnorm" if k3 else "layernorm") == "layernorm"
    height, across = pair(vision, "merge_kernel_size", default=2)
    merged = width * height * across
    items = _fixed(
        (
            fused("wqkv", heads, attended // heads, width, bias=attention_bias),
            row("wo", width, attended, bias=attention_bias),
            column("mlp.fc0", inner, width, bias=bias),
            row("mlp.fc1", width, inner, bias=bias),
            norm("norms", width, bias=layer_norm, copies=2),
        ),
        quantizable=quantizable,
        whole_unless=heads,
    )
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    rest = stage(
        ("vision_tower",),
        conv("patch_embed.proj", width, 3 * patch**2, bias=vision.bool("patch_embed_proj_bias", default=not k3)),
        weights(
            "patch_embed.pos_emb", vision.int("init_pos_emb_height", "pos_emb_height", default=64),
            vision.int("init_pos_emb_width", "pos_emb_width", default=64), width,
        ),
        norm("encoder.final_layernorm", width, bias=layer_norm),
    )  # fmt: skip
    second = (
        vision.str("mm_projector_type", default="patchmergerv2" if k3 else "patchmerger") == "patchmergerv2"
    )
    projection = stage(
        ("mm_projector",),
        norm("post_norm", hidden) if second else norm("pre_norm", width, bias=True),
        whole("linear_1", merged, merged, bias=not second, quantizable=quantizable),
        whole("linear_2", hidden, merged, bias=not second, quantizable=quantizable),
    )
    layers = vision.int("vt_num_hidden_layers", "num_hidden_layers", default=27, maximum=4096)
    frames = vision.int("init_pos_emb_time", "pos_emb_time", default=4)
    towers = (*encoder(("vision_tower.encoder.blocks",), layers, items), rest, projection)
    return towers, floats("vision_tower.time_weight", frames * width, "model")


def kimi_vl(config: Config) -> Draught:
    """KimiVLForConditionalGeneration."""
    section = text_config(config, model_type="deepseek_v2")
    draught = language(section, "DeepseekV2ForCausalLM", prefixes=_TEXT)
    towers = moonvit_tower(
        part(config, "vision_config"), draught.facts.hidden_size, projector="multi_modal_projector"
    )
    return with_towers(draught, towers, modality="text+image")


def kimi_k25(config: Config) -> Draught:
    """KimiK25ForConditionalGeneration (K2.5, K2.6, K2.7): the towers stay out of compressed-tensors."""
    section = text_config(config, model_type="deepseek_v3", outer_tie=True)
    draught = language(section, "DeepseekV2ForCausalLM", prefixes=_TEXT)
    towers, buffer = moonvit3d_tower(
        part(config, "vision_config"),
        draught.facts.hidden_size,
        quantizable=_quantizable(config, section),
        k3=False,
    )
    return with_towers(draught, towers, modality="text+image+video", buffers=(buffer,))


def kimi_k3(config: Config) -> Draught:
    """KimiK3ForConditionalGeneration."""
    section = text_config(config, model_type="kimi_linear")
    draught = language(section, "KimiLinearForCausalLM", prefixes=_TEXT)
    towers, buffer = moonvit3d_tower(
        part(config, "vision_config"),
        draught.facts.hidden_size,
        quantizable=_quantizable(config, section),
        k3=True,
    )
    return with_towers(draught, towers, modality="text+image", buffers=(buffer,))


def _quantizable(config: Config, section: Config) -> bool:
    return "compressed-tensors" not in (method(config), method(section))


ARCHITECTURES: dict[str, Builder] = {
    "KimiVLForConditionalGeneration": kimi_vl,
    "KimiK25ForConditionalGeneration": kimi_k25,
    "KimiK3ForConditionalGeneration": kimi_k3,
}
