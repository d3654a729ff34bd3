"""The accuracy benchmark: complete truth, scores that tell right from wrong, a current table of peers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import Request, urlopen

import pytest

from selfhost.model.parse import parse_model
from selfhost.model.raw import TensorHeader

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's modules, which are scripts and no package."""
    import importlib

    sys.path.insert(0, str(ROOT / "scripts"))
    names = ("bench_truth", "bench_allocations", "bench_startups", "bench_hub", "bench_peers")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(ROOT / "scripts"))


def test_every_case_has_a_configuration_and_four_answers(bench: dict[str, Any]) -> None:
    cases = bench["bench_truth"].bundled_cases()
    assert len(cases) == 464
    assert len({case.model for case in cases}) == 113
    for config in {case.config for case in cases}:
        assert bench["bench_truth"].raw_model(config).config
    assert sum(len(case.answers) for case in cases) == 4 * 464 - 8  # vLLM refused eight


def test_a_model_of_each_kind_is_exact(bench: dict[str, Any]) -> None:
    wanted = (
        "Qwen--Qwen3-30B-A3B",
        "openai--gpt-oss-20b",
        "deepseek-ai--DeepSeek-V2-Lite",
        "Qwen--Qwen3.5-27B",
    )
    seen = set()
    for case in bench["bench_truth"].bundled_cases():
        if case.model.startswith(wanted):
            found = bench["bench_allocations"].score(case)
            assert found.weights_right, case
            assert found.kv_right, case
            seen.add(case.model)
    assert len(seen) >= len(wanted) - 1


def test_wrong_sizes_are_seen_as_such(bench: dict[str, Any]) -> None:
    case = next(c for c in bench["bench_truth"].bundled_cases() if c.model == "01-ai--Yi-34B")
    score = bench["bench_allocations"].score
    assert score(case).weights_right
    assert not score(replace(case, weights_bytes=int(case.weights_bytes * 1.006))).weights_right
    assert not score(replace(case, kv_bytes_per_token=case.kv_bytes_per_token + 2)).kv_right
    answers = tuple(replace(answer, blocks=int(answer.blocks * 1.02)) for answer in case.answers)
    assert not score(replace(case, answers=answers)).kv_right


def test_a_refused_model_counts_as_wrong(bench: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    row = {
        "model": "x", "arch": "NoSuchModel", "tp": 1, "ep": False, "kv": "auto", "cc": "9.0", "weight_bytes": 1,
        "buffer_bytes": 0, "kv_layers": [], "capacity": [], "config_dir": str(tmp_path),
    }  # fmt: skip
    truth = tmp_path / "truth.jsonl"
    truth.write_text(json.dumps(row) + "\n")
    scores = tuple(map(bench["bench_allocations"].score, bench["bench_truth"].oracle_cases(truth)))
    found = bench["bench_allocations"].totals(scores)
    assert found.refused.keys() == {"x"}
    assert not found.passed


def test_start_up_logs_stay_within_the_limits(bench: dict[str, Any]) -> None:
    found = bench["bench_startups"].start_totals(bench["bench_startups"].starts())
    assert found.starts >= 90
    assert found.refused <= 1  # groups of 128 do not divide Gemma 4's experts
    assert found.wrongly_fit == 0
    assert found.median_ratio <= 0.005
    assert found.mean_ratio <= 0.04


@pytest.mark.parametrize(
    ("model", "declared", "expected"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", None, None),
        ("meta-llama/Llama-3.1-8B-Instruct", "fp8", "fp8-tensor"),
        ("Qwen/Qwen3-30B-A3B-FP8", "fp8", "fp8-block"),
        ("RedHatAI/gemma-3-27b-it-FP8-dynamic", "compressed-tensors", "fp8"),
        ("RedHatAI/Llama-3.3-70B-Instruct-quantized.w8a8", "compressed-tensors", "int8"),
        ("cyankiwi/gemma-4-26B-A4B-it-qat-AWQ-INT4", "compressed-tensors", "w4a16"),
        ("Qwen/Qwen2.5-14B-Instruct-AWQ", "awq", "awq-int4"),
        ("unsloth/QwQ-32B-unsloth-bnb-4bit", "bitsandbytes", "bnb-nf4"),
    ],
)
def test_format_of_a_repository_follows_from_its_name(
    bench: dict[str, Any], model: str, declared: str | None, expected: str | None
) -> None:
    spec = parse_model(bench["bench_truth"].raw_model("Qwen/Qwen3-8B"))
    row = {"model": model, "quantization": declared}
    assert bench["bench_startups"].assumed_quantization(row, spec) == expected


# Checkpoint sizes as published, in GiB (the repositories' safetensors index, read 2026-11).
PUBLISHED_GIB = {
    "meta-llama/Meta-Llama-3.1-8B": 14.958,
    "Qwen/Qwen3-32B": 61.024,
    "openai/gpt-oss-120b": 60.768,
    "Qwen/Qwen3.5-27B": 51.747,
}


@pytest.mark.parametrize("model", PUBLISHED_GIB)
def test_placeholder_checkpoints_have_the_published_size_and_agree_with_the_configuration(
    bench: dict[str, Any], model: str
) -> None:
    raw = bench["bench_truth"].raw_model(model)
    tensors = bench["bench_hub"].checkpoint(parse_model(raw))
    assert sum(tensor.bytes for tensor in tensors) / 2**30 == pytest.approx(PUBLISHED_GIB[model], abs=0.001)
    names = {"BF16": "bfloat16", "F32": "float32", "U8": "uint8"}
    headers = tuple(
        TensorHeader(name=t.name, dtype=names[t.dtype], shape=t.shape, bytes=t.bytes) for t in tensors
    )
    with_headers = parse_model(replace(raw, tensors=headers))
    assert with_headers.parameters == parse_model(raw).parameters


def test_placeholder_files_are_headers_and_zeros(bench: dict[str, Any]) -> None:
    raw = bench["bench_truth"].raw_model("Qwen/Qwen3-8B")
    hub = bench["bench_hub"]
    repository = hub.repository(raw.config, hub.checkpoint(parse_model(raw)))
    with hub.serve({"a/b": repository}) as url:
        about = json.load(urlopen(f"{url}/api/models/a/b", timeout=5))
        name = next(row["rfilename"] for row in about["siblings"] if row["rfilename"].endswith("safetensors"))
        part = urlopen(
            Request(f"{url}/a/b/resolve/main/{name}", headers={"Range": "bytes=0-7"}), timeout=5
        ).read()
        length = int.from_bytes(part, "little")
        asked = Request(f"{url}/a/b/resolve/main/{name}", headers={"Range": f"bytes=8-{length + 7}"})
        table = json.loads(urlopen(asked, timeout=5).read())
    ends = [entry["data_offsets"][1] for key, entry in table.items() if key != "__metadata__"]
    assert max(ends) + 8 + length == repository.files[name].size


def test_the_published_table_of_peers_is_current(bench: dict[str, Any]) -> None:
    """selfhost's column is what it says today; the other columns are of the versions that are named."""
    peers = bench["bench_peers"]
    results = json.loads(peers.RESULTS.read_text(encoding="utf-8"))
    assert results["versions"] == {tool.name: tool.version for tool in peers.PEERS}
    rows = [row for row in results["rows"] if row["tool"] == "selfhost"]
    assert {row["model"] for row in rows} == set(peers.TRUTH)
    for row in rows:
        now = peers.selfhost_figures(row["model"], row["tp"])
        assert {key: row[key] for key in now} == now
