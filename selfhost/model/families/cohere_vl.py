"""Command A Vision: SigLIP, pixels shuffled together and a gated projector (models/cohere2_vision.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, gated_mlp
from selfhost.model.families.multimodal import language, part, stage, text_config, with_towers
from selfhost.model.families.siglip import siglip_tower


def cohere2_vision(config: Config) -> Draught:
    """Cohere2VisionForConditionalGeneration."""
    draught = language(text_config(config, model_type="cohere2", outer_tie=True))
    vision = part(config, "vision_config")
    blocks, buffers = siglip_tower(vision, config, ("model.vision_tower", "vision_tower"))
    merged = (
        vision.int("hidden_size", default=768) * config.int("downsample_factor", default=2, maximum=64) ** 2
    )
    inner = config.int("alignment_intermediate_size", default=36864) // 2
    up, _ = gated_mlp(
        "", merged, inner, bias=True, names=("linear_1", "gate", "up", "linear_2"), quantizable=False
    )
    _, down = gated_mlp(
        "",
        draught.facts.hidden_size,
        inner,
        bias=True,
        names=("linear_1", "gate", "up", "linear_2"),
        quantizable=False,
    )
    projector = stage(("model.multi_modal_projector", "multi_modal_projector"), up, down)
    return with_towers(draught, (*blocks, projector), modality="text+image", buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {"Cohere2VisionForConditionalGeneration": cohere2_vision}
