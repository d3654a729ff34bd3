"""Say what a change of a plan or a rendering means: memory, GPUs, flags, downtime."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import json_option
from selfhost.cli._output import emit_json, facts, folded, headline, say, table, width
from selfhost.errors import UsageError
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.diff import Effects, MemoryChange, ObjectChange, Report

_TITLES = {
    "model": "Model", "engine": "Engine", "gpus": "GPUs", "load": "Load", "flags": "Flags",
    "environment": "Environment", "clocks": "Clocks", "pod": "Pod", "weights": "Weights", "licence": "Licence",
}  # fmt: skip
_ABSENT = "-"
_DIFFERENT = 5


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--exit-code", is_flag=True, help="End with 5 where something differs.")
@json_option
def command(old: str, new: str, exit_code: bool, as_json: bool) -> int:
    """Compare two plans (plan.json), or two renderings: folders of `selfhost render`, or files of objects.

    Comments, the order of keys, lists whose items have names, `--a=b` against `--a b` and 1Gi against 1024Mi make no
    difference. One of the two may be - for standard input.
    """
    from selfhost.diff import compare, load

    if old == new == "-":
        raise UsageError("Only one side can come from standard input.", hint="Name a file for the other.")
    stdin = sys.stdin.buffer if "-" in (old, new) else None
    before = load(old, stdin)
    report = compare(before, load(new, stdin))
    if as_json:
        emit_json("diff", _facts(report))
    else:
        _show(report)
    return _DIFFERENT if exit_code and not report.same else 0


def _facts(report: Report) -> dict[str, object]:
    from dataclasses import asdict

    return {"same": report.same, **asdict(report)}


def _show(report: Report) -> None:
    if report.same:
        headline("Nothing that counts differs.", good=True)
        return
    headline(_sentence(report))
    for section, title in _TITLES.items():
        rows = [change for change in report.changes if change.section == section]
        if rows:
            click.echo(f"\n{title}")
        for change in rows:
            _line(change.what, change.old, change.new, change.because)
    _show_memory(report.memory)
    _show_objects(report.objects)
    _show_effects(report)


def _line(what: str, old: str | None, new: str | None, because: str | None = None) -> None:
    """One difference: on one line where there is room, else its values below what it is."""
    sign = "+" if old is None else "-" if new is None else "~"
    values = " -> ".join(value for value in (old, new) if value is not None)
    whole = f"  {sign} {what}  {values}"
    if len(whole) <= width():
        click.echo(whole)
    else:
        for line in folded(f"{sign} {what}", width() - 2):
            click.echo(f"  {line}")
        for line in folded(values, width() - 6):
            click.echo(f"      {line}")
    if because:
        for line in folded(because, width() - 6):
            click.echo(f"      {line}")


def _short(path: str) -> str:
    """A path without what every pod's path begins with."""
    for long, short in (
        ("spec.template.spec.", "pod "),
        ("spec.leaderWorkerTemplate.leaderTemplate.spec.", "leader "),
        ("spec.leaderWorkerTemplate.workerTemplate.spec.", "worker "),
        ("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms", "nodes"),
    ):
        path = path.replace(long, short)
    return path


def _sentence(report: Report) -> str:
    effects = report.effects
    before, after = effects.gpus_before, effects.gpus_after
    gpus = "" if before == after or before is None else f" GPUs: {before} before, {after} after."
    if not effects.restarts:
        return f"Running pods are left alone.{gpus}"
    if effects.downtime_seconds is None:
        down = "nothing serves while it is updated, for how long is not said"
    elif effects.downtime_seconds:
        down = f"nothing serves for at most {effects.downtime_seconds:,} s{_unless(report)}"
    else:
        down = "something serves all the while"
    return f"The pods are made anew: {down}.{gpus}"


def _unless(report: Report) -> str:
    return "" if report.objects else ", unless spare GPUs let the new pod start first"


def _show_memory(memory: tuple[MemoryChange, ...]) -> None:
    if not memory:
        return
    rows = [
        (change.term, _gib(change.old_bytes), _gib(change.new_bytes), _difference(change))
        for change in memory
    ]
    click.echo()
    table((("per GPU, GiB", "left"), ("old", "right"), ("new", "right"), ("difference", "right")), rows)


def _gib(size: int | None) -> str:
    return _ABSENT if size is None else gib(size)


def _difference(change: MemoryChange) -> str:
    size = (change.new_bytes or 0) - (change.old_bytes or 0)
    return f"{'-' if size < 0 else '+'}{gib(abs(size))}"


def _show_objects(objects: tuple[ObjectChange, ...]) -> None:
    for change in objects:
        click.echo()
        say(f"{change.kind} {change.name}" + ("" if change.change == "changed" else f" is {change.change}"))
        for field in change.fields:
            _line(_short(field.path), field.old, field.new)


def _show_effects(report: Report) -> None:
    rows = _effects(report.effects)
    if rows:
        click.echo()
        facts(rows)
    for text in (*report.effects.blocked, *report.effects.lost):
        click.echo()
        say(text)


def _effects(effects: Effects) -> dict[str, str]:
    rows: dict[str, str] = {}
    most = max(effects.gpus_before or 0, effects.gpus_after or 0)
    if effects.gpus_meanwhile is not None and (effects.restarts or effects.gpus_meanwhile > most):
        rows["GPUs meanwhile"] = f"{effects.gpus_meanwhile}"
    if effects.download_bytes:
        rows["download"] = f"{gib(effects.download_bytes)} GiB of weights"
    return rows
