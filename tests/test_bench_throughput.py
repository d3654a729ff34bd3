"""The benchmark of speed: its rows, its limits, and a fit that moves towards what was measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from selfhost.catalog.measured import consistent

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The benchmark, which is a script and no package."""
    import importlib

    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("bench_throughput")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def errors(bench: Any) -> Any:
    cases, skipped = bench.read(bench.ROWS)
    assert (len(cases), skipped) == (105, [])
    return bench.compare(cases)


@pytest.mark.parametrize("group", ["vllm on Hopper and Ampere", "elsewhere"])
def test_estimates_are_as_near_to_measurements_as_promised(bench: Any, errors: Any, group: str) -> None:
    some = bench.grouped(errors, "group")[group]
    median, tail = bench.LIMITS[group]
    assert len(some) > 30
    assert bench.quantile(some, 0.5) < median
    assert tail is None or bench.quantile(some, 0.9) < tail


def test_most_measurements_lie_within_the_range(errors: Any) -> None:
    from selfhost.throughput.efficiency import efficiency_of

    inside = 0
    for error in errors:
        spread = efficiency_of(error.case.gpu, error.case.engine, error.case.split).spread
        inside += 1 / (1 + spread) <= error.measured / error.estimated <= 1 + spread
    assert 0.8 <= inside / len(errors) < 1


def test_a_row_that_contradicts_itself_is_not_compared() -> None:
    row = {
        "max_concurrency": 59,
        "output_tok_s": 2137.0,
        "osl": 281.0,
        "ttft_mean_ms": 68.0,
        "tpot_mean_ms": 2.35,
    }
    assert not consistent(row)
    assert consistent({**row, "tpot_mean_ms": 27.0})


def test_a_fit_moves_towards_its_rows_and_is_taken_back(bench: Any) -> None:
    import throughput_fit

    cases = [case for case in bench.read(bench.ROWS)[0] if case.gpu.id == "a100-sxm-80gb"]
    before = bench.quantile(bench.compare(cases), 0.5)
    with throughput_fit.fitted(cases, rounds=2):
        inside = bench.quantile(bench.compare(cases), 0.5)
    assert inside != before
    assert bench.quantile(bench.compare(cases), 0.5) == before
