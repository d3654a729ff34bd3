"""Mixture-of-experts families against what vLLM's own model code allocates per tensor-parallel rank."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from selfhost.catalog.gpus import find_gpu
from selfhost.errors import ConfigError, SelfhostError
from selfhost.memory import budget
from selfhost.model.families import builder
from selfhost.model.spec import ModelSpec
from selfhost.workload import Split, Workload
from tests.configs import parse

TRUTH = json.loads((Path(__file__).parent / "data" / "families_moe.json").read_text())
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in TRUTH["cases"]}
RANKS = [(name, index) for name, case in CASES.items() for index in range(len(case["ranks"]))]
GPUS = {"9.0": "h100-sxm-80gb", "10.0": "b200"}


@cache
def case_spec(name: str) -> ModelSpec:
    return parse(CASES[name]["config"], quantization=CASES[name].get("quantization"))


@pytest.mark.parametrize("name", CASES)
def test_parameters(name: str) -> None:
    spec = case_spec(name)
    assert spec.parameters == CASES[name]["parameters"]


@pytest.mark.parametrize(("name", "index"), RANKS, ids=str)
def test_one_rank(name: str, index: int) -> None:
    tensor, expert, kv_dtype, capability, weights, buffers, blocks, tokens = CASES[name]["ranks"][index]
    found = budget(
        case_spec(name),
        Workload(max_model_len=8192, kv_dtype=kv_dtype, kv_cache_memory_bytes=20 << 30),
        Split(tensor=tensor, expert=bool(expert)),
        find_gpu(GPUS[capability]),
    )
    # A few checkpoints' per-tensor scales are rounded: five millionths.
    assert found.weights_bytes == pytest.approx(weights, rel=5e-6)
    # Expert maps (4 bytes per expert and layer under expert parallel) and lone constants are left out; null where a
    # buffer follows the tokens of a step, which selfhost takes at 8192.
    assert buffers is None or found.buffers_bytes == pytest.approx(buffers, rel=0.01, abs=1 << 20)
    assert (found.kv_blocks, found.kv_tokens) == (blocks, tokens)


def test_the_cases_cover_the_families() -> None:
    named = {case["config"]["architectures"][0] for case in CASES.values()}
    assert len(named) >= 45
    assert all(builder(name) is not None for name in named)


def _fields(section: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in section.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += _fields(value, (*path, key))
    return found


def _replaced(section: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    inner = value if len(path) == 1 else _replaced(section[path[0]], path[1:], value)
    return {**section, path[0]: inner}


ODD_VALUES: tuple[object, ...] = (
    -1, 0, 1.5, 10**30, 1 << 31, True, None, "x", "1,2", [], [-1], [1, 2, 3], {}, {"a": 1},
)  # fmt: skip


@pytest.mark.parametrize(
    "name", {case["config"]["architectures"][0]: name for name, case in CASES.items()}.values()
)
def test_odd_values_are_refused_or_understood(name: str) -> None:
    config = CASES[name]["config"]
    for path in _fields(config):
        if path[0] == "architectures":
            continue
        for value in ODD_VALUES:
            with suppress(SelfhostError):
                spec = parse(_replaced(config, path, value))
                found = budget(spec, Workload(max_model_len=8192), Split(tensor=2), find_gpu("b200"))
                assert min(found.weights_bytes, found.kv_needed_bytes) >= 0, (path, value)


def _without(name: str, field: str) -> dict[str, Any]:
    return {key: value for key, value in CASES[name]["config"].items() if key != field}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("LongCat-Flash-Chat", "n_routed_experts"),
        ("LongCat-Flash-Lite", "emb_split_num"),
        ("Step-3.5-Flash", "max_position_embeddings"),
        ("K-EXAONE-236B", "moe_intermediate_size"),
        ("openPangu-R-72B", "v_channels"),
        ("Glm5Next-text", "mhc"),
        ("Ling3", "no_kda_lora"),
        ("K2Horizon", "vocab_size"),
    ],
)
def test_a_missing_field_is_named(name: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(_without(name, field))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("Step3", "moe_layers_enum", "4,five"),
        ("Step-3.5-Flash", "partial_rotary_factors", [0.5]),
        ("K-EXAONE-236B", "mlp_layer_types", ["dense"]),
        ("K-EXAONE-236B", "mlp_layer_types", ["spars"] * 48),
        ("Glm5Next-text", "qk_rope_head_dim", 64),
        ("HYV4-dense", "gating_type", "rowwise"),
        ("Inkling-text", "num_attention_heads", -3),
        ("LongCat-Flash-Lite", "ngram_vocab_size_ratio", -1),
    ],
)
def test_a_wrong_value_is_named(name: str, field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({**CASES[name]["config"], field: value})
    assert field in (caught.value.field or "")


def test_null_layers_of_step3_route_all_but_the_first() -> None:
    config = {**CASES["Step3"]["config"], "moe_layers_enum": None}
    routed = [any(item.name == "moe.experts" for item in block.items) for block in parse(config).layers]
    assert routed == [False] + [True] * (len(routed) - 1)


def test_layers_of_longcat_by_either_field() -> None:
    config = CASES["LongCat-Flash-Chat"]["config"]
    halved = parse({**config, "num_hidden_layers": 28})
    assert len(halved.layers) == 14
    assert len(halved.layers[0].keeps) == 2


def test_vision_fields_give_deepseek_v4_its_tower() -> None:
    config = CASES["V4-Flash-Vision"]["config"]
    seeing = parse(config)
    blind = parse({key: value for key, value in config.items() if not key.startswith("vision_")})
    assert seeing.towers
    assert not blind.towers
    assert seeing.facts.modality == "text+image"


def test_block_fp8_that_ranks_would_cut_is_refused() -> None:
    config = {
        **CASES["Step-3.5-Flash"]["config"],
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    with pytest.raises(SelfhostError, match="g_proj"):
        budget(parse(config), Workload(max_model_len=8192), Split(tensor=4), find_gpu("h200-sxm-141gb"))
