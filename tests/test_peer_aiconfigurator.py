"""The comparison with aiconfigurator's own estimates: what it is asked of a row, and how its answers are counted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfhost.catalog.measured import measured_rows

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """#!{python}
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    if row["system"] == "b60":
        print(json.dumps({{"error": "ValueError: no. Supported architectures: all"}}))
        continue
    speed = 100.0 * row["requests"]
    print(json.dumps({{"database": "0.24.0", "tpot_ms": 10.0, "ttft_ms": 5.0, "output_tokens_per_second": speed}}))
"""


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[Any, Any]]:
    """bench_throughput and peer_aiconfigurator, which are no packages."""
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("bench_throughput"), importlib.import_module("peer_aiconfigurator")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture
def cases(scripts: tuple[Any, Any]) -> list[Any]:
    rows = measured_rows()
    # One H100 with 8 clients, two with four, arrivals at a rate, a B60, an H20.
    wanted = ("T0191", "T0229", "T0233", "T0312")
    found = [scripts[0].case_of(row) for row in rows if row["id"] in wanted]
    return [*found, scripts[0].case_of(next(row for row in rows if row["gpu"] == "h20-sxm-96gb"))]


@pytest.fixture
def python(tmp_path: Path) -> str:
    program = tmp_path / "python"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    return str(program)


def test_rows_are_counted_where_the_peer_answers_and_named_where_not(
    scripts: tuple[Any, Any], cases: list[Any], python: str
) -> None:
    errors, left = scripts[1].peer_errors(cases, python)
    assert sorted((error.case.row["id"], error.number, error.estimated) for error in errors) == [
        ("T0191", "TPOT", 10.0),
        ("T0191", "output tokens/s", 800.0),
        ("T0229", "TPOT", 10.0),
        ("T0229", "output tokens/s", 400.0),
    ]
    assert {case.row["id"]: why for case, why in left if case.row["gpu"] != "h20-sxm-96gb"} == {
        "T0233": "no estimate for requests that arrive at a rate",
        "T0312": "ValueError: no",
    }
    assert [why for _, why in left if why.startswith("no H20 96GB")]


def test_a_row_is_asked_as_it_was_measured(scripts: tuple[Any, Any], cases: list[Any]) -> None:
    by_id = {case.row["id"]: scripts[1].asked(case) for case in cases}
    dense, experts = by_id["T0191"], by_id["T0229"]
    assert (dense["system"], dense["tensor"], dense["requests"], dense["copies"]) == ("h100_sxm", 1, 8, 1)
    assert (experts["tensor"], experts["expert_tensor"], experts["expert_parallel"]) == (2, 2, 1)
    assert "quantization_config" in experts["config"]  # it reads the format itself
    assert experts["dense_format"] is None


def test_the_table_has_a_line_for_each_gpu(
    scripts: tuple[Any, Any], cases: list[Any], python: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts[1].show_peer(cases, python)
    out = capsys.readouterr().out
    assert "on 2 of 5 rows" in out
    assert "H100 SXM 80GB" in out
    assert "not covered, 1 rows: ValueError: no" in out
