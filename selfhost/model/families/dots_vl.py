"""dots.ocr: a transformer over patches with gated MLPs before Qwen2 (models/dots_ocr.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, gated_mlp, norm, row
from selfhost.model.families.multimodal import conv, encoder, fused, language, part, stage, with_towers
from selfhost.model.modules import Item


def dots_ocr(config: Config) -> Draught:
    """DotsOCRForCausalLM; the merger stays out of quantization."""
    draught = language(config, "Qwen2ForCausalLM", prefixes=("model", "language_model.model"))
    vision = part(config, "vision_config")
    width = vision.int("embed_dim", default=1536)
    heads = vision.int("num_attention_heads", default=12, maximum=1 << 12)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    bias = vision.bool("use_bias", default=False)
    inner = vision.int("intermediate_size", default=4224)
    items: tuple[Item, ...] = (
        fused("attn.qkv", heads, width // heads, width, bias=bias),
        row("attn.proj", width, width, bias=bias),
        *gated_mlp("mlp", width, inner, bias=bias, names=("fc13", "fc1", "fc3", "fc2")),
        norm("norms", width, copies=2),
    )
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    merged = width * vision.int("spatial_merge_size", default=2, maximum=64) ** 2
    rest: list[Item] = [
        conv(
            "patch_embed.patchifier.proj", width, vision.int("num_channels", default=3) * patch**2, bias=True
        ),
        norm("patch_embed.patchifier.norm", width),
        norm("merger.ln_q", width, bias=True),
        column("merger.mlp.0", merged, merged, bias=True, quantizable=False),
        row("merger.mlp.2", vision.int("hidden_size", default=1536), merged, bias=True, quantizable=False),
    ]
    if vision.bool("post_norm", default=True):
        rest.append(norm("post_trunk_norm", width))
    layers = vision.int("num_hidden_layers", default=42, maximum=4096)
    towers = (*encoder(("vision_tower.blocks",), layers, items), stage(("vision_tower",), *rest))
    return with_towers(draught, towers, modality="text+image")


ARCHITECTURES: dict[str, Builder] = {"DotsOCRForCausalLM": dots_ocr}
