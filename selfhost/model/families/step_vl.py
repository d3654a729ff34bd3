"""StepFun's vision models: Step 3 with a CLIP-like tower, Step3-VL and Step 3.7 with a perception encoder."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, qkv, row
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    language,
    part,
    plain,
    scaled,
    stage,
    table,
    text_config,
    unquantized,
    weights,
    with_towers,
)
from selfhost.model.modules import Block, Buffer, Item

_TOWER = ("model.vision_model", "vision_model")
_OUTER = ("model", "")
# Ratio of the perception encoder's MLP in StepFun's configuration class: 8960 / 1536.
_RATIO = 8960 / 1536


def _heads(vision: Config, width: int, *names: str) -> int:
    heads = vision.int(*names, default=16, maximum=1 << 12)
    if width % heads:
        raise vision.error(names[0], f"is {heads}, which does not divide the width {width}")
    return heads


def _layer(width: int, heads: int, inner: int, attention: str) -> tuple[Item, ...]:
    return (
        qkv(f"{attention}.qkv_proj", width, heads, heads, width // heads, bias=True),
        row(f"{attention}.out_proj", width, width, bias=True),
        column("mlp.fc1", inner, width, bias=True),
        row("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )


def step3_vl(config: Config) -> Draught:
    """Step3VLForConditionalGeneration (models/step3_vl.py); the tower is never quantized (:549)."""
    draught = language(text_config(config, model_type="step3_text"), "Step3TextForCausalLM")
    vision = part(config, "vision_config")
    width = vision.int("hidden_size", default=1792)
    outputs = vision.int("output_hidden_size", default=4096)
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    positions = (vision.int("image_size", default=728, maximum=1 << 16) // patch) ** 2 + 1
    items = _layer(
        width,
        _heads(vision, width, "num_attention_heads"),
        vision.int("intermediate_size", default=3072),
        "self_attn",
    )
    layers = encoder(
        tuple(f"{one}.transformer.layers" for one in _TOWER),
        vision.int("num_hidden_layers", default=63, maximum=4096),
        items,
    )
    hidden = config.int("hidden_size", default=draught.facts.hidden_size)
    rest = stage(
        _TOWER,
        weights("embeddings.class_embedding", width),
        conv(
            "embeddings.patch_embedding",
            width,
            vision.int("num_channels", default=3, maximum=64) * patch**2,
            bias=True,
        ),
        table("embeddings.position_embedding", positions, width),
    )
    projector = stage(
        _OUTER,
        conv("vit_downsampler", outputs, width * 4, bias=True),
        conv("vit_downsampler2", 2 * outputs, outputs * 9, bias=True),
        plain("vit_large_projector", hidden, 2 * outputs, bias=config.bool("projector_bias", default=True)),
    )
    buffers = (floats("vision_model.embeddings.position_ids", positions, "int64"),)
    layers = tuple(unquantized(block) for block in layers)
    return with_towers(draught, (*layers, rest, projector), modality="text+image", buffers=buffers)


def _perception(config: Config, hidden: int) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """PerceptionEncoder and its projector (models/step_vl.py); defaults are those of StepFun's class."""
    vision = part(config, "vision_config")
    width = vision.int("width", "hidden_size", default=1536)
    heads = _heads(vision, width, "heads", "num_attention_heads")
    count = vision.int("layers", "num_hidden_layers", default=47, maximum=4096)
    if not vision.bool("use_rope2d", default=True):
        raise vision.error("use_rope2d", "is false, which vLLM refuses")
    token = vision.bool("use_cls_token", "ues_cls_token", default=False)
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    positions = (vision.int("image_size", default=728, maximum=1 << 16) // patch) ** 2 + int(token)
    items = _layer(width, heads, scaled(vision, "mlp_ratio", width, default=_RATIO), "attn")
    if "ls_init_value" not in vision.data or vision.has("ls_init_value"):
        items = (*items, norm("scales", width, copies=2))
    rest: list[Item] = [
        conv("conv1", width, 3 * patch**2),
        conv("vit_downsampler1", 2 * width, width * 9, bias=True),
        conv("vit_downsampler2", 4 * width, 2 * width * 9, bias=True),
    ]
    if vision.bool("use_ln_pre", default=True):
        rest.append(norm("ln_pre", width, bias=True))
    if vision.bool("use_ln_post", default=False):
        rest.append(norm("ln_post", width, bias=True))
    if token:
        rest.append(weights("class_embedding", width))
    if vision.bool("use_abs_posemb", default=True):
        rest.append(weights("positional_embedding", positions, width))
    projector = column(
        "vit_large_projector", hidden, 4 * width, bias=config.bool("projector_bias", default=False)
    )
    towers = (
        *encoder(tuple(f"{one}.transformer.resblocks" for one in _TOWER), count, items),
        stage(_TOWER, *rest),
        stage(_OUTER, projector),
    )
    return towers, (floats("vision_model.rope.freqs_cache", count * positions * (width // heads)),)


def step_vl(config: Config) -> Draught:
    """StepVLForConditionalGeneration (Step3-VL): any language model behind a perception encoder."""
    draught = language(text_config(config, model_type="qwen3"))
    towers, buffers = _perception(config, draught.facts.hidden_size)
    return with_towers(draught, towers, modality="text+image", buffers=buffers)


def step3p7(config: Config) -> Draught:
    """Step3p7ForConditionalGeneration (Step 3.7): Step 3.5's language model."""
    draught = language(text_config(config, model_type="step3p5"), "Step3p5ForCausalLM")
    towers, buffers = _perception(config, draught.facts.hidden_size)
    return with_towers(draught, towers, modality="text+image", buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {
    "Step3VLForConditionalGeneration": step3_vl,
    "StepVLForConditionalGeneration": step_vl,
    "Step3p7ForConditionalGeneration": step3p7,
}
