"""Multimodal families against what vLLM's own model code allocates per tensor-parallel rank, towers included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfhost import weights
from selfhost.errors import ConfigError
from selfhost.model.families import builder
from selfhost.model.spec import ModelSpec
from tests.configs import parse

TRUTH = json.loads((Path(__file__).parent / "data" / "families_multimodal.json").read_text())
CASES: list[dict[str, Any]] = TRUTH["cases"]
TEXT: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000, "max_position_embeddings": 512,
}  # fmt: skip


def held(spec: ModelSpec, tensor: int) -> tuple[int, int]:
    """Bytes of rank 0: text part, towers."""
    ranks = weights.Ranks(tensor=tensor, expert_ranks=tensor, compute_capability=90, dtype=spec.dtype)
    text = (spec.first, *spec.layers, spec.last)
    return weights.blocks_bytes(text, ranks), weights.blocks_bytes(spec.towers, ranks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_weights_of_each_rank(case: dict[str, Any]) -> None:
    spec = parse(case["config"])
    assert spec.dtype == case["dtype"]
    assert spec.facts.modality == case["modality"]
    for size, expected in case["ranks"].items():
        text, towers = held(spec, int(size))
        # Attention layers of a quantized checkpoint hold up to four lone scales until they are loaded.
        scales = 16 * len(spec.layers) if spec.quantization else 0
        assert 0 <= expected["weights"] - text - towers <= scales
        assert towers == expected["towers"]
        if "buffers" in expected:
            # Scales of each attention layer (16 bytes) and lone constants are left out.
            found = weights.buffer_bytes(spec.buffers, int(size))
            assert found == pytest.approx(expected["buffers"], rel=0.01, abs=4096)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_towers_and_text_are_apart(case: dict[str, Any]) -> None:
    spec = parse(case["config"])
    assert all(block.tower for block in spec.towers)
    assert not any(block.tower for block in (spec.first, *spec.layers, spec.last))


def test_every_architecture_of_the_cases_is_listed() -> None:
    named = {case["config"]["architectures"][0] for case in CASES}
    assert len(named) > 60
    assert all(builder(name) is not None for name in named)


def test_tied_embeddings_are_the_text_sections() -> None:
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    base = {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "torch_dtype": "bfloat16",
        "text_config": TEXT, "vision_config": vision,
    }  # fmt: skip
    untied = parse({**base, "text_config": {**TEXT, "tie_word_embeddings": False}})
    tied = parse({**base, "text_config": {**TEXT, "tie_word_embeddings": True}})
    assert untied.parameters - tied.parameters == 64 * 1000


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_a_missing_part_is_named(part: str) -> None:
    case = next(
        case for case in CASES if case["config"]["architectures"] == ["Qwen3VLForConditionalGeneration"]
    )
    with pytest.raises(ConfigError) as error:
        parse({**case["config"], part: {"hidden_size": "wide"}})
    assert "hidden_size" in str(error.value) or "num_hidden_layers" in str(error.value)
