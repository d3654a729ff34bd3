"""Image encoders: the largest image of each processor, and configurations that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from selfhost.catalog import models as catalogue
from selfhost.model.config import Config
from selfhost.model.encoders import image_encoder
from selfhost.model.spec import ImageEncoder


def encoder(config: dict[str, Any]) -> ImageEncoder | None:
    return image_encoder(Config(config), config["model_type"])


# Tokens of the largest image as vLLM 0.32's processing classes count them (models/*.py `get_max_image_tokens`,
# `get_num_image_tokens`), patches behind one token, and outputs per token.
@pytest.mark.parametrize(
    ("model", "tokens", "patches", "copies"),
    [
        ("Qwen/Qwen2-VL-7B-Instruct", 16384, 4, 1),
        ("Qwen/Qwen2.5-VL-72B-Instruct", 16384, 4, 1),
        ("Qwen/Qwen3-VL-32B-Instruct", 16384, 4, 4),
        ("Qwen/Qwen3.5-27B", 16384, 4, 1),
        ("google/gemma-3-27b-it", 256, 16, 1),
        ("google/gemma-4-31B-it", 280, 9, 1),
        ("mistralai/Mistral-Small-3.1-24B-Base-2503", 55 * 56, 4, 1),
        ("moonshotai/Kimi-VL-A3B-Instruct", 1024, 4, 1),
        ("moonshotai/Kimi-K2.5", 4096, 4, 1),
        ("llava-hf/llava-1.5-7b-hf", 576, 1, 1),
        ("zai-org/GLM-4.5V", 6144, 4, 1),
    ],
)
def test_largest_image(model: str, tokens: int, patches: int, copies: int) -> None:
    found = encoder(dict(catalogue.load(model).config))
    assert found is not None
    assert (found.max_tokens_per_item, found.patches_per_token, found.output_copies) == (
        tokens,
        patches,
        copies,
    )


def test_granite_vision_counts_tiles_rows_and_the_whole() -> None:
    config = {
        "model_type": "llava_next",
        "image_grid_pinpoints": [[384, 384], [384, 768], [768, 768], [384, 3840]],
        "vision_config": {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "image_size": 384,
            "patch_size": 14,
        },
    }
    found = encoder(config)
    assert found is not None
    assert found.max_tokens_per_item == 10 * 27 * 27 + 27 + 27 * 27


@pytest.mark.parametrize("value", [0, -1, 10**30, "14", None, [], [0, 0], True, 1.5])
@pytest.mark.parametrize(
    "field", ["patch_size", "image_size", "hidden_size", "intermediate_size", "spatial_merge_size"]
)
@pytest.mark.parametrize(
    "kind", ["qwen3_vl", "gemma3", "gemma4", "mistral3", "llava", "llama4", "kimi_vl", "internvl"]
)
def test_absurd_sections_give_none_or_an_encoder(kind: str, field: str, value: object) -> None:
    vision = {"hidden_size": 64, "intermediate_size": 128, "image_size": 28, "patch_size": 14, field: value}
    found = encoder({"model_type": kind, "vision_config": vision, "image_grid_pinpoints": [[28, 28]]})
    assert found is None or found.max_tokens_per_item >= 0


def test_unknown_kinds_and_text_models_have_none() -> None:
    assert encoder({"model_type": "somethingnew", "vision_config": {"hidden_size": 64}}) is None
    assert encoder({"model_type": "qwen3_vl"}) is None
    assert encoder({"model_type": "qwen3_vl", "vision_config": {}}) is None
