"""Text families against what vLLM's own model code allocates per tensor-parallel rank."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from selfhost import weights
from selfhost.attention import Setting
from selfhost.errors import ConfigError
from selfhost.model.families import architectures, builder
from tests.configs import parse

TRUTH = json.loads((Path(__file__).parent / "data" / "text_families.json").read_text())
CASES: list[dict[str, Any]] = TRUTH["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_weights_and_caches_of_each_rank(case: dict[str, Any]) -> None:
    spec = parse(case["config"])
    assert spec.dtype == case["dtype"]
    blocks = (spec.first, *spec.layers, spec.last, *spec.towers)
    for text, expected in case["ranks"].items():
        tensor = int(text)
        ranks = weights.Ranks(tensor=tensor, expert_ranks=tensor, compute_capability=90, dtype=spec.dtype)
        assert weights.blocks_bytes(blocks, ranks) == expected["weights"]
        setting = Setting(tensor=tensor, kv_dtype="auto", model_dtype=spec.dtype, sm_major=9)
        kept: Counter[tuple[str, int, int]] = Counter()
        for layer in spec.layers:
            for kind in layer.keeps:
                cache = kind.of_rank(setting)
                if cache is not None and cache.reach == "state":
                    kept["state", cache.state_bytes, 0] += 1
                elif cache is not None:
                    kept[cache.reach, cache.slots * cache.content_bytes, cache.span_tokens or 0] += 1
        assert kept == {(reach, size, span): count for reach, size, span, count in expected["kv"]}
        if "buffers" in expected:
            # Scales of each attention layer (16 bytes) and lone constants are left out.
            buffers = weights.buffer_bytes(spec.buffers, tensor)
            assert buffers == pytest.approx(expected["buffers"], rel=0.01, abs=4096)


def test_every_architecture_of_the_cases_is_listed() -> None:
    named = {case["config"]["architectures"][0] for case in CASES if "architectures" in case["config"]}
    assert len(named) > 120
    assert all(builder(name) is not None for name in named)
    assert len(set(architectures())) == len(architectures())


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000,
    "max_position_embeddings": 512, "torch_dtype": "bfloat16",
}  # fmt: skip


def test_pooling_repositories_drop_the_head() -> None:
    generating, pooling = parse(LLAMA), parse(LLAMA, pooling=True)
    assert pooling.facts.pooling
    assert generating.parameters - pooling.parameters == 64 * 1000


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_attention_heads": 3}, "num_key_value_heads"),
        ({"hidden_size": 66, "num_attention_heads": 4}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"intermediate_size": None}, "intermediate_size"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -1}}, "rope_scaling.factor"),
        ({"sliding_window": -5}, "sliding_window"),
        (
            {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "max_window_layers": 1},
            "max_window_layers",
        ),
        ({"architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": "MX"}, "hybrid_override_pattern"),
        ({"architectures": ["NemotronHForCausalLM"]}, "hybrid_override_pattern"),
        ({"architectures": ["Zamba2ForCausalLM"], "num_key_value_heads": 4}, "layers_block_type"),
        ({"architectures": ["KimiLinearForCausalLM"]}, "kv_lora_rank"),
        ({"architectures": ["DeciLMForCausalLM"], "block_configs": []}, "block_configs"),
        ({"architectures": ["TransformersForCausalLM"], "model_type": "unheard"}, "model_type"),
        ({"architectures": ["Phi3ForCausalLM"], "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling"),
        ({"architectures": ["Unheard"]}, "architectures"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse({**LLAMA, **changes})
    assert error.value.field == field


def test_configurations_without_architectures_are_the_base_model() -> None:
    spec = parse({key: value for key, value in LLAMA.items() if key not in ("architectures", "torch_dtype")})
    assert spec.facts.pooling is False  # LlamaModel is registered as a generation class
    assert parse(
        {
            "model_type": "granite",
            **{k: v for k, v in LLAMA.items() if k not in ("architectures", "model_type")},
        }
    ).facts.pooling
