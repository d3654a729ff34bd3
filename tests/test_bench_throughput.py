"""The benchmark of speed: its rows, its limits, and a fit that moves towards what was measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from selfhost.catalog.measured import consistent, rows_of

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


def test_what_is_held_out_is_no_row_of_a_fit_and_near_all_the_same(bench: Any) -> None:
    cases, _ = bench.read(bench.HELD_OUT)
    seen = {(row["url"], row["output_tok_s"], row["isl"]) for row in rows_of(bench.ROWS.read_text("utf-8"))}
    assert not seen & {(case.row["url"], case.row["output_tok_s"], case.row["isl"]) for case in cases}
    assert len(cases) >= 150
    assert len({case.row["source_title"] for case in cases}) >= 12
    errors = bench.grouped(bench.compare(cases), "group")
    for group, (median, _) in bench.LIMITS.items():
        assert bench.quantile(errors[group], 0.5) < median


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (None, (), "cannot be read: No such file"),
        ("[]", (), "has no row that says"),
        ('{"a": 1}', (), "has no rows like those"),
        ("held out", ("--fit",), "no fit sees the rows that are held out"),
    ],
)
def test_rows_that_are_none_are_one_error(
    bench: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rows: str | None,
    words: tuple[str, ...],
    said: str,
) -> None:
    path = bench.HELD_OUT if rows == "held out" else tmp_path / "rows.json"
    if rows and path != bench.HELD_OUT:
        path.write_text(rows, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["bench_throughput.py", "--rows", str(path), *words])
    with pytest.raises(SystemExit) as stopped:
        bench.main()
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
