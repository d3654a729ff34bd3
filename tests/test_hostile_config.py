"""Hostile configurations: whatever stands in config.json, the answer is a model or one clear error, at once."""

from __future__ import annotations

import copy
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.catalog.gpus import find_gpu
from selfhost.catalog.models import load
from selfhost.errors import ConfigError, SelfhostError
from selfhost.memory import budget
from selfhost.workload import Split, Workload
from tests.configs import parse

BASES = (
    "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-20b", "google/gemma-3-27b-it", "Qwen/Qwen3.5-27B",
    "Qwen/Qwen3-30B-A3B-FP8", "nvidia/DeepSeek-V3.2-NVFP4", "deepseek-ai/DeepSeek-V4-Flash",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct", "XiaomiMiMo/MiMo-V2-Flash", "moonshotai/Kimi-K2.6",
)  # fmt: skip
ABSURD: tuple[object, ...] = (
    0, -1, 10**30, -(10**30), 1.5, float("inf"), float("nan"), 1e308, "4096", "", "a: b\n- c", "$(reboot)", "../../etc",
    True, None, [], {}, [[]], [-1], ["x"], {"a": {"b": []}}, [10**30], "\x00", 2**31, 2**63,
)  # fmt: skip


def attempt(config: dict[str, object]) -> SelfhostError | None:
    """Parse and size three splits; what refused it, if anything did."""
    try:
        spec = parse(config)
        for split in (Split(), Split(tensor=4), Split(tensor=2, pipeline=3)):
            result = budget(spec, Workload(max_model_len=4096), split, find_gpu("h100-sxm-80gb"))
            sizes = (result.weights_bytes, result.kv_bytes_per_token, result.kv_needed_bytes)
            if min(sizes) < 0 or result.fits is None:
                pytest.fail(f"a wrong answer: {result}")
    except SelfhostError as error:
        return error
    return None


def is_answered(config: dict[str, object]) -> bool:
    """Either an answer, or one error of ours that is one short line; in either case soon."""
    begun = time.perf_counter()
    error = attempt(config)
    soon = time.perf_counter() - begun < 10
    said = "sized" if error is None else error.message
    return soon and bool(said.strip()) and "\n" not in said and len(said) < 1000


def paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            found.append((*path, key))
            found.extend(paths(inner, (*path, key)))
    elif isinstance(value, list) and value:
        found.append((*path, 0))
    return found


def changed(config: dict[str, object], path: tuple[object, ...], value: object) -> dict[str, object]:
    result = copy.deepcopy(config)
    place: object = result
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    return result


@pytest.fixture(scope="module", params=BASES)
def config(request: pytest.FixtureRequest) -> dict[str, object]:
    return dict(load(request.param).config)


def test_every_field_made_absurd(config: dict[str, object]) -> None:
    trimmed = copy.deepcopy(config)
    quantization = trimmed.get("quantization_config")
    if isinstance(quantization, dict):
        for key, value in quantization.items():
            if isinstance(value, list):
                quantization[key] = value[:3]
    where = [path for path in paths(trimmed) if "quantized_layers" not in path[:-1]]
    for index, path in enumerate(where):
        # Every field meets a rotating share of the absurd values, so that the run stays short.
        for value in ABSURD[index % 3 :: 3]:
            assert is_answered(changed(trimmed, path, value)), (path, value)


def test_every_field_missing(config: dict[str, object]) -> None:
    for name in config:
        assert is_answered({key: value for key, value in config.items() if key != name}), name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_several_fields_at_once(config: dict[str, object], data: st.DataObject) -> None:
    where = paths(config)
    mutated = config
    for path in data.draw(st.lists(st.sampled_from(where), min_size=1, max_size=4, unique=True)):
        value = data.draw(st.one_of(st.sampled_from(ABSURD), st.integers(), st.text(max_size=8), st.floats()))
        try:
            mutated = changed(mutated, path, value)
        except (KeyError, IndexError, TypeError):
            continue
    assert is_answered(mutated)


def test_the_refusal_names_the_field() -> None:
    config = dict(load("Qwen/Qwen3-8B").config)
    for field, value in (("hidden_size", "4096"), ("num_hidden_layers", 10**30), ("vocab_size", -5)):
        with pytest.raises(ConfigError) as caught:
            parse(config | {field: value})
        assert caught.value.field == field
    with pytest.raises(ConfigError) as caught:
        parse({key: value for key, value in config.items() if key != "hidden_size"})
    assert caught.value.field == "hidden_size"
    with pytest.raises(ConfigError) as caught:
        parse(config | {"architectures": ["NoSuchForCausalLM"]})
    assert caught.value.field == "architectures"


def test_zero_heads_are_refused() -> None:
    config = dict(load("Qwen/Qwen3-8B").config)
    with pytest.raises(ConfigError) as caught:
        parse(config | {"num_key_value_heads": 0})
    assert caught.value.field == "num_key_value_heads"


@pytest.mark.parametrize("pattern", ["re:(.*)*x", "re:(\\w|\\w)+Z", "re:([a-z.]+)+!", "re:((a+)b?){2,}$"])
def test_a_pattern_that_might_never_end_is_refused(pattern: str) -> None:
    config = dict(load("moonshotai/Kimi-K2.6").config)
    text = dict(config["text_config"])  # type: ignore[call-overload]
    section = dict(text["quantization_config"]) | {"ignore": [pattern]}
    begun = time.perf_counter()
    error = attempt(config | {"text_config": text | {"quantization_config": section}})
    assert time.perf_counter() - begun < 5
    assert isinstance(error, ConfigError)
    assert "ignore" in error.field


def test_patterns_of_real_checkpoints_are_taken() -> None:
    for name in ("moonshotai/Kimi-K2.6", "moonshotai/Kimi-K3", "nvidia/Qwen3.6-27B-NVFP4"):
        assert attempt(dict(load(name).config)) is None
