"""Qwen's omni models: the thinker of Qwen2.5-Omni and Qwen3-Omni, and Qwen3-ASR (vLLM loads no talker)."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.audio import plain_layer
from selfhost.model.families.common import Builder, Draught, column, norm, qkv, row
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    language,
    part,
    plain,
    stage,
    text_config,
    with_towers,
)
from selfhost.model.families.qwen_vl import qwen2_5_tower, qwen3_tower
from selfhost.model.modules import Block, Buffer, Matrix

_TEXT = ("thinker.model", "language_model.model", "model.language_model", "model")
_ALL = "text+image+video+audio"
_AUDIO = ("thinker.audio_tower", "audio_tower")


def _thinker(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Blocks that checkpoints prefix with `thinker.`."""
    return tuple(
        replace(
            block,
            prefixes=(
                *(f"thinker.{one.removeprefix('model.')}" for one in block.prefixes[:1]),
                *block.prefixes,
            ),
        )
        for block in blocks
    )


def qwen2_5_audio(audio: Config) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """Qwen2_5OmniAudioEncoder of transformers, whole on every rank."""
    width = audio.int("d_model", default=1280)
    inner = audio.int("encoder_ffn_dim", default=5120)
    items = plain_layer(width, inner)
    rest = stage(
        _AUDIO,
        conv("conv1", width, 3 * audio.int("num_mel_bins", default=128), bias=True),
        conv("conv2", width, 3 * width, bias=True),
        plain("audio_bos_eos_token", 2, audio.int("output_dim", default=3584), bias=False),
        norm("ln_post", width, bias=True),
        plain("proj", audio.int("output_dim", default=3584), width),
        replicated=True,
    )
    layers = audio.int("encoder_layers", default=32, maximum=4096)
    positions = audio.int("max_source_positions", default=1500)
    names = tuple(f"{one}.layers" for one in _AUDIO)
    table = floats("audio_tower.positional_embedding", positions * width, "float32")
    return (*encoder(names, layers, items, replicated=True), rest), (table,)


def qwen3_audio(audio: Config) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """Qwen3OmniMoeAudioEncoder (models/qwen3_omni_moe_thinker.py): whole where TP does not divide its heads.

    Never quantized.
    """
    width = audio.int("d_model", default=1280)
    heads = audio.int("encoder_attention_heads", default=20, maximum=1 << 12)
    if width % heads:
        raise audio.error("encoder_attention_heads", f"is {heads}, which does not divide the width {width}")
    inner = audio.int("encoder_ffn_dim", default=5120)
    items = tuple(
        replace(item, quantizable=False, whole_unless=heads) if isinstance(item, Matrix) else item
        for item in (
            qkv("self_attn.qkv_proj", width, heads, heads, width // heads, bias=True),
            row("self_attn.out_proj", width, width, bias=True),
            column("fc1", inner, width, bias=True),
            row("fc2", width, inner, bias=True),
            norm("norms", width, bias=True, copies=2),
        )
    )
    small = audio.int("downsample_hidden_size", default=480)
    mels = audio.int("num_mel_bins", default=128)
    for _ in range(3):
        mels = (mels + 1) // 2
    rest = stage(
        _AUDIO,
        conv("conv2d1", small, 9, bias=True),
        conv("conv2d2", small, 9 * small, bias=True),
        conv("conv2d3", small, 9 * small, bias=True),
        plain("conv_out", width, small * mels, bias=False),
        norm("ln_post", width, bias=True),
        plain("proj1", width, width),
        plain("proj2", audio.int("output_dim", default=3584), width),
    )
    layers = audio.int("encoder_layers", default=32, maximum=4096)
    positions = audio.int("max_source_positions", default=1500)
    names = tuple(f"{one}.layers" for one in _AUDIO)
    table = floats("audio_tower.positional_embedding", positions * width)
    return (*encoder(names, layers, items), rest), (table,)


def qwen2_5_omni(config: Config) -> Draught:
    """Qwen2_5OmniModel: Qwen2 with Qwen2.5-VL's eyes and a Whisper-like ear."""
    thinker = config.section("thinker_config")
    draught = language(text_config(thinker, model_type="qwen2"), "Qwen2ForCausalLM", prefixes=_TEXT)
    vision, buffers = qwen2_5_tower(part(thinker, "vision_config"))
    audio, more = qwen2_5_audio(part(thinker, "audio_config"))
    return with_towers(draught, (*audio, *_thinker(vision)), modality=_ALL, buffers=(*buffers, *more))


def qwen3_omni(config: Config) -> Draught:
    """Qwen3OmniMoeForConditionalGeneration: mergers under names of their own, a position table by image size."""
    thinker = config.section("thinker_config")
    draught = language(text_config(thinker, model_type="qwen3_moe"), "Qwen3MoeForCausalLM", prefixes=_TEXT)
    given = part(thinker, "vision_config")
    patch = given.int("patch_size", default=16, maximum=1 << 10)
    grid = (given.int("image_size", maximum=1 << 16) // patch) ** 2
    vision = Config({**given.data, "num_position_embeddings": grid}, given.path)
    towers, buffers = qwen3_tower(
        vision, deepstack=(8, 16, 24), names=("merger.ln_q", "mlp.0", "mlp.2", "merger_list", "ln_q")
    )
    audio, more = qwen3_audio(part(thinker, "audio_config"))
    return with_towers(draught, (*audio, *_thinker(towers)), modality=_ALL, buffers=(*buffers, *more))


def qwen3_asr(config: Config) -> Draught:
    """Qwen3ASRForConditionalGeneration: Qwen3 behind Qwen3-Omni's ear."""
    thinker = config.optional_section("thinker_config") or config
    draught = language(
        text_config(thinker, model_type="qwen3", outer_tie=_outer(config)), "Qwen3ForCausalLM", prefixes=_TEXT
    )
    towers, buffers = qwen3_audio(part(thinker, "audio_config"))
    return with_towers(draught, towers, modality="text+audio", buffers=buffers)


def _outer(config: Config) -> bool | None:
    return config.bool("tie_word_embeddings") if config.has("tie_word_embeddings") else None


ARCHITECTURES: dict[str, Builder] = {
    "Qwen2_5OmniModel": qwen2_5_omni,
    "Qwen2_5OmniForConditionalGeneration": qwen2_5_omni,
    "Qwen3OmniMoeForConditionalGeneration": qwen3_omni,
    "Qwen3ASRForConditionalGeneration": qwen3_asr,
    "Qwen3ASRRealtimeGeneration": qwen3_asr,
}
