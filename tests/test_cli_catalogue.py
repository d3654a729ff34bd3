"""`selfhost gpus` and `selfhost models`: tables for people, queries, and their ends."""

from __future__ import annotations

import pytest

from selfhost.catalog.gpus import gpu_ids
from selfhost.catalog.models import models
from tests.conftest import Cli


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_every_gpu_has_its_line_within_80_columns(cli: Cli) -> None:
    shown = cli("gpus")
    assert shown.code == 0
    assert widest(shown.out) <= 80
    listed = {line.split()[0] for line in shown.out.splitlines() if line.startswith("  ")}
    assert set(gpu_ids()) <= listed


@pytest.mark.parametrize("name", ["h100-sxm-80gb", "NVIDIA H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3"])
def test_one_gpu_is_shown_in_full_by_any_of_its_names(name: str, cli: Cli) -> None:
    shown = cli("gpus", name)
    assert shown.code == 0
    assert widest(shown.out) <= 80
    assert shown.out.startswith("H100 SXM 80GB: 79.19 GiB left to an engine.")
    assert "nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3" in shown.out


def test_a_query_keeps_what_holds_its_words(cli: Cli) -> None:
    found = {gpu["id"] for gpu in cli("gpus", "amd datacenter", "--json").json()["gpus"]}
    assert "mi300x-192gb" in found
    assert "h100-sxm-80gb" not in found


def test_an_unknown_gpu_is_an_error_with_a_way_out(cli: Cli) -> None:
    shown = cli("gpus", "h10-sxm-80gb")
    assert (shown.code, shown.out) == (1, "")
    assert "h100-sxm-80gb" in shown.err


def test_every_bundled_model_is_listed_within_80_columns(cli: Cli) -> None:
    shown = cli("models")
    assert shown.code == 0
    assert widest(shown.out) <= 80
    assert f"{len(models())} bundled models" in shown.out
    assert "Qwen/Qwen3-32B" in shown.out


def test_model_words_all_have_to_match(cli: Cli) -> None:
    found = cli("models", "qwen3", "embedding", "--json").json()["models"]
    assert found
    assert all(model["modality"] == "embedding" for model in found)


def test_no_such_model_is_an_error(cli: Cli) -> None:
    shown = cli("models", "xyzzy")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith("Error: No bundled model holds 'xyzzy'.\nHint: ")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_keep_to_the_terminal(width: int, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for words in (("gpus",), ("models",), ("gpus", "t4")):
        lines = cli(*words).out.splitlines()
        whole = ("Next:", "://")  # commands and addresses are copied, so they are not cut
        assert max(len(line) for line in lines if not any(word in line for word in whole)) <= width
