"""Phi-3 and Phi-3.5 vision: CLIP and a projector that vLLM keeps beside a second embedding (models/phi3v.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, embedding
from selfhost.model.families.multimodal import language, plain, stage, weights, with_towers
from selfhost.model.families.siglip import clip_tower

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


ARCHITECTURES: dict[str, Builder] = {"Phi3VForCausalLM": phi3_v}
