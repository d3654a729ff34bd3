"""GLM's vision models: GLM-4V with EVA2-CLIP, GLM-4.1V to 4.6V dense and routed, GLM-OCR.

models/glm4v.py, glm4_1v.py.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, gated_mlp, norm, row, whole
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    fused,
    language,
    pair,
    part,
    stage,
    table,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.qwen_vl import MODALITY, rotation
from selfhost.model.families.siglip import method
from selfhost.model.modules import Block, Buffer, Item

_VISUAL = ("model.visual", "visual")
_BLOCKS = ("model.visual.blocks", "visual.blocks")


def _heads(vision: Config, width: int, default: int) -> tuple[int, int]:
    heads = vision.int("num_heads", "num_attention_heads", default=default, maximum=1 << 12)
    if width % heads:
        raise vision.error("num_heads", f"is {heads}, which does not divide the width {width}")
    return heads, width // heads


def _around(vision: Config, width: int, outputs: int, *, merger: int) -> list[Item]:
    """Patches, downsampling and merger."""
    patch, across = pair(vision, "patch_size", default=14)
    frames = vision.int("temporal_patch_size", default=2, maximum=1 << 10)
    merge = vision.int("spatial_merge_size", default=2, maximum=64)
    channels = vision.int("in_channels", default=3, maximum=64)
    return [
        conv("patch_embed.proj", width, channels * frames * patch * across, bias=True),
        norm("post_layernorm", width),
        conv("downsample", outputs, width * merge**2, bias=True),
        column("merger.proj", outputs, outputs),
        norm("merger.post_projection_norm", outputs, bias=True),
        *gated_mlp("merger", outputs, merger),
    ]


def glm4v_tower(config: Config) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """Glm4vVisionTransformer: the MLP is as wide as the output, the merger as `intermediate_size`."""
    vision = part(config, "vision_config")
    width = vision.int("hidden_size", default=1536)
    heads, head_dim = _heads(vision, width, 12)
    outputs = vision.int("out_hidden_size", default=4096)
    # compressed-tensors knows the fused projection by another name (models/glm4_1v.py:304).
    name = "attn.qkv_proj" if method(config) == "compressed-tensors" else "attn.qkv"
    items: tuple[Item, ...] = (
        fused(name, heads, head_dim, width, bias=False),
        row("attn.proj", width, width),
        *gated_mlp("mlp", width, outputs),
        norm("norms", width, copies=2),
    )
    height, across = pair(vision, "image_size", default=336)
    patch, patch_across = pair(vision, "patch_size", default=14)
    positions = (height // patch) * (across // patch_across)
    rest = stage(
        _VISUAL,
        *_around(vision, width, outputs, merger=vision.int("intermediate_size", default=13696)),
        norm("post_conv_layernorm", width),
        table("embeddings.position_embedding", positions, width),
    )
    depth = vision.int("depth", default=24, maximum=4096)
    buffers = (*rotation(head_dim), floats("visual.embeddings.position_ids", positions, "int64"))
    return (*encoder(_BLOCKS, depth, items), rest), buffers


def glm4v(config: Config) -> Draught:
    """Glm4vForConditionalGeneration (GLM-4.1V, GLM-4.6V-Flash)."""
    section = text_config(config, model_type="glm4v_text", outer_tie=False, forward_tie=True)
    towers, buffers = glm4v_tower(config)
    return with_towers(language(section, "Glm4ForCausalLM"), towers, modality=MODALITY, buffers=buffers)


def glm4v_moe(config: Config) -> Draught:
    """Glm4vMoeForConditionalGeneration (GLM-4.5V, GLM-4.6V)."""
    section = text_config(config, model_type="glm4v_moe_text", outer_tie=False, forward_tie=True)
    towers, buffers = glm4v_tower(config)
    return with_towers(language(section, "Glm4MoeForCausalLM"), towers, modality=MODALITY, buffers=buffers)


def glm_ocr(config: Config) -> Draught:
    """GlmOcrForConditionalGeneration: biases, norms of Q and K, a merger as wide as the language model's MLP."""
    section = text_config(config, model_type="glm_ocr_text", outer_tie=False, forward_tie=True)
    draught = language(section, "Glm4ForCausalLM")
    vision = part(config, "vision_config")
    width = vision.int("hidden_size", default=1024)
    heads, head_dim = _heads(vision, width, 16)
    name = "attn.qkv_proj" if config.has("quantization_config") else "attn.qkv"
    items: tuple[Item, ...] = (
        fused(name, heads, head_dim, width, bias=True),
        row("attn.proj", width, width, bias=True),
        norm("attn.qk_norm", head_dim, copies=2),
        *gated_mlp("mlp", width, vision.int("intermediate_size", default=4096), bias=True),
        norm("norms", width, copies=2),
    )
    outputs = vision.int("out_hidden_size", default=1536)
    rest = stage(_VISUAL, *_around(vision, width, outputs, merger=draught.facts.intermediate_size))
    towers = (*encoder(_BLOCKS, vision.int("depth", default=24, maximum=4096), items), rest)
    return with_towers(draught, towers, modality=MODALITY, buffers=rotation(head_dim))


def glm_4v(config: Config) -> Draught:
    """GLM4VForCausalLM (GLM-4V-9B): EVA2-CLIP inside ChatGLM."""
    draught = language(config, "ChatGLMModel", prefixes=("model",))
    vision = config.section("vision_config")
    width = vision.int("hidden_size")
    heads, head_dim = _heads(vision, width, 16)
    inner = vision.int("intermediate_size")
    hidden = draught.facts.hidden_size
    items: tuple[Item, ...] = (
        fused("attention.query_key_value", heads, head_dim, width, bias=True),
        row("attention.dense", width, width, bias=True),
        column("mlp.fc1", inner, width, bias=True),
        row("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    patch = vision.int("patch_size", maximum=1 << 10)
    wide = config.int("ffn_hidden_size")
    rest = stage(
        ("transformer.vision",),
        conv("patch_embedding.proj", width, vision.int("in_channels", maximum=64) * patch**2, bias=True),
        weights("patch_embedding.cls_embedding", width),
        table("patch_embedding.position_embedding", vision.int("num_positions"), width),
        whole("linear_proj.linear_proj", hidden, hidden),
        norm("linear_proj.norm1", hidden, bias=True),
        *gated_mlp(
            "linear_proj", hidden, wide, names=("merged_proj", "gate_proj", "dense_h_to_4h", "dense_4h_to_h")
        ),
        conv("conv", hidden, width * 4, bias=True),
        weights("boi_and_eoi", 2, hidden),
    )
    layers = vision.int("num_hidden_layers", maximum=4096)
    towers = (*encoder(("transformer.vision.transformer.layers",), layers, items), rest)
    return with_towers(draught, towers, modality="text+image")


ARCHITECTURES: dict[str, Builder] = {
    "Glm4vForConditionalGeneration": glm4v,
    "Glm4vMoeForConditionalGeneration": glm4v_moe,
    "GlmOcrForConditionalGeneration": glm_ocr,
    "GLM4VForCausalLM": glm_4v,
}
