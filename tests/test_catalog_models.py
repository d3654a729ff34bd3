"""The bundled models: complete, sourced, listed in order, found by every name, and quick to load."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from selfhost.catalog import models
from selfhost.errors import ModelNotFoundError
from selfhost.hub import load_model

SCRIPT = Path(__file__).parents[1] / "scripts" / "build_catalogue.py"
ALL = models.models()


def test_the_index_is_fresh() -> None:
    script = runpy.run_path(str(SCRIPT))
    assert Path(models.DIRECTORY, "index.json").read_text(encoding="utf-8") == script["index_text"]()


def test_there_are_many_and_the_ones_everybody_compares() -> None:
    assert len(ALL) >= 100
    for name in (
        "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B", "Qwen/Qwen3-235B-A22B", "deepseek-ai/DeepSeek-V3",
        "openai/gpt-oss-120b", "Qwen/Qwen3.5-27B",
    ):  # fmt: skip
        assert models.load(name).id == name


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.id)
def test_each_states_its_facts(entry: models.ModelEntry) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.id)
    assert entry.status in models.STATUSES
    assert entry.source == f"https://huggingface.co/{entry.id}/blob/main/config.json"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", entry.checked)
    assert entry.released is None or re.fullmatch(r"20\d\d-[01]\d", entry.released)
    assert entry.parameters is None or 10**7 < entry.parameters < 10**13
    assert entry.modality in ("text", "vision", "audio", "omni", "embedding", "reranker")
    bundled = models.load(entry.id)
    assert bundled.entry == entry
    assert isinstance(bundled.config.get("architectures"), list)


def test_current_ones_come_first() -> None:
    order = [models.STATUSES.index(entry.status) for entry in ALL]
    assert order == sorted(order)


def test_ids_and_aliases_are_unique() -> None:
    names = [name.lower() for entry in ALL for name in (entry.id, *entry.aliases)]
    assert len(names) == len(set(names))


def test_found_by_id_alias_and_short_name_in_any_case() -> None:
    assert models.find_id("qwen/QWEN3-32b") == "Qwen/Qwen3-32B"
    assert models.find_id("gpt2") == "openai-community/gpt2"
    alias = models.load("meta-llama/llama-3.3-70b-instruct")
    assert alias.id == "meta-llama/Llama-3.3-70B-Instruct"
    assert alias.entry.id == "meta-llama/Meta-Llama-3.1-70B"
    for name in ("nope", "org/nope", "../x", "a/b/c", "", "index", "/", "*", "qwen/../x"):
        assert models.find(name) is None
        assert models.find_id(name) is None


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("Llama 3.1 8B", "meta-llama/Llama-3.1-8B"),
        ("llama3.1-405b", "meta-llama/Llama-3.1-405B-Instruct"),
        ("llama2-70b-99.9", "meta-llama/Llama-2-70b-chat-hf"),
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("meta/llama-3.3-70b-instruct", "meta-llama/Llama-3.3-70B-Instruct"),
        ("DeepSeek V3.2", "deepseek-ai/DeepSeek-V3.2"),
        ("NVIDIA Nemotron Super 49B", "nvidia/Llama-3_3-Nemotron-Super-49B-v1"),
        ("Meta-Llama-3.1-70B-Instruct-FP8", "RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8"),
        ("Nemotron-3-Super-120B-A12B-NVFP4", "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4"),
        ("Llama-3.1-8B-Instruct-FP8", "nvidia/Llama-3.1-8B-Instruct-FP8"),
        ("cyankiwi/GLM-4.5-Air-AWQ-4bit", "cyankiwi/GLM-4.5-Air-AWQ-4bit"),
        ("zai-org/GLM-4.6-FP8", "zai-org/GLM-4.6-FP8"),
    ],
)
def test_found_as_benchmarks_and_people_spell_it(name: str, model_id: str) -> None:
    assert models.find_id(name) == model_id
    assert models.load(name).id == model_id
    assert load_model(name).id == model_id


def test_a_name_of_several_models_and_half_a_name_mean_none() -> None:
    for name in (
        "llama",
        "qwen3",
        "qwen3-32",
        "-",
        "_ -",
        "someone/Llama-3.1-8B-Instruct-tuned",
        "meta/nope",
    ):
        assert models.find_id(name) is None


def test_a_missing_name_gets_close_ones() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        models.load("deepsek/DeepSeek-V3")
    assert "deepseek-ai/DeepSeek-V3" in (caught.value.hint or "")


def test_a_query_needs_every_word() -> None:
    found = models.models("deepseek nvfp4")
    assert found
    assert all("DeepSeek" in entry.id and "NVFP4" in entry.id for entry in found)
    assert models.models("no such model") == ()


def test_the_files_are_small_and_strict_json() -> None:
    paths = list(Path(models.DIRECTORY).glob("*.json"))
    assert sum(path.stat().st_size for path in paths) < 2_000_000

    def refuse(name: str) -> float:
        raise AssertionError(name)

    for path in paths:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_loading_one_reads_one_file() -> None:
    opened: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(".json"):
            opened.append(Path(str(arguments[0])).name)

    sys.addaudithook(watch)
    models.load("Qwen/Qwen3-32B")
    assert opened == ["qwen--qwen3-32b.json"]
    opened.clear()


def test_compaction_keeps_one_entry_for_experts_that_are_alike() -> None:
    compact = runpy.run_path(str(SCRIPT))["compact_quantization"]
    layers = {
        f"l.{layer}.experts.{n}.up": {"a": 1 if layer == 0 else n} for layer in (0, 1) for n in range(2)
    }
    kept = compact({"quantized_layers": layers | {"l.0.q": {"a": 2}}})
    assert kept == {
        "quantized_layers": {
            "l.0.experts": {"a": 1},
            "l.1.experts.0.up": {"a": 0},
            "l.1.experts.1.up": {"a": 1},
            "l.0.q": {"a": 2},
        }
    }
