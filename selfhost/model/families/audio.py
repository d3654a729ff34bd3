"""Models that hear: Whisper, and language models behind Whisper-like encoders.

Qwen2-Audio, Audio Flamingo, Voxtral, Ultravox and GLM-ASR.
"""

from __future__ import annotations

from selfhost.attention import CrossAttention, FullAttention
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
    table,
    text_config,
    with_towers,
)
from selfhost.model.modules import Block, Embedding, Item, Matrix, Part
from selfhost.model.spec import ModelFacts

AUDIO = "text+audio"


def _width(audio: Config, default: int) -> int:
    return audio.int("d_model", "hidden_size", default=default)


def _heads(audio: Config, width: int, default: int, *fields: str) -> int:
    heads = audio.int(
        *(fields or ("encoder_attention_heads", "num_attention_heads")), default=default, maximum=1 << 12
    )
    if width % heads:
        raise audio.error(fields[0] if fields else "encoder_attention_heads",
                          f"is {heads}, which does not divide the width {width}")  # fmt: skip
    return heads


def _mlp(width: int, inner: int) -> tuple[Item, ...]:
    """Named `fc1` in checkpoints and `mlp.fc1` by vLLM."""
    up = Matrix(
        name="mlp.fc1", parts=(Part(name="fc1", units=inner),), inputs=width, division="column", bias=True
    )
    down = Matrix(
        name="mlp.fc2", parts=(Part(name="fc2", units=width),), inputs=inner, division="row", bias=True
    )
    return up, down


def whisper_encoder(
    audio: Config,
    prefixes: tuple[str, ...],
    *,
    default: int = 384,
    heads: int = 6,
    float_positions: bool = False,
) -> tuple[Block, ...]:
    """vLLM's own WhisperEncoder (models/whisper.py:497), divided over ranks.

    Args:
        float_positions: the position table stays in float32 (Voxtral).
    """
    width = _width(audio, default)
    count = _heads(audio, width, heads)
    inner = audio.int("encoder_ffn_dim", "intermediate_size", default=1536 if default == 384 else 4 * default)
    items = (
        qkv("self_attn.qkv_proj", width, count, count, width // count, bias=True),
        row("self_attn.out_proj", width, width, bias=True),
        *_mlp(width, inner),
        norm("norms", width, bias=True, copies=2),
    )
    mels = audio.int("num_mel_bins", default=80)
    rest = stage(
        prefixes,
        conv("conv1", width, 3 * mels, bias=True),
        conv("conv2", width, 3 * width, bias=True),
        Embedding(
            name="embed_positions", rows=audio.int("max_source_positions", default=1500), width=width, divided=False,
            dtype="float32" if float_positions else None,
        ),
        norm("layer_norm", width, bias=True),
    )  # fmt: skip
    layers = audio.int(
        "encoder_layers", "num_hidden_layers", default=4 if default == 384 else 32, maximum=4096
    )
    return (*encoder(tuple(f"{one}.layers" for one in prefixes), layers, items), rest)


def plain_layer(width: int, inner: int) -> tuple[Item, ...]:
    """One layer of Whisper's encoder as transformers has it: keys without biases, nothing divided."""
    return (
        plain("self_attn.qv_and_out_proj", width, width, copies=3),
        plain("self_attn.k_proj", width, width, bias=False),
        plain("fc1", inner, width),
        plain("fc2", width, inner),
        norm("norms", width, bias=True, copies=2),
    )


def plain_encoder(audio: Config, prefixes: tuple[str, ...]) -> tuple[Block, ...]:
    """Qwen2AudioEncoder of transformers: whole on every rank, keys without biases."""
    width = _width(audio, 1280)
    inner = audio.int("encoder_ffn_dim", "intermediate_size", default=5120)
    items = plain_layer(width, inner)
    rest = stage(
        prefixes,
        conv("conv1", width, 3 * audio.int("num_mel_bins", default=128), bias=True),
        conv("conv2", width, 3 * width, bias=True),
        table("embed_positions", audio.int("max_source_positions", default=1500), width),
        norm("layer_norm", width, bias=True),
        replicated=True,
    )
    layers = audio.int("encoder_layers", "num_hidden_layers", default=32, maximum=4096)
    return (*encoder(tuple(f"{one}.layers" for one in prefixes), layers, items, replicated=True), rest)


def whisper(config: Config) -> Draught:
    """WhisperForConditionalGeneration: an encoder and a decoder that attends to it (models/whisper.py:963)."""
    width = config.int("d_model", default=384)
    heads = _heads(config, width, 6, "decoder_attention_heads")
    dim = width // heads
    inner = config.int("decoder_ffn_dim", default=1536)
    vocab = config.int("vocab_size", default=51865)
    length = config.int("max_target_positions", default=448)
    cross = Matrix(
        name="encoder_attn.kv_proj",
        parts=(
            Part(name="encoder_attn.k_proj", units=width),
            Part(name="encoder_attn.v_proj", units=width),
        ),
        inputs=width,
        division="column",
        bias=True,
    )
    items = (
        qkv("self_attn.qkv_proj", width, heads, heads, dim, bias=True),
        row("self_attn.out_proj", width, width, bias=True),
        column("encoder_attn.q_proj", width, width, bias=True),
        cross,
        row("encoder_attn.out_proj", width, width, bias=True),
        *_mlp(width, inner),
        norm("norms", width, bias=True, copies=3),
    )
    keeps = (
        FullAttention(kv_heads=heads, head_dim=dim),
        CrossAttention(
            kv_heads=heads, head_dim=dim, encoder_tokens=config.int("max_source_positions", default=1500)
        ),
    )
    layers = config.int("decoder_layers", default=4, maximum=4096)
    return Draught(
        facts=ModelFacts(
            hidden_size=width, vocab_size=vocab, heads=heads, kv_heads=heads, head_dim=dim,
            intermediate_size=inner, max_context_tokens=length, modality="audio",
        ),
        first=Block(
            prefixes=("model.decoder",),
            items=(table("embed_tokens", vocab, width), table("embed_positions", length, width)),
        ),
        layers=tuple(
            Block(prefixes=(f"model.decoder.layers.{index}",), items=items, keeps=keeps) for index in range(layers)
        ),
        last=Block(prefixes=("model.decoder",), items=(norm("layer_norm", width, bias=True),)),
        towers=whisper_encoder(config, ("model.encoder",)),
        tied=True,
    )  # fmt: skip


def qwen2_audio(config: Config) -> Draught:
    """Qwen2AudioForConditionalGeneration."""
    draught = language(text_config(config, model_type="qwen2"), "Qwen2ForCausalLM")
    audio = part(config, "audio_config")
    projector = stage(
        ("multi_modal_projector",),
        plain("linear", draught.facts.hidden_size, _width(audio, 1280)),
        replicated=True,
    )
    return with_towers(draught, (*plain_encoder(audio, ("audio_tower",)), projector), modality=AUDIO)


def audio_flamingo(config: Config) -> Draught:
    """AudioFlamingo3ForConditionalGeneration."""
    draught = language(text_config(config, model_type="qwen2"), "Qwen2ForCausalLM")
    audio = part(config, "audio_config")
    hidden = draught.facts.hidden_size
    bias = config.bool("projector_bias", default=True)
    projector = stage(
        ("multi_modal_projector",),
        plain("linear_1", hidden, _width(audio, 1280), bias=bias),
        plain("linear_2", hidden, hidden, bias=bias),
        replicated=True,
    )
    return with_towers(draught, (*plain_encoder(audio, ("audio_tower",)), projector), modality=AUDIO)


def voxtral(config: Config) -> Draught:
    """VoxtralForConditionalGeneration: four frames are stacked before the adapter (models/voxtral.py).

    Raises:
        ConfigError: the causal encoder of the realtime variant, whose layers differ.
    """
    section = text_config(config, model_type="llama")
    draught = language(section)
    audio = part(config, "audio_config")
    if audio.bool("is_causal", default=False):
        raise audio.error("is_causal", "is true; only the encoder of the offline models is known")
    hidden, width = draught.facts.hidden_size, _width(audio, 1280)
    stacked = audio.int("intermediate_size", default=5120) if not audio.has("downsample_factor") else (
        width * audio.int("downsample_factor", maximum=64)
    )  # fmt: skip
    names = ("audio_tower", "whisper_encoder.whisper_encoder")
    filled = Config({"num_mel_bins": 128, **audio.data}, audio.path)
    adapter = stage(
        ("multi_modal_projector", "audio_language_adapter"),
        plain("linear_1", hidden, stacked, bias=False),
        plain("linear_2", hidden, hidden, bias=False),
    )
    towers = (*whisper_encoder(filled, names, default=1280, heads=20, float_positions=True), adapter)
    return with_towers(draught, towers, modality=AUDIO, buffers=(floats("mel_filters", 201 * 128),))


def ultravox(config: Config) -> Draught:
    """UltravoxModel: the language model may stand in another repository, which is refused here.

    Raises:
        ConfigError: sizes of the language or the audio model are in another repository.
    """
    for field, name in (("text_config", "text_model_id"), ("audio_config", "audio_model_id")):
        if config.has(name) and not config.has(field):
            raise config.error(
                name, "names another repository, whose sizes this configuration does not state"
            )
    draught = language(text_config(config, model_type="llama"))
    audio = part(config, "audio_config")
    hidden = draught.facts.hidden_size
    if config.int("num_projector_layers", default=0, minimum=0):
        raise config.error("num_projector_layers", "is not 0; only the projector without layers is known")
    width = config.int("hidden_size", default=4096)
    stacked = _width(audio, 384) * config.int("stack_factor", default=8, maximum=64)
    swiglu = config.str("projector_act", default="swiglu") == "swiglu"
    middle = width // 2 if swiglu else width
    inside = config.bool("projector_ln_mid", default=False)
    projector = stage(
        ("multi_modal_projector",),
        norm("ln_pre", stacked),
        whole("linear_1", width, stacked),
        whole("linear_2", hidden, middle),
        norm("ln_mid", middle) if inside else norm("ln_post", hidden),
    )
    return with_towers(draught, (*whisper_encoder(audio, ("audio_tower",)), projector), modality=AUDIO)


def glm_asr(config: Config) -> Draught:
    """GlmAsrForConditionalGeneration (models/glmasr.py)."""
    draught = language(text_config(config, model_type="llama", outer_tie=True), "LlamaForCausalLM")
    audio = part(config, "audio_config")
    width = audio.int("hidden_size", default=1280)
    heads = _heads(audio, width, 20, "num_attention_heads")
    kv_heads = audio.int("num_key_value_heads", default=heads, maximum=1 << 12)
    inner = audio.int("intermediate_size", default=5120)
    items = (
        qkv("self_attn.qkv_proj", width, heads, kv_heads, width // heads, bias=True),
        row("self_attn.o_proj", width, width, bias=True),
        column("mlp.fc1", inner, width, bias=True),
        row("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    hidden = draught.facts.hidden_size
    towers = (
        *encoder(("audio_tower.layers",), audio.int("num_hidden_layers", default=32, maximum=4096), items),
        stage(
            ("audio_tower",),
            conv("conv1", width, 3 * audio.int("num_mel_bins", default=128), bias=True),
            conv("conv2", width, 3 * width, bias=True),
            norm("norm", width, bias=True),
        ),
        stage(
            ("multi_modal_projector",),
            column("linear_1", 2 * hidden, inner, bias=True),
            row("linear_2", hidden, 2 * hidden, bias=True),
        ),
    )
    return with_towers(draught, towers, modality=AUDIO)


def _adapter(prefix: str, inputs: int, hidden: int) -> Block:
    return stage(
        (prefix,),
        plain("layers.0", hidden, inputs),
        plain("layers.2", hidden, hidden),
        norm("norm", hidden, bias=True),
    )


def moss_transcribe(config: Config) -> Draught:
    """MossTranscribeDiarizeForConditionalGeneration (models/moss_transcribe_diarize.py)."""
    draught = language(text_config(config, model_type="qwen3", outer_tie=True), "Qwen3ForCausalLM")
    towers = whisper_encoder(part(config, "audio_config"), ("model.whisper_encoder", "whisper_encoder"))
    adapter = _adapter("vq_adaptor", config.int("adaptor_input_dim"), draught.facts.hidden_size)
    return with_towers(draught, (*towers, adapter), modality=AUDIO)


# Whisper large v3, whose folder vLLM names itself (models/kimi_audio.py `KIMIA_WHISPER_SUBFOLDER`); sizes as published.
_WHISPER_LARGE = {
    "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "num_mel_bins": 128,
    "max_source_positions": 1500,
}  # fmt: skip


def kimi_audio(config: Config) -> Draught:
    """MoonshotKimiaForCausalLM: Qwen2 behind Whisper large v3; the layers that speak are not loaded."""
    draught = language(config, "Qwen2ForCausalLM")
    towers = whisper_encoder(Config(dict(_WHISPER_LARGE)), ("model.encoder", "audio_tower"))
    inputs = config.int("kimia_adaptor_input_dim", default=5120)
    adapter = _adapter("multi_modal_projector", inputs, draught.facts.hidden_size)
    return with_towers(draught, (*towers, adapter), modality=AUDIO)


ARCHITECTURES: dict[str, Builder] = {
    "WhisperForConditionalGeneration": whisper,
    "Qwen2AudioForConditionalGeneration": qwen2_audio,
    "AudioFlamingo3ForConditionalGeneration": audio_flamingo,
    "VoxtralForConditionalGeneration": voxtral,
    "UltravoxModel": ultravox,
    "GlmAsrForConditionalGeneration": glm_asr,
    "MossTranscribeDiarizeForConditionalGeneration": moss_transcribe,
    "MoonshotKimiaForCausalLM": kimi_audio,
}
