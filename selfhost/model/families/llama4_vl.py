"""Llama 4 with its vision adapter; the towers are never quantized (models/mllama4.py)."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, qkv, row
from selfhost.model.families.multimodal import (
    encoder,
    floats,
    language,
    part,
    stage,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.modules import Item, Matrix


def _plain(items: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(replace(item, quantizable=False) if isinstance(item, Matrix) else item for item in items)


def llama4(config: Config) -> Draught:
    """Llama4ForConditionalGeneration."""
    section = text_config(config, model_type="llama4_text", outer_tie=False)
    draught = language(
        section, "Llama4ForCausalLM", prefixes=("language_model.model", "model.language_model", "model")
    )
    vision = part(config, "vision_config")
    width = vision.int("hidden_size", default=768)
    heads = vision.int("num_attention_heads", default=16, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=5632)
    if width % heads:
        raise vision.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    dim = width // heads
    patch = vision.int("patch_size", default=14, maximum=1 << 10)
    patches = (vision.int("image_size", default=448, maximum=1 << 16) // patch) ** 2
    items = _plain((
        qkv("self_attn.qkv_proj", width, heads, heads, dim, bias=True),
        row("self_attn.o_proj", width, width, bias=True),
        column("mlp.fc1", inner, width, bias=True),
        row("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    ))  # fmt: skip
    entry = vision.int("projector_input_dim", default=4096)
    outputs = vision.int("projector_output_dim", default=4096)
    bias = vision.bool("multi_modal_projector_bias", default=False)
    rest = stage(
        ("vision_model",),
        *_plain((
            column("patch_embedding.linear", width, vision.int("num_channels", default=3, maximum=64) * patch**2),
            weights("class_embedding", width),
            weights("positional_embedding_vlm", patches + 1, width),
            norm("layernorm_pre_and_post", width, bias=True, copies=2),
            column("vision_adapter.mlp.fc1", entry, inner, bias=bias),
            row("vision_adapter.mlp.fc2", outputs, entry, bias=bias),
        )),
    )  # fmt: skip
    given = vision.int("vision_output_dim", default=7680)
    projector = stage(
        ("multi_modal_projector",), *_plain((column("linear_1", draught.facts.hidden_size, given),))
    )
    layers = vision.int("num_hidden_layers", default=34, maximum=4096)
    towers = (*encoder(("vision_model.model.layers",), layers, items), rest, projector)
    # Complex numbers of 8 bytes, a quarter of a head for each position and the class token
    # (layers/rotary_embedding/llama4_vision_rope.py).
    table = floats("vision_model.rotary_emb", (patches + 1) * (dim // 4) * 2 * 2)
    return with_towers(draught, towers, modality="text+image", buffers=(table,))


ARCHITECTURES: dict[str, Builder] = {"Llama4ForConditionalGeneration": llama4}
