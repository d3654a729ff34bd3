"""Isaac: SigLIP 2 over patches of any image size, shuffled into fewer tokens, before Qwen3 (models/isaac.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, row, whole
from selfhost.model.families.multimodal import encoder, language, part, stage, table, with_towers
from selfhost.model.families.siglip import siglip_layer
from selfhost.model.modules import Block

_TOWER = ("model.vision_embedding.0", "vision_embedding.transformer")


def _tower(vision: Config, hidden: int) -> tuple[Block, ...]:
    width = vision.int("hidden_size", default=768)
    heads = vision.int("num_attention_heads", default=12, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=3072)
    items = siglip_layer(vision, width, heads, inner)
    patch = vision.int("patch_size", default=16, maximum=1 << 10)
    pixels = vision.int("num_channels", default=3, maximum=64) * patch**2
    rest = stage(
        _TOWER,
        whole("embeddings.patch_embedding", width, pixels, bias=True, quantizable=False),
        table("embeddings.position_embedding", vision.int("num_patches", default=256), width),
        norm("post_layernorm", width, bias=True),
    )
    merged = width * vision.int("pixel_shuffle_scale_factor", default=1, maximum=64) ** 2
    projector = stage(
        ("model.vision_embedding", "vision_embedding"),
        column("linear_fc1", 4 * merged, merged),
        row("linear_fc2", hidden, 4 * merged),
    )
    layers = vision.int("num_hidden_layers", default=12, maximum=4096)
    return (*encoder(tuple(f"{one}.encoder.layers" for one in _TOWER), layers, items), rest, projector)


def isaac(config: Config) -> Draught:
    """IsaacForConditionalGeneration: the language model is built from the outer fields (models/isaac.py:696)."""
    head_dim = config.int("head_dim", default=128)
    field = "rope_scaling" if config.has("rope_scaling") else "rope_parameters"
    rotation = config.optional_section(field)
    # Positions of three kinds, whatever the configuration says (models/isaac.py:678).
    given = {
        **(rotation.data if rotation else {}),
        "mrope_section": [head_dim // 4, head_dim // 8, head_dim // 8],
    }
    section = Config({**config.data, field: given}, config.path)
    names = ("model.text_model", "language_model.model", "model")
    draught = language(section, "Qwen3ForCausalLM", prefixes=names)
    towers = _tower(part(config, "vision_config"), draught.facts.hidden_size)
    return with_towers(draught, towers, modality="text+image")


ARCHITECTURES: dict[str, Builder] = {"IsaacForConditionalGeneration": isaac}
