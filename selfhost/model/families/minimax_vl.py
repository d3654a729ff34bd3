"""MiniMax M3 with its vision tower (vLLM 0.32 models/minimax_m3/common/vision_tower.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, qkv, row
from selfhost.model.families.multimodal import conv, encoder, language, part, stage, text_config, with_towers
from selfhost.model.families.qwen_vl import MODALITY


def minimax_m3(config: Config) -> Draught:
    """MiniMaxM3SparseForConditionalGeneration."""
    section = text_config(config, model_type="minimax_m3", outer_tie=False, forward_tie=True)
    draught = language(
        section,
        "MiniMaxM3SparseForCausalLM",
        prefixes=("language_model.model", "model.language_model", "model"),
    )
    hidden = draught.facts.hidden_size
    vision = config.section("vision_config")
    width = vision.int("hidden_size")
    heads = vision.int("num_attention_heads", maximum=1 << 12)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    inner = vision.int("intermediate_size")
    compression = part(vision, "img_token_compression_config")
    frames = compression.int("temporal_patch_size", default=2, maximum=64)
    merge = compression.int("spatial_merge_size", default=2, maximum=64)
    items = (
        qkv("self_attn.qkv_proj", width, heads, heads, width // heads, bias=True),
        row("self_attn.out_proj", width, width, bias=True),
        column("fc1", inner, width, bias=True),
        row("fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    patch = vision.int("patch_size", maximum=1 << 10)
    rest = stage(
        ("vision_tower.vision_model",),
        conv("embeddings.patch_embedding", width, vision.int("num_channels", maximum=64) * frames * patch**2),
        norm("pre_layrnorm", width, bias=True),
    )
    middle = config.int("projector_hidden_size", default=0, minimum=0) or hidden
    first, second = "multi_modal_projector", "patch_merge_mlp"
    bias = vision.bool("multimodal_projector_bias", default=True)
    merge_bias = vision.bool("patch_merge_bias", default=True)
    towers = (
        *encoder(
            ("vision_tower.vision_model.encoder.layers",),
            vision.int("num_hidden_layers", maximum=4096),
            items,
        ),
        rest,
        stage(
            (first, f"vision_tower.{first}"),
            column("linear_1", middle, width, bias=bias),
            row("linear_2", hidden, middle, bias=bias),
        ),
        stage(
            (second, f"vision_tower.{second}"),
            column("linear_1", middle, hidden * merge**2, bias=merge_bias),
            row("linear_2", hidden, middle, bias=merge_bias),
        ),
    )
    return with_towers(draught, towers, modality=MODALITY)


ARCHITECTURES: dict[str, Builder] = {"MiniMaxM3SparseForConditionalGeneration": minimax_m3}
