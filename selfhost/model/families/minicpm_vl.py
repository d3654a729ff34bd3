"""MiniCPM-V: SigLIP in Idefics form and a resampler of queries; 4.6 and 4.7 merge patches instead.

models/minicpmv*.py.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.audio import plain_encoder
from selfhost.model.families.common import Builder, Draught, norm, qkv, row
from selfhost.model.families.idefics import idefics_tower
from selfhost.model.families.multimodal import (
    floats,
    language,
    part,
    plain,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.modules import Block, Buffer

_MODALITY = "text+image+video"
# The language model of each version (models/minicpmv.py `init_llm`).
_LANGUAGE = {
    "2.5": "LlamaForCausalLM", "2.6": "Qwen2ForCausalLM", "4.0": "LlamaForCausalLM", "4.5": "Qwen3ForCausalLM",
}  # fmt: skip


def version(config: Config) -> str:
    """The version, which old configurations leave out (models/minicpmv.py:471).

    Raises:
        ConfigError: a version whose parts are not known here (2.0 runs through timm).
    """
    value = config.data.get("version")
    if value is None:
        first = config.int("hidden_size") == 2304 and config.int("query_num", default=64) == 64
        text = "2.0" if first else "2.5"
    else:
        text = str(value)
    if text not in _LANGUAGE:
        raise config.error("version", f"is {text[:10]!r}; known are " + ", ".join(_LANGUAGE))
    return text


def vision_tower(config: Config) -> tuple[Block, ...]:
    """The tower, without its last layer where the configuration drops it."""
    vision = part(config, "vision_config")
    filled = Config(
        {
            "hidden_size": 768,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "patch_size": 16,
            **vision.data,
        },
        vision.path,
    )
    layers = filled.int("num_hidden_layers", maximum=4096)
    dropped = 1 if config.bool("drop_vision_last_layer", default=False) else 0
    return idefics_tower(filled, ("vpm", "model.vision_tower"), layers=layers - dropped)


def resampler(
    config: Config, hidden: int, width: int, *, frames: int = 0
) -> tuple[Block, tuple[Buffer, ...]]:
    """Resampler2_5: queries attend to patches; its position tables are buffers."""
    block = stage(
        ("resampler",),
        weights("query", config.int("query_num", default=64), hidden),
        *(() if width == hidden else (plain("kv_proj", hidden, width, bias=False),)),
        plain("attn.in_proj", 3 * hidden, hidden),
        plain("attn.out_proj", hidden, hidden),
        plain("proj", hidden, hidden, bias=False),
        norm("norms", hidden, bias=True, copies=3),
    )
    tables = [floats("resampler.pos_embed", 70 * 70 * hidden, "model")]
    if frames:
        tables.append(floats("resampler.temporal_pos_embed", frames * hidden, "model"))
    return block, tuple(tables)


def minicpm_v(config: Config) -> Draught:
    """MiniCPMV 2.5, 2.6, 4.0 and 4.5."""
    which = version(config)
    draught = language(config, _LANGUAGE[which], prefixes=("llm.model", "model"))
    width = part(config, "vision_config").int("hidden_size", default=768)
    block, buffers = resampler(
        config, draught.facts.hidden_size, width, frames=36000 if which == "4.5" else 0
    )
    return with_towers(draught, (*vision_tower(config), block), modality=_MODALITY, buffers=buffers)


def minicpm_v4_6(config: Config) -> Draught:
    """MiniCPMV4_6ForConditionalGeneration and 4.7: Qwen3.5 behind windowed attention and a merger."""
    section = text_config(config, model_type="qwen3_5_text")
    # vLLM takes Qwen3.5's `mamba_ssm_dtype` by the architecture's name (models/config.py:853-876, 1104-1107),
    # which is another one here: the state keeps the model's type.
    section = Config({**section.data, "mamba_ssm_dtype": "auto"}, section.path)
    draught = language(section, "Qwen3_5ForCausalLM", positions_factor=1)
    vision = part(config, "vision_config")
    width = vision.int("hidden_size", default=768)
    heads = vision.int("num_attention_heads", default=12, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=3072)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    merger = stage(
        ("model.vision_tower.vit_merger", "vit_merger"),
        qkv("self_attn.qkv_proj", width, heads, heads, width // heads, bias=True),
        row("self_attn.out_proj", width, width, bias=True),
        norm("layer_norm1", width, bias=True),
        norm("pre_norm", 4 * width, bias=True),
        plain("linear_1", 4 * inner, 4 * width),
        plain("linear_2", width, 4 * inner),
    )
    merged = 4 * width
    last = stage(
        ("model.merger", "merger"),
        norm("mlp.0.pre_norm", merged, bias=True),
        plain("mlp.0.linear_1", merged, merged),
        plain("mlp.0.linear_2", draught.facts.hidden_size, merged),
    )
    return with_towers(draught, (*vision_tower(config), merger, last), modality=_MODALITY)


def minicpm_o(config: Config) -> Draught:
    """MiniCPMO 2.6 and 4.5: MiniCPM-V with Whisper's encoder of transformers; speech output is not loaded."""
    draught = minicpm_v(config)
    audio = config.section("audio_config")
    filled = Config(
        {"d_model": 384, "encoder_ffn_dim": 1536, "encoder_layers": 4, "num_mel_bins": 80, **audio.data},
        audio.path,
    )
    hidden = draught.facts.hidden_size
    projector = stage(
        ("audio_projection_layer",),
        plain("linear1", hidden, filled.int("encoder_ffn_dim") // 4),
        plain("linear2", hidden, hidden),
    )
    return with_towers(draught, (*plain_encoder(filled, ("apm",)), projector), modality=_MODALITY + "+audio")


ARCHITECTURES: dict[str, Builder] = {
    "MiniCPMV": minicpm_v,
    "MiniCPMO": minicpm_o,
    "MiniCPMV4_6ForConditionalGeneration": minicpm_v4_6,
    "MiniCPMV4_7ForConditionalGeneration": minicpm_v4_6,
}
