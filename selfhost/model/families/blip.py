"""Queries between an encoder and a language model: BLIP-2 and Granite speech share the Q-Former.

models/blip2.py, granite_speech.py.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, row
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    fused,
    language,
    part,
    plain,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.modules import Block, Buffer, Item


def qformer(config: Config, prefix: str) -> tuple[tuple[Block, ...], int]:
    """Blip2QFormerModel, whole on every rank and never quantized, and its width."""
    width = config.int("hidden_size", default=768)
    inner = config.int("intermediate_size", default=3072)
    outside = config.int("encoder_hidden_size", default=1408)
    every = config.int("cross_attention_frequency", default=2, maximum=4096)
    own: tuple[Item, ...] = (
        plain("attention.qkv_and_output", width, width, copies=4),
        plain("intermediate_query.dense", inner, width),
        plain("output_query.dense", width, inner),
        norm("norms", width, bias=True, copies=2),
    )
    crossing: tuple[Item, ...] = (
        *own,
        plain("crossattention.query_and_output", width, width, copies=2),
        plain("crossattention.kv", width, outside, copies=2),
        norm("crossattention.norm", width, bias=True),
    )
    layers = config.int("num_hidden_layers", default=12, maximum=4096)
    blocks = tuple(
        Block(
            prefixes=(f"{prefix}.encoder.layer.{index}",),
            items=own if index % every else crossing,
            tower=True,
        )
        for index in range(layers)
    )
    return (*blocks, stage((prefix,), norm("layernorm", width, bias=True))), width


def blip_tower(vision: Config) -> tuple[Block, ...]:
    """BlipVisionModel (models/blip.py)."""
    width = vision.int("hidden_size", default=1408)
    heads = vision.int("num_attention_heads", default=16, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=6144)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    items = (
        fused("self_attn.qkv", heads, width // heads, width, bias=vision.bool("qkv_bias", default=True)),
        row("self_attn.projection", width, width, bias=True),
        column("mlp.fc1", inner, width, bias=True),
        row("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    positions = (vision.int("image_size", default=224, maximum=1 << 16) // patch) ** 2 + 1
    rest = stage(
        ("vision_model",),
        weights("embeddings.class_embedding", width),
        conv("embeddings.patch_embedding", width, 3 * patch**2, bias=True),
        weights("embeddings.position_embedding", positions, width),
        norm("post_layernorm", width, bias=True),
    )
    layers = vision.int("num_hidden_layers", default=39, maximum=4096)
    # vLLM gives the tower no prefix, so that is what exclusions see (models/blip2.py:532).
    return (*encoder(("encoder.layers",), layers, items), rest)


def blip2(config: Config) -> Draught:
    """Blip2ForConditionalGeneration."""
    draught = language(text_config(config, model_type="opt"))
    queries, width = qformer(part(config, "qformer_config"), "qformer")
    towers = (
        *blip_tower(part(config, "vision_config")),
        *queries,
        stage(
            ("",),
            weights("query_tokens", config.int("num_query_tokens", default=32), width),
            plain("language_projection", draught.facts.hidden_size, width),
        ),
    )
    return with_towers(draught, towers, modality="text+image")


# ---- Granite speech
def _conformer(speech: Config) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """GraniteSpeechCTCEncoder: feed-forward parts divided over ranks, attention and convolutions whole."""
    width = speech.int("hidden_dim", default=1024)
    wide = width * speech.int("feedforward_mult", default=4, maximum=64)
    inner = speech.int("dim_head", default=128) * speech.int("num_heads", default=8, maximum=1 << 12)
    channels = width * speech.int("conv_expansion_factor", default=2, maximum=64)
    reach = 2 * speech.int("max_pos_emb", default=512) + 1
    items: tuple[Item, ...] = (
        *(column(f"ff{one}.up_proj", wide, width, bias=True, quantizable=False) for one in (1, 2)),
        *(row(f"ff{one}.down_proj", width, wide, bias=True, quantizable=False) for one in (1, 2)),
        plain("attn.to_q", inner, width, bias=False),
        plain("attn.to_kv", 2 * inner, width, bias=False),
        plain("attn.to_out", width, inner),
        weights("attn.rel_pos_emb", reach, speech.int("dim_head", default=128)),
        conv("conv.up_conv", 2 * channels, width, bias=True),
        conv("conv.depth_conv", channels, speech.int("conv_kernel_size", default=15)),
        conv("conv.down_conv", width, channels, bias=True),
        norm("conv.batch_norm", channels, bias=True),
        norm("norms", width, bias=True, copies=5),
    )
    outputs = speech.int("output_dim", default=42)
    rest = stage(
        ("encoder",),
        plain("input_linear", width, speech.int("input_dim", default=160)),
        column("out", outputs, width, bias=True),
        row("out_mid", width, outputs, bias=True),
    )
    layers = speech.int("num_layers", default=10, maximum=4096)
    return (*encoder(("encoder.layers",), layers, items), rest), (
        floats("batch_norm", 2 * channels * layers, "model"),
    )


def granite_speech(config: Config) -> Draught:
    """GraniteSpeechForConditionalGeneration, and its form with several layers read."""
    draught = language(text_config(config, model_type="granite", outer_tie=True))
    blocks, buffers = _conformer(part(config, "encoder_config"))
    queries, width = qformer(part(config, "projector_config"), "projector.qformer")
    rate = config.int("downsample_rate", default=5, maximum=1 << 10)
    window = config.int("window_size", default=15, maximum=1 << 10)
    rest = stage(
        ("projector",),
        weights("query", window // rate, width),
        plain("linear", draught.facts.hidden_size, width),
    )
    return with_towers(draught, (*blocks, *queries, rest), modality="text+audio", buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {
    "Blip2ForConditionalGeneration": blip2,
    "GraniteSpeechForConditionalGeneration": granite_speech,
    "GraniteSpeechPlusForConditionalGeneration": granite_speech,
}
