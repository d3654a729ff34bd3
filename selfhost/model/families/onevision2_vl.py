"""Towers that vLLM never quantizes or takes from timm: LLaVA-OneVision 2, BAGEL, OpenVLA."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, qkv, row, whole
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    language,
    part,
    plain,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.qwen_vl import MODALITY
from selfhost.model.families.siglip import siglip_tower
from selfhost.model.modules import Block, Buffer, Item

_VISUAL = ("model.visual", "visual")


def _onevision2_tower(vision: Config, hidden: int) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """LlavaOnevision2VisionTower (models/llava_onevision2.py)."""
    width = vision.int("hidden_size")
    heads = vision.int("num_attention_heads", maximum=1 << 12)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    inner = vision.int("intermediate_size")
    attention = qkv("self_attn.qkv", width, heads, heads, width // heads, bias=True)
    items: tuple[Item, ...] = (
        replace(attention, quantizable=False),
        row("self_attn.proj", width, width, bias=True, quantizable=False),
        column("mlp.fc1", inner, width, bias=True, quantizable=False),
        row("mlp.fc2", width, inner, bias=True, quantizable=False),
        norm("norms", width, bias=True, copies=2),
    )
    merged = width * vision.int("spatial_merge_size", maximum=64) ** 2
    patch = vision.int("patch_size", maximum=1 << 10)
    rest = stage(
        _VISUAL,
        conv(
            "embeddings.patch_embedding", width, vision.int("num_channels", default=3, maximum=64) * patch**2
        ),
        norm("layernorm_pre", width, bias=True),
        norm("merger.ln_q", width, bias=True),
        column("merger.mlp.0", merged, merged, bias=True, quantizable=False),
        row("merger.mlp.2", hidden, merged, bias=True, quantizable=False),
    )
    layers = vision.int("num_hidden_layers", maximum=4096)
    blocks = (*encoder(tuple(f"{one}.encoder.layers" for one in _VISUAL), layers, items), rest)
    return blocks, (floats("visual.rotary_pos_emb.inv_freq", width // heads // 2),)


def onevision2(config: Config) -> Draught:
    """LlavaOnevision2ForConditionalGeneration: Qwen3 behind a tower with a rotary embedding over time and space."""
    draught = language(text_config(config, model_type="qwen3"), "Qwen3ForCausalLM")
    towers, buffers = _onevision2_tower(config.section("vision_config"), draught.facts.hidden_size)
    return with_towers(draught, towers, modality=MODALITY, buffers=buffers)


def bagel(config: Config) -> Draught:
    """BagelForConditionalGeneration: what understands images; vLLM does not load what draws (models/bagel.py)."""
    draught = language(
        text_config(config, "llm_config", model_type="qwen2"),
        "Qwen2ForCausalLM",
        prefixes=("language_model.model", "model"),
    )
    if not config.bool("visual_und", default=True):
        return draught
    hidden = draught.facts.hidden_size
    vision = part(config, "vit_config")
    layers = vision.int("num_hidden_layers", default=12, maximum=4096)
    # The checkpoint has 26 of the 27 layers that its configuration states (models/bagel.py:360).
    whole_tower = Config({**vision.data, "num_hidden_layers": 26 if layers == 27 else layers}, vision.path)
    head = vision.bool("vision_use_head", default=False)
    tower, buffers = siglip_tower(whole_tower, config, ("vit_model",), head=head)
    projector = stage(
        ("connector",),
        column("fc1", hidden, vision.int("hidden_size", default=768), bias=True),
        row("fc2", hidden, hidden, bias=True),
    )
    positions = config.int("vit_max_num_patch_per_side", default=70, maximum=1 << 12) ** 2 * hidden
    return with_towers(
        draught, (*tower, projector), modality="text+image",
        buffers=(*buffers, floats("vit_pos_embed.pos_embed", positions)),
    )  # fmt: skip


# The one backbone that vLLM takes (models/openvla.py `_OPENVLA_TIMM_MODEL_IDS`), sizes as timm builds it.
_OPENVLA_MODELS = ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")


def _timm(
    name: str, *, width: int, inner: int, layers: int, scaled: bool, more: tuple[Item, ...]
) -> tuple[Block, ...]:
    items: tuple[Item, ...] = (
        plain("attn.qkv", 3 * width, width),
        plain("attn.proj", width, width),
        plain("mlp.fc1", inner, width),
        plain("mlp.fc2", width, inner),
        norm("norms", width, bias=True, copies=2),
        *((norm("scales", width, copies=2),) if scaled else ()),
    )
    rest = stage(
        (name,),
        weights("pos_embed", 16**2, width),
        conv("patch_embed.proj", width, 3 * 14**2, bias=True),
        norm("norm", width, bias=True),
        *more,
    )
    return (*encoder((f"{name}.blocks",), layers, items), rest)


def openvla(config: Config) -> Draught:
    """OpenVLAForActionPrediction: DINOv2 and SigLIP side by side, whole on every rank."""
    names = config.strings("timm_model_ids", default=_OPENVLA_MODELS)
    if names != _OPENVLA_MODELS:
        raise config.error("timm_model_ids", "is not the pair that vLLM takes (dinosiglip-vit-so-224px)")
    draught = language(text_config(config, model_type="llama", outer_tie=False))
    hidden = draught.facts.hidden_size
    dino, so400m, inner = 1024, 1152, 4304
    pool: tuple[Item, ...] = (
        weights("attn_pool.latent", so400m),
        plain("attn_pool.q_and_proj", so400m, so400m, copies=2),
        plain("attn_pool.kv", 2 * so400m, so400m),
        norm("attn_pool.norm", so400m, bias=True),
        plain("attn_pool.mlp.fc1", inner, so400m),
        plain("attn_pool.mlp.fc2", so400m, inner),
    )
    both = dino + so400m
    towers = (
        *_timm(
            "vision_backbone.dinov2_featurizer", width=dino, inner=4 * dino, layers=24, scaled=True,
            more=(weights("cls_and_reg_token", 5, dino),),
        ),
        *_timm(
            "vision_backbone.siglip_featurizer", width=so400m, inner=inner, layers=27, scaled=False, more=pool
        ),
        stage(
            ("projector",),
            column("fc1", 4 * both, both, bias=True),
            row("fc2", hidden, 4 * both, bias=True),
            whole("fc3", hidden, hidden, bias=True),
        ),
    )  # fmt: skip
    return with_towers(draught, towers, modality="text+image")


ARCHITECTURES: dict[str, Builder] = {
    "LlavaOnevision2ForConditionalGeneration": onevision2,
    "BagelForConditionalGeneration": bagel,
    "OpenVLAForActionPrediction": openvla,
}
