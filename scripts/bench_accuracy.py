"""How exact selfhost is: against vLLM's own allocations and against start-up logs; fails past its limits.

`--truth FILE` scores any other output of the oracle (a JSON list, or JSON lines, with `config_dir`) instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bench_allocations
import bench_startups
import click
from bench_truth import bundled_cases, oracle_cases

from selfhost.cli._output import Align, table


def print_allocations(scores: tuple[bench_allocations.Score, ...], *, by: str) -> bool:
    """The first table and its totals; whether the limits hold."""
    columns: list[tuple[str, Align]] = [(head, "right") for head in bench_allocations.HEADS]
    columns[0] = (by, "left")
    table(columns, bench_allocations.rows(scores, by=by), wrap=0)
    found = bench_allocations.totals(scores)
    click.echo(f"\n{found.cases} cases of {found.models} models")
    limits = bench_allocations
    for count, what in (
        (found.weights_right, f"weights within {100 * limits.WEIGHTS_LIMIT:g} %"),
        (found.kv_right, f"KV bytes per token equal, capacity within {100 * limits.CAPACITY_LIMIT:g} %"),
    ):
        click.echo(f"  {100 * count / max(1, found.cases):6.2f} %  {what}")
    for model, why in sorted(found.refused.items()):
        click.echo(f"  refused  {model}: {why}")
    for item in scores:
        if item.refusal is None and not (item.weights_right and item.kv_right):
            case = item.case
            name = f"{case.model} tp{case.tensor} ep{int(case.expert)} {case.kv_dtype} cc{case.compute_capability}"
            click.echo(
                f"  wrong  {name}: weights {bench_allocations.percent(item.weights_error)}, KV per token "
                f"{item.kv_difference_bytes:+g} B, capacity {bench_allocations.percent(item.capacity_error)}"
            )
    return found.passed


def print_starts(starts: tuple[bench_startups.Start, ...], *, shown: int) -> bool:
    """The second table: the largest errors and the totals; whether the limits hold."""
    columns: list[tuple[str, Align]] = [(head, "right") for head in bench_startups.START_HEADS]
    columns[:2] = [("model", "left"), ("GPU", "left")]
    click.echo("\nAvailable KV memory against start-up logs, the largest errors:")
    table(columns, [bench_startups.start_row(item) for item in bench_startups.worst(starts, shown)], wrap=0)
    found = bench_startups.start_totals(starts)
    click.echo(f"\n{bench_startups.summary(found)}")
    return found.passed


@click.command()
@click.option(
    "--truth",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Other answers of the oracle.",
)
@click.option(
    "--by", type=click.Choice(("model", "architecture")), default="model", help="One row for each of these."
)
def main(truth: Path | None, by: str) -> None:
    """Print both comparisons; exit 1 when a limit is passed."""
    scores = tuple(map(bench_allocations.score, oracle_cases(truth) if truth else bundled_cases()))
    passed = print_allocations(scores, by=by)
    if truth is None:
        passed &= print_starts(bench_startups.starts(), shown=12)
    if not passed:
        sys.exit("Past the limits: see above.")


if __name__ == "__main__":
    main()
