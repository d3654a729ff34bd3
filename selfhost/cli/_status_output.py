"""Deployments for people: a table of all, and one with everything that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import labelled
from selfhost.cli._output import Align, headline, table
from selfhost.deploy.pod_words import age

if TYPE_CHECKING:
    from selfhost.deploy.overview import Row
    from selfhost.deploy.status import Status

_MOST_DRIFT = 12
_MARKS = {"warning": "WARN", "error": "ERROR", "unknown": "?"}


def show_rows(rows: Sequence[Row], *, now: float, everywhere: bool, place: str) -> None:
    """The table of an overview; what is wrong first said in a line."""
    if not rows:
        headline(f"No deployment{place}.")
        return
    wrong = [row for row in rows if not (row.well or row.paused)]
    count = f"{len(rows)} deployment{'' if len(rows) == 1 else 's'}{place}"
    if wrong:
        headline(f"{count}, {len(wrong)} not as {'it' if len(wrong) == 1 else 'they'} should be.", good=False)
    else:
        headline(f"{count}, all well.", good=True)
    click.echo()
    columns: list[tuple[str, Align]] = [
        ("name", "left"), ("model", "left"), ("rev", "right"), ("ready", "right"), ("gpus", "right"),
        ("engine", "left"), ("age", "right"), ("state", "left"),
    ]  # fmt: skip
    lines = [_cells(row, now) for row in rows]
    if everywhere:  # in the place of what runs: 80 columns have no room for both
        columns = [("namespace", "left"), *columns[:5], *columns[6:]]
        lines = [(row.namespace, *one[:5], *one[6:]) for row, one in zip(rows, lines, strict=True)]
    table(columns, lines, wrap=2 if everywhere else 1)


def _cells(row: Row, now: float) -> tuple[str, ...]:
    return (
        row.name,
        row.model or "-",
        "-" if row.revision is None else str(row.revision),
        f"{row.ready}/{row.wanted}",
        "-" if row.gpus is None else str(row.gpus),
        " ".join(word for word in (row.engine, row.version) if word) or "-",
        age(None if row.since is None else now - row.since),
        state_word(row),
    )


def state_word(row: Row) -> str:
    """A deployment's state in a word or two."""
    if row.paused:
        return "paused"
    if row.trouble:
        return row.trouble
    if row.state == "pending":
        return "deploying"
    return "ready" if row.well else row.state or "not ready"


def show_one(found: Status, *, now: float) -> None:
    """One deployment: the answer, what it rests on, what to do."""
    row = found.row
    headline(_sentence(found), good=found.healthy and not found.drifted)
    click.echo()
    _show_what(found, now)
    for cause in found.causes[:2]:
        click.echo()
        labelled("Cause", cause.sentence)
        for line in cause.evidence[:4]:
            labelled("", f"| {line}")
        if cause.hint:
            labelled("Way out", cause.hint)
    _show_drift(found)
    for finding in found.findings:
        if finding.level != "ok":
            labelled(_MARKS[finding.level], finding.message + (f" -> {finding.hint}" if finding.hint else ""))
    if found.memory:
        from selfhost.cli._test_output import show_memory

        _, memory = found.memory[0]
        show_memory(memory, "per GPU, GiB")
    if found.events:
        click.echo("\nLast events")
        for event in found.events:
            when = age(None if event.at is None else now - event.at)
            times = f" ({event.count}×)" if event.count > 1 else ""
            mark = "!" if event.warning else " "
            labelled(f"{mark} {when:>5}", f"{event.reason}{times} {event.about}: {event.message[:200]}")
    for note in found.notes:
        labelled("Note", f"{note}.")
    _next(found, row)


def _sentence(found: Status) -> str:
    row = found.row
    if row.paused:
        first = f"{row.name} is paused"
    elif row.trouble or not row.well:
        first = f"{row.name} is not as it should be: {state_word(row)}, {row.ready} of {row.wanted} ready"
    else:
        first = f"{row.name} serves, {row.ready} of {row.wanted} ready"
    errors = [finding for finding in found.findings if finding.level == "error"]
    if errors and not row.trouble:
        first += f", but {errors[0].message.rstrip('.')}"
    count = sum(one.what != "unknown" for one in found.drift)
    return (
        f"{first}; {count} {'fields are' if count > 1 else 'field is'} not as deployed."
        if count
        else f"{first}."
    )


def _show_what(found: Status, now: float) -> None:
    row = found.row
    labelled("model", row.model or "not known")
    if found.head is not None:
        since = age(None if row.since is None else now - row.since)
        words = (
            f"{found.head.number} ({found.head.state}), {since} ago by {found.head.by}: {found.head.because}"
        )
        if found.running is not None and found.running.number != found.head.number:
            words += f"; compared with revision {found.running.number}, the last that was deployed"
        labelled("revision", words)
    _show_version(found)
    labelled("gpus", "not known" if row.gpus is None else str(row.gpus))
    for number, address in enumerate(found.endpoints):
        labelled("" if number else "endpoint", address)
    for number, pod in enumerate(found.pods):
        since = age(None if pod.since is None else now - pod.since)
        restarts = f", {pod.restarts} restart{'' if pod.restarts == 1 else 's'}" if pod.restarts else ""
        labelled(
            "" if number else "pods", f"{pod.name}  {pod.stage}{restarts}, {since}, {pod.node or 'no node'}"
        )


def _show_version(found: Status) -> None:
    versions = found.versions
    others = {image: pods for image, pods in versions.running.items() if image != versions.planned}
    if not versions.planned:
        labelled("image", ", ".join(versions.running) or "nothing runs")
    elif not versions.running:
        labelled("image", f"{versions.planned} is planned; nothing runs")
    elif not others:
        labelled("image", f"{versions.planned}, as planned")
    else:
        labelled("image", f"planned {versions.planned}")
        for image, pods in others.items():
            labelled("", f"{len(pods)} pod{'' if len(pods) == 1 else 's'} with {image}")
    if versions.old:
        labelled("", f"{len(versions.old)} of an older revision: {', '.join(versions.old[:3])}")


def _show_drift(found: Status) -> None:
    shown = found.drift[:_MOST_DRIFT]
    if shown:
        click.echo()
    for number, one in enumerate(shown):
        label = "" if number else "Drift"
        if one.what == "missing":
            labelled(label, f"{one.ref} is gone")
        elif one.what == "unknown":
            labelled(label, f"{one.ref} could not be compared: {one.because}")
        else:
            by = f" (by {one.owner})" if one.owner else ""
            values = one.live if one.what == "added" else f"{_or(one.wanted)} -> {_or(one.live)}"
            sign = "+" if one.what == "added" else "~"
            labelled(label, f"{sign} {one.ref} {one.path}: {values}{by}")
    if len(found.drift) > len(shown):
        labelled("", f"and {len(found.drift) - len(shown)} more (--json names all)")


def _or(value: str | None) -> str:
    return "nothing" if value is None else value


def _next(found: Status, row: Row) -> None:
    from selfhost.cli._deploying import where
    from selfhost.cli._output import next_step

    place = where(row.namespace)
    if row.paused:
        next_step(f"selfhost pause {row.name} --resume{place}", "brings it back")
    elif (found.causes or not row.well) and not found.versions.running:
        return  # nothing has written a log; the way out stands beside the cause
    elif found.causes or not row.well:
        next_step(f"selfhost logs {row.name}{place}", "shows what it says, important lines marked")
    elif found.drifted and found.running is not None:
        number = found.running.number
        taken = " --force-conflicts" if any(one.owner for one in found.drift) else ""
        next_step(
            f"selfhost rollback {row.name} {number}{place}{taken}", "applies what was deployed once more"
        )
    elif found.healthy:
        next_step(f"selfhost test {row.name}{place}", "sends it a few requests")
