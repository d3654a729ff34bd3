"""Gemma with eyes and ears: Gemma 3 (SigLIP), Gemma 3n (MobileNet and a conformer), Gemma 4 and PaliGemma."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._pooling import without_head
from selfhost.model.families.common import Builder, Draught, column, norm, row, whole
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
from selfhost.model.families.siglip import method, siglip_tower
from selfhost.model.modules import Block, Buffer, Embedding, Item, Vector

_PROJECTOR = ("model.multi_modal_projector", "multi_modal_projector")
_TOWER = ("model.vision_tower", "vision_tower")

# Parameters of timm's mobilenetv5_300m_enc, which has no sizes in the configuration (counted from timm 1.0 as vLLM 0.32
# builds it for Gemma 3n, 2026-11).
_MOBILENET_V5 = 294_126_912


def gemma3(config: Config) -> Draught:
    """Gemma3ForConditionalGeneration (models/gemma3_mm.py)."""
    section = text_config(config, model_type="gemma3_text", outer_tie=True)
    vision = part(config, "vision_config")
    draught = language(section, "Gemma3ForCausalLM")
    width = vision.int("hidden_size", default=768)
    towers, buffers = siglip_tower(vision, config, _TOWER)
    projector = stage(
        _PROJECTOR,
        weights("mm_input_projection_weight", width, draught.facts.hidden_size),
        norm("mm_soft_emb_norm", width),
    )
    return with_towers(
        draught, (*towers, projector), modality="text+image", buffers=buffers, bidirectional=True
    )


def paligemma(config: Config) -> Draught:
    """PaliGemmaForConditionalGeneration (models/paligemma.py)."""
    section = text_config(config, model_type="gemma", outer_tie=True)
    vision = part(config, "vision_config")
    name = "GemmaForCausalLM" if section.str("model_type") == "gemma" else "Gemma2ForCausalLM"
    # PaliGemmaConfig gives the vision section its own projection size when it states none.
    outputs = vision.int("projection_dim", default=config.int("projection_dim", default=2048))
    towers, buffers = siglip_tower(vision, config, _TOWER)
    projector = stage(_PROJECTOR, plain("linear", outputs, vision.int("hidden_size", default=768)))
    return with_towers(
        language(section, name),
        (*towers, projector),
        modality="text+image",
        buffers=buffers,
        bidirectional=True,
    )


def colpali(config: Config) -> Draught:
    """ColPaliForRetrieval: PaliGemma without a head, and a projection of every token (models/colpali.py)."""
    inner = config.optional_section("vlm_config") or config
    draught = without_head(paligemma(inner))
    for name in ("embedding_dim", "embed_dim", "dim", "projection_dim", "colbert_dim"):
        if config.has(name):
            size = config.int(name)
            break
    else:
        size = 128
    hidden = config.int("hidden_size", default=draught.facts.hidden_size)
    projection = whole("custom_text_proj", size, hidden, dtype="float32", quantizable=False)
    return replace(draught, last=replace(draught.last, items=(*draught.last.items, projection)))


# ---- Gemma 3n
def _embedder(name: str, part: Config, hidden: int, *, width: int) -> Block:
    """Gemma3nMultimodalEmbedder (models/gemma3n_mm.py)."""
    size = part.int("hidden_size", default=width)
    return stage(
        (f"model.{name}", name),
        Embedding(name="embedding", rows=part.int("vocab_size", default=128), width=size),
        norm("soft_and_hard_norm", size, copies=2),
        row("embedding_projection", hidden, size, quantizable=False),
    )


def gemma3n(config: Config) -> Draught:
    """Gemma3nForConditionalGeneration: both towers run through transformers, whole on every rank.

    Raises:
        ConfigError: a vision tower other than MobileNet v5, whose sizes are nowhere stated.
    """
    section = text_config(config, model_type="gemma3n_text", outer_tie=True)
    draught = language(section, "Gemma3nForCausalLM")
    hidden = draught.facts.hidden_size
    vision, audio = part(config, "vision_config"), part(config, "audio_config")
    kind = vision.str("architecture", default="mobilenetv5_300m_enc")
    if kind != "mobilenetv5_300m_enc":
        raise vision.error("architecture", f"is {kind[:40]!r}; Gemma 3n has mobilenetv5_300m_enc")
    width = audio.int("hidden_size", default=1536)
    items: tuple[Item, ...] = (
        plain("attention.attn.qkv_and_pos_proj", width, width, bias=False, copies=4),
        plain("attention.post", width, width, bias=False),
        weights("attention.attn.per_dim_scale", width // audio.int("conf_num_attention_heads", default=8)),
        plain("ffw.ffw_layer_1", 4 * width, width, bias=False, copies=2),
        plain("ffw.ffw_layer_2", width, 4 * width, bias=False, copies=2),
        plain("lconv1d.linear_start", 2 * width, width, bias=False),
        plain("lconv1d.linear_end", width, width, bias=False),
        conv("lconv1d.depthwise_conv1d", width, audio.int("conf_conv_kernel_size", default=5)),
        norm("norms", width, copies=9),
    )
    channels = audio.ints("sscp_conv_channel_size", minimum=1, default=(128, 32))
    if len(channels) != 2:
        raise audio.error("sscp_conv_channel_size", f"should have two sizes, not {len(channels)}")
    # Two convolutions halve the 128 mel bins twice.
    narrowed = audio.int("input_feat_size", default=128) // 4 * channels[1]
    layers = audio.int("conf_num_hidden_layers", default=12, maximum=4096)
    towers = (
        stage(_TOWER, Vector(name="timm_model", units=_MOBILENET_V5), replicated=True),
        _embedder("embed_vision", vision, hidden, width=2048),
        *encoder(("model.audio_tower.conformer", "audio_tower.conformer"), layers, items, replicated=True),
        stage(
            ("model.audio_tower", "audio_tower"),
            conv("subsample_conv_projection.conv_0", channels[0], 9),
            conv("subsample_conv_projection.conv_1", channels[1], channels[0] * 9),
            norm("subsample_conv_projection.norms", channels[0] + channels[1]),
            plain("subsample_conv_projection.input_proj_linear", width, narrowed, bias=False),
            replicated=True,
        ),
        _embedder("embed_audio", audio, hidden, width=1536),
    )
    return with_towers(draught, towers, modality="text+image+audio")


# ---- Gemma 4
def _quantized(config: Config, vision: Config) -> bool:
    """Whether the towers take part in quantization (models/gemma4_mm.py: sizes that kernels cannot take stay out)."""
    if method(config) in ("bitsandbytes", "torchao", "compressed-tensors"):
        return True
    return (
        vision.int("hidden_size", default=768) % 64 == 0
        and vision.int("intermediate_size", default=3072) % 64 == 0
    )


def _gemma4_vision(vision: Config, quantized: bool) -> tuple[Block, ...]:
    width = vision.int("hidden_size", default=768)
    inner = vision.int("intermediate_size", default=3072)
    head_dim = vision.int("head_dim", default=64)
    heads = vision.int("num_attention_heads", default=12, maximum=1 << 12) * head_dim
    kv_heads = vision.int("num_key_value_heads", default=12, maximum=1 << 12) * head_dim
    bias = vision.bool("attention_bias", default=False)
    if bias:
        raise vision.error("attention_bias", "is true, which Gemma 4's vision tower does not have")
    items = (
        whole("self_attn.q_proj.linear", heads, width, quantizable=quantized),
        whole("self_attn.k_proj.linear", kv_heads, width, quantizable=quantized),
        whole("self_attn.v_proj.linear", kv_heads, width, quantizable=quantized),
        whole("self_attn.o_proj.linear", width, heads, quantizable=quantized),
        whole("mlp.gate_proj.linear", inner, width, quantizable=quantized),
        whole("mlp.up_proj.linear", inner, width, quantizable=quantized),
        whole("mlp.down_proj.linear", width, inner, quantizable=quantized),
        norm("norms", width, copies=4),
        norm("self_attn.qk_norm", head_dim, copies=2),
    )
    patch = vision.int("patch_size", default=16, maximum=1 << 10)
    rest = stage(
        _TOWER,
        whole("patch_embedder.input_proj", width, 3 * patch**2, quantizable=quantized),
        weights(
            "patch_embedder.position_embedding_table",
            2,
            vision.int("position_embedding_size", default=10240),
            width,
        ),
    )
    layers = vision.int("num_hidden_layers", default=16, maximum=4096)
    names = ("model.vision_tower.encoder.layers", "vision_tower.encoder.layers")
    return (*encoder(names, layers, items), rest)


def _gemma4_audio(audio: Config, quantized: bool) -> tuple[Block, ...]:
    width = audio.int("hidden_size", default=1024)
    names = ("model.audio_tower", "audio_tower")

    def linear(name: str, outputs: int, inputs: int, bias: bool = False) -> Item:
        return whole(name, outputs, inputs, quantizable=quantized, bias=bias)

    items: tuple[Item, ...] = (
        *(
            linear(f"self_attn.{name}.linear", width, width)
            for name in ("q_proj", "k_proj", "v_proj", "post")
        ),
        linear("self_attn.relative_k_proj", width, width),
        weights("self_attn.per_dim_scale", width // audio.int("num_attention_heads", default=8)),
        *(linear(f"feed_forward{one}.ffw_layer_1.linear", 4 * width, width) for one in (1, 2)),
        *(linear(f"feed_forward{one}.ffw_layer_2.linear", width, 4 * width) for one in (1, 2)),
        linear("lconv1d.linear_start.linear", 2 * width, width),
        linear("lconv1d.linear_end.linear", width, width),
        conv("lconv1d.depthwise_conv1d", width, audio.int("conv_kernel_size", default=5)),
        norm("norms", width, copies=9),
    )
    channels = audio.ints("subsampling_conv_channels", minimum=1, default=(128, 32))
    if len(channels) != 2:
        raise audio.error("subsampling_conv_channels", f"should have two sizes, not {len(channels)}")
    rest = stage(
        names,
        conv("subsample_conv_projection.layer0.conv", channels[0], 9),
        conv("subsample_conv_projection.layer1.conv", channels[1], channels[0] * 9),
        norm("subsample_conv_projection.norms", channels[0] + channels[1]),
        linear("subsample_conv_projection.input_proj_linear", width, channels[0] // 4 * channels[1]),
        linear("output_proj", audio.int("output_proj_dims", default=1536), width, True),
    )
    layers = audio.int("num_hidden_layers", default=12, maximum=4096)
    return (*encoder(tuple(f"{name}.layers" for name in names), layers, items), rest)


def _projection(name: str, part: Config, hidden: int, *, width: int, quantized: bool) -> Block:
    size = part.int("output_proj_dims", default=0, minimum=0) or part.int("hidden_size", default=width)
    return stage((f"model.{name}", name), whole("embedding_projection", hidden, size, quantizable=quantized))


def gemma4(config: Config) -> Draught:
    """Gemma4ForConditionalGeneration: towers of transformers with linear layers of vLLM's.

    Every rank holds them whole, and they can be quantized.
    """
    section = text_config(config, model_type="gemma4_text", outer_tie=True)
    draught = language(section, "Gemma4ForCausalLM")
    hidden = draught.facts.hidden_size
    towers, buffers, modality = gemma4_towers(config, hidden, audio=True)
    return with_towers(
        draught, towers, modality=modality, buffers=buffers, bidirectional=_bidirectional(section)
    )


def gemma4_towers(
    config: Config, hidden: int, *, audio: bool
) -> tuple[tuple[Block, ...], tuple[Buffer, ...], str]:
    """Gemma 4's towers as far as the configuration has their sections, and the modality.

    Args:
        hidden: width of the language model.
        audio: the class has a tower for sound.
    """
    vision, sound = config.optional_section("vision_config"), config.optional_section("audio_config")
    towers: list[Block] = []
    buffers: list[Buffer] = []
    modality = "text"
    quantized = _quantized(config, vision) if vision is not None else False
    if vision is not None:
        width = vision.int("hidden_size", default=768)
        towers += _gemma4_vision(vision, quantized)
        towers.append(_projection("embed_vision", vision, hidden, width=768, quantized=quantized))
        modality += "+image+video"
        if vision.bool("standardize", default=False):
            buffers.append(floats("vision_tower.std", 2 * width, "model"))
    if audio and sound is not None:
        towers += _gemma4_audio(sound, quantized)
        towers.append(_projection("embed_audio", sound, hidden, width=1024, quantized=quantized))
        modality += "+audio"
    return tuple(towers), tuple(buffers), modality


def _bidirectional(section: Config) -> bool:
    return section.str("use_bidirectional_attention", default="") == "vision"


def gemma4_unified(config: Config) -> Draught:
    """Gemma4UnifiedForConditionalGeneration: pixels and sound go straight into the model.

    The embedders are no towers, as vLLM keeps them with `--language-model-only` (models/gemma4_unified.py).
    """
    section = text_config(config, model_type="gemma4_unified_text", outer_tie=True)
    draught = language(section, "Gemma4ForCausalLM")
    hidden = draught.facts.hidden_size
    vision = config.section("vision_config")
    default_patch = vision.int("patch_size", default=16, maximum=1 << 10) * vision.int(
        "pooling_kernel_size", default=3
    )
    patch = 3 * vision.int("model_patch_size", default=default_patch, maximum=1 << 12) ** 2
    width = vision.int("mm_embed_dim", default=3840)
    items: list[Block] = [
        stage(
            ("model.vision_embedder", "vision_embedder"),
            norm("patch_ln1", patch, bias=True),
            column("patch_dense", width, patch, bias=True),
            norm("patch_ln2_and_pos_norm", width, bias=True, copies=2),
            weights("pos_embedding", vision.int("mm_posemb_size", default=1120), 2, width),
        ),
        _projection("embed_vision", vision, hidden, width=3840, quantized=False),
    ]
    modality = "text+image+video"
    audio = config.optional_section("audio_config")
    if audio is not None:
        embed = audio.int("audio_embed_dim", default=640)
        items.append(_projection("embed_audio", audio, hidden, width=embed, quantized=False))
        modality += "+audio"
    return with_towers(draught, tuple(items), modality=modality, bidirectional=_bidirectional(section))


ARCHITECTURES: dict[str, Builder] = {
    "Gemma3ForConditionalGeneration": gemma3,
    "Gemma3nForConditionalGeneration": gemma3n,
    "Gemma4ForConditionalGeneration": gemma4,
    "Gemma4UnifiedForConditionalGeneration": gemma4_unified,
    "PaliGemmaForConditionalGeneration": paligemma,
    "ColPaliForRetrieval": colpali,
}
