"""Nemotron with eyes and ears: C-RADIO and a Parakeet conformer around Nemotron-H (models/nano_nemotron_vl.py)."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._pooling import score
from selfhost.model.families.common import Builder, Draught, norm
from selfhost.model.families.internvl import intern_tower
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
from selfhost.model.families.siglip import siglip_tower
from selfhost.model.modules import Block, Buffer, Item

# Width, layers, heads and MLP of timm's vision transformers (transformers_utils/configs/radio.py:12).
_TIMM = {
    "vit_small_patch16_224": (384, 12, 6, 1536),
    "vit_base_patch16_224": (768, 12, 12, 3072),
    "vit_large_patch16_224": (1024, 24, 16, 4096),
    "vit_huge_patch16_224": (1280, 32, 16, 5120),
}
_TEXT = ("language_model.model", "language_model.backbone", "model", "backbone")


def radio_tower(vision: Config) -> tuple[Block, ...]:
    """RadioModel, which vLLM gives no quantization; positions are for the largest image."""
    args = vision.section("args")
    name = args.str("model")
    if name not in _TIMM:
        raise args.error("model", f"is {name[:40]!r}; known are " + ", ".join(_TIMM))
    width, layers, heads, inner = _TIMM[name]
    patch = vision.int("patch_size", default=16, maximum=1 << 10)
    side = round(args.int("cpe_max_size", default=2048, maximum=1 << 16) / patch)
    teachers = (
        [one.str("name", default="") for one in args.sections("teachers")] if args.has("teachers") else []
    )
    tokens = len(set(teachers)) if args.bool("cls_token_per_teacher", default=False) else 1
    multiple = args.int("register_multiple", default=0, minimum=0, maximum=1 << 10)
    tokens += multiple - tokens % multiple if multiple else 0
    given = Config(
        {
            "hidden_size": width, "num_attention_heads": heads, "intermediate_size": inner, "num_hidden_layers": layers,
            "qkv_bias": args.bool("qkv_bias", default=True), "patch_size": patch, "image_size": patch,
            "qk_normalization": args.bool("qk_normalization", default=False),
            "norm_type": args.str("norm_type", default="layer_norm"),
        },
        args.path,
    )  # fmt: skip
    blocks = intern_tower(given, ("vision_model.model",), quantizable=False)[:-1]
    frames = vision.int("video_temporal_patch_size", default=1, maximum=64)
    items: list[Item] = [
        weights("cls_token.token", tokens, width),
        plain("embedder", width, 3 * patch**2, bias=False),
        weights("pos_embed", side**2, width),
    ]
    if frames > 1:
        items.append(plain("video_embedder", width, 3 * frames * patch**2, bias=False))
    return (*blocks, stage(("vision_model.model.patch_generator",), *items))


def parakeet(sound: Config, hidden: int) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """ParakeetEncoder of transformers with a projection, whole on every rank."""
    width = sound.int("hidden_size", default=1024)
    inner = sound.int("intermediate_size", default=4096)
    kernel = sound.int("conv_kernel_size", default=9, maximum=1 << 10)
    bias = sound.bool("convolution_bias", default=True)
    items: tuple[Item, ...] = (
        plain("self_attn.projections", width, width, bias=False, copies=5),
        weights("self_attn.bias_u_and_v", 2, width),
        plain("feed_forward.linear1", inner, width, bias=False, copies=2),
        plain("feed_forward.linear2", width, inner, bias=False, copies=2),
        conv("conv.pointwise_conv1", 2 * width, width, bias=bias),
        conv("conv.depthwise_conv", width, kernel, bias=bias),
        conv("conv.pointwise_conv2", width, width, bias=bias),
        norm("norms", width, bias=True, copies=6),
    )
    factor = sound.int("subsampling_factor", default=8, maximum=1 << 10)
    channels = sound.int("subsampling_conv_channels", default=256)
    area = sound.int("subsampling_conv_kernel_size", default=3, maximum=64) ** 2
    halvings = factor.bit_length() - 1
    middle = sound.int("projection_hidden_size")
    own = sound.bool("projection_bias", default=False)
    rest = (
        stage(
            ("sound_encoder.encoder.subsampling",),
            conv("layers.0", channels, area, bias=True),
            *(conv(f"layers.depth.{index}", channels, area, bias=True) for index in range(halvings - 1)),
            *(conv(f"layers.point.{index}", channels, channels, bias=True) for index in range(halvings - 1)),
            plain("linear", width, channels * (sound.int("num_mel_bins", default=80) // factor)),
        ),
        stage(
            ("sound_encoder.projection",),
            norm("norm", width),
            plain("linear1", middle, width, bias=own),
            plain("linear2", hidden, middle, bias=own),
        ),
    )
    layers = sound.int("num_hidden_layers", default=24, maximum=4096)
    running = floats("sound_encoder.batch_norm", 2 * width * layers, "model")
    return (*encoder(("sound_encoder.encoder.layers",), layers, items), *rest), (running,)


def nano(config: Config) -> Draught:
    """NemotronH_Nano_VL_V2 and the Omni models."""
    section = text_config(config, "llm_config", "text_config", model_type="nemotron_h")
    if "NemotronH_Nano_VL_V2" not in config.strings("architectures", default=()):
        # Only that name has a rule on the state's type; the others keep the model's (models/config.py:1098).
        section = Config({**section.data, "mamba_ssm_cache_dtype": "auto"}, section.path)
    draught = language(
        section, None if section.has("architectures") else "NemotronHForCausalLM", prefixes=_TEXT
    )
    hidden = draught.facts.hidden_size
    width = config.int("vit_hidden_size")
    ratio = config.float("downsample_ratio", default=0.5)
    if not 0 < ratio <= 1:
        raise config.error("downsample_ratio", f"is {ratio:g}, outside 0 to 1")
    merged, middle = width * round(1 / ratio) ** 2, config.int("projector_hidden_size")
    towers: list[Block] = [
        *radio_tower(config.section("vision_config")),
        stage(
            ("mlp1",),
            norm("0", merged),
            plain("1", middle, merged, bias=False),
            plain("3", hidden, middle, bias=False),
        ),
    ]
    if section.int("num_nextn_predict_layers", default=0, minimum=0):
        towers.append(stage(("",), norm("vision_final_layernorm", width, bias=True)))
    modality = "text+image+video"
    buffers: tuple[Buffer, ...] = ()
    sound = config.optional_section("sound_config")
    if sound is not None:
        ears, buffers = parakeet(sound, hidden)
        towers += ears
        modality += "+audio"
    return with_towers(draught, tuple(towers), modality=modality, buffers=buffers)


# ---- embedding models
def embedding_vl(config: Config) -> Draught:
    """LlamaNemotronVLModel: SigLIP before Llama that looks both ways (models/nemotron_vl.py:473)."""
    section = text_config(config, "llm_config", "text_config", model_type="llama_bidirec")
    draught = language(
        section,
        None if section.has("architectures") else "LlamaBidirectionalModel",
        prefixes=("language_model.model", "language_model"),
    )
    hidden = draught.facts.hidden_size
    vision = part(config, "vision_config")
    tower, buffers = siglip_tower(vision, config, ("vision_model",))
    ratio = config.float("downsample_ratio", default=0.5)
    if not 0 < ratio <= 1:
        raise config.error("downsample_ratio", f"is {ratio:g}, outside 0 to 1")
    merged = vision.int("hidden_size", default=768) * int(1 / ratio) ** 2
    projector = stage(
        ("mlp1",), norm("0", merged, bias=True), plain("1", hidden, merged), plain("3", hidden, hidden)
    )
    return with_towers(draught, (*tower, projector), modality="text+image", buffers=buffers)


def ranker_vl(config: Config) -> Draught:
    """LlamaNemotronVLForSequenceClassification: the embedding model and a score (models/nemotron_vl.py:568)."""
    draught = embedding_vl(config)
    section = text_config(config, "llm_config", "text_config")
    item = score(section, draught.facts.hidden_size)
    return replace(draught, last=replace(draught.last, items=(*draught.last.items, item)))


ARCHITECTURES: dict[str, Builder] = {
    "NemotronH_Nano_VL_V2": nano,
    "NemotronH_Nano_Omni_Reasoning_V3": nano,
    "NemotronH_Super_Omni_Reasoning_V3": nano,
    "NemotronH_Omni_Reasoning_V3": nano,
    "LlamaNemotronVLModel": embedding_vl,
    "LlamaNemotronVLForSequenceClassification": ranker_vl,
}
