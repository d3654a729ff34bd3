"""Hunyuan VL (HunyuanOCR), which vLLM runs through transformers' own code: the tower is whole on every rank."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, norm, whole
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    part,
    renamed,
    stage,
    table,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.transformers_backend import hunyuan
from selfhost.model.modules import Block, Item

_TOWER = ("model.vision_tower", "vit")


def _tower(vision: Config, hidden: int) -> tuple[Block, ...]:
    """HunYuanVLVisionModel (transformers 5.19); its linear layers are vLLM's and may be quantized."""
    width = vision.int("hidden_size", default=1152)
    heads = vision.int("num_attention_heads", default=16, maximum=1 << 12)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    keys = width // heads * vision.int("num_key_value_heads", default=heads, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=4304)
    items: tuple[Item, ...] = (
        whole("self_attn.q_proj", width, width, bias=True),
        whole("self_attn.k_proj", keys, width, bias=True),
        whole("self_attn.v_proj", keys, width, bias=True),
        whole("self_attn.o_proj", width, width, bias=True),
        whole("mlp.fc1", inner, width, bias=True),
        whole("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    patch = vision.int("patch_size", default=16, maximum=1 << 10)
    pixels = vision.int("num_channels", default=3, maximum=64) * patch**2
    positions = (vision.int("max_image_size", default=2048, maximum=1 << 16) // patch) ** 2 + 1
    merged = width * vision.int("spatial_merge_size", default=2, maximum=64) ** 2
    rest = stage(
        _TOWER,
        conv("embeddings.patch_embedding", width, pixels, bias=True),
        table("embeddings.position_embedding", positions, width),
        weights("patch_merger.image_newline", 4 * width),
        weights("patch_merger.image_begin_end_and_sep", 3, hidden),
        conv("patch_merger.proj_conv", 2 * width, merged, bias=True),
        conv("patch_merger.proj_out", 4 * width, 2 * width, bias=True),
        whole("patch_merger.mlp", hidden, 4 * width, bias=True),
        norm("patch_merger.before_rms", width),
        norm("patch_merger.after_rms", hidden),
    )  # fmt: skip
    layers = vision.int("num_hidden_layers", default=27, maximum=4096)
    return (*encoder(tuple(f"{one}.layers" for one in _TOWER), layers, items), rest)


def hunyuan_vl(config: Config) -> Draught:
    """HunYuanVLForConditionalGeneration; older files hold the language model's fields at the top."""
    section = text_config(config, model_type="hunyuan_vl_text")
    own = config if config.has("tie_word_embeddings") else section
    tied = own.bool("tie_word_embeddings", default=True)
    section = Config({**section.data, "tie_word_embeddings": tied}, section.path)
    draught = renamed(hunyuan(section), ("model.language_model", "model"))
    towers = _tower(part(config, "vision_config"), draught.facts.hidden_size)
    return with_towers(draught, towers, modality="text+image")


ARCHITECTURES: dict[str, Builder] = {"HunYuanVLForConditionalGeneration": hunyuan_vl}
