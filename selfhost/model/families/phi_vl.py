"""Phi with eyes: Phi-3 and 3.5 vision (CLIP beside a second embedding), Phi-4 multimodal and its vision form."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, embedding, norm, row
from selfhost.model.families.idefics import idefics_tower
from selfhost.model.families.lfm2_vl import siglip2_tower
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    language,
    part,
    plain,
    stage,
    weights,
    with_towers,
)
from selfhost.model.families.siglip import clip_tower
from selfhost.model.modules import Block, Item, Matrix

# CLIP ViT-L/14 at 336 pixels, which vLLM sets itself (models/phi3v.py:76).
_CLIP = Config(
    {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "num_channels": 3, "image_size": 336, "patch_size": 14,
    },
    "img_processor",
)  # fmt: skip


def phi3_v(config: Config) -> Draught:
    """Phi3VForCausalLM."""
    draught = language(config, "Phi3ForCausalLM", prefixes=("model", "language_model.model"))
    processor = config.section("img_processor")
    hidden = draught.facts.hidden_size
    wide = 4 * processor.int("image_dim_out")
    chosen = processor.int("layer_idx", default=-2, minimum=-24, maximum=23)
    layers = 24 + chosen + 1 if chosen < 0 else chosen + 1
    name = "model.vision_embed_tokens"
    towers, buffers = clip_tower(
        _CLIP, (f"{name}.img_processor", "vision_embed_tokens.img_processor"), layers=layers
    )
    rest = stage(
        (name, "vision_embed_tokens"),
        weights("glb_GN_and_sub_GN", 2, wide),
        plain("img_projection.0", hidden, wide),
        plain("img_projection.2", hidden, hidden),
    )
    # The tower's scope holds an embedding of its own; the language model has another.
    second = stage(("",), embedding("embed_tokens", draught.facts.vocab_size, hidden))
    return with_towers(draught, (*towers, rest, second), modality="text+image", buffers=buffers)


# ---- Phi-4 multimodal
_NAVIT = Config(
    {
        "hidden_size": 1152, "image_size": 448, "intermediate_size": 4304, "num_attention_heads": 16,
        "num_hidden_layers": 27, "patch_size": 14, "num_channels": 3,
    },
    "img_processor",
)  # fmt: skip


def _conformer(audio: Config) -> tuple[tuple[Block, ...], int]:
    """The cascaded conformer in the form that is published, whole on every rank, and its width.

    Raises:
        ConfigError: another form.
    """
    width = audio.int("attention_dim")
    heads = audio.int("attention_heads", maximum=1 << 12)
    inner = audio.int("linear_units")
    for name, value in (
        ("ext_pw_out_channel", width), ("depthwise_seperable_out_channel", width), ("depthwise_multiplier", 1),
        ("ext_pw_kernel_size", 1),
    ):  # fmt: skip
        if audio.int(name) != value:
            raise audio.error(name, f"is not {value}, the only form that is known")
    for name, flag in (("batch_norm", False), ("bias_in_glu", True), ("cnn_layer_norm", True)):
        if audio.bool(name, default=flag) != flag:
            raise audio.error(name, f"is {not flag}, a form that is not known")
    if audio.str("input_layer") != "nemo_conv":
        raise audio.error("input_layer", "is not 'nemo_conv', the only one that vLLM builds")
    items: tuple[Item, ...] = (
        plain("self_attn.qkv_and_out", width, width, copies=4),
        plain("feed_forward.glu", 2 * inner, width, copies=2),
        plain("feed_forward.out", width, inner, copies=2),
        conv("conv.dw_sep_conv_1d.dw_conv", width, audio.int("kernel_size", maximum=1 << 10), bias=True),
        conv("conv.dw_sep_conv_1d.pw_conv", width, width, bias=True),
        conv("conv.ext_pw_conv_1d", width, width, bias=True),
        conv("conv.glu.ext_pw_conv_1d", 2 * width, width, bias=True),
        weights("conv.glu.biases", 2, width),
        norm("norms", width, bias=True, copies=5),
    )
    halvings = audio.int("time_reduction", maximum=1 << 10).bit_length() - 1
    channels = part(audio, "nemo_conv_settings").int("conv_channels", default=256)
    length = audio.int("input_size")
    for _ in range(halvings):
        length = (length - 1) // 2 + 1
    steps = part(audio, "relative_attention_bias_args").int("t5_bias_max_distance", default=1000)
    symmetric = part(audio, "relative_attention_bias_args").bool("t5_bias_symmetric", default=False)
    name = "embed_tokens_extend.encoder"
    rest = stage(
        (f"model.{name}", name),
        conv("embed.conv.0", channels, 9, bias=True),
        *(
            item
            for index in range(halvings - 1)
            for item in (
                conv(f"embed.conv.depth.{index}", channels, 9, bias=True),
                conv(f"embed.conv.point.{index}", channels, channels, bias=True),
            )
        ),
        plain("embed.out", width, channels * length),
        weights(
            "encoder_embedding", 2, part(audio, "encoder_embedding_config").int("input_size", default=80)
        ),
        weights("relative_attention_bias_layer", steps * (1 if symmetric else 2), heads),
    )
    layers = audio.int("num_blocks", maximum=4096)
    return (
        *encoder((f"model.{name}.encoders", f"{name}.encoders"), layers, items, replicated=True),
        rest,
    ), width


def phi4_mm(config: Config) -> Draught:
    """Phi4MMForCausalLM: NaViT and a conformer; the adapters of its modalities are LoRA and load separately."""
    draught = language(config, "Phi3ForCausalLM", prefixes=("model",))
    hidden = draught.facts.hidden_size
    processor = config.optional_section("img_processor")
    chosen = processor.int("layer_idx", default=-2, minimum=-27, maximum=26) if processor is not None else -2
    layers = 27 + chosen + 1 if chosen < 0 else chosen + 1
    names = ("model.embed_tokens_extend.image_embed", "vision_encoder")
    eyes = idefics_tower(
        _NAVIT, tuple(f"{one}.img_processor" for one in names), layers=layers, post_norm=False
    )
    width = _NAVIT.int("hidden_size")
    # vLLM gives this tower no quantization (models/phi4mm.py `get_navit_vision_model`).
    eyes = tuple(_unquantized(block) for block in eyes)
    ears, size = _conformer(config.section("audio_processor").section("config"))
    rest = (
        stage(
            names,
            weights("glb_GN_and_sub_GN", 2, width),
            plain("img_projection.0", hidden, width),
            plain("img_projection.2", hidden, hidden),
        ),
        stage(
            ("model.embed_tokens_extend", "embed_tokens_extend"),
            plain("audio_projections.0", hidden, size, copies=2),
            plain("audio_projections.2", hidden, hidden, copies=2),
        ),
    )
    return with_towers(draught, (*eyes, *ears, *rest), modality="text+image+video+audio")


def _unquantized(block: Block) -> Block:
    items = tuple(
        replace(item, quantizable=False) if isinstance(item, Matrix) else item for item in block.items
    )
    return replace(block, items=items)


def phi4_siglip(config: Config) -> Draught:
    """Phi4ForCausalLMV: SigLIP2 without its last layer, and LLaVA's projector (models/phi4siglip.py)."""
    draught = language(config, "Phi3ForCausalLM", prefixes=("model", "language_model.model"))
    hidden = draught.facts.hidden_size
    given = part(config, "vision_config")
    layers = given.int("num_hidden_layers", default=12, maximum=4096) - 1
    vision = Config({**given.data, "num_hidden_layers": layers}, given.path)
    wide = config.int("mm_hidden_size")
    towers = (
        *siglip2_tower(vision, ("model.vision_tower.vision_tower", "vision_tower"), post_norm=False),
        stage(
            ("model.mm_projector", "multi_modal_projector"),
            column("linear_1", hidden, wide, bias=True),
            row("linear_2", hidden, hidden, bias=True),
        ),
    )
    return with_towers(draught, towers, modality="text+image")


ARCHITECTURES: dict[str, Builder] = {
    "Phi3VForCausalLM": phi3_v,
    "Phi4MMForCausalLM": phi4_mm,
    "Phi4ForCausalLMV": phi4_siglip,
}
