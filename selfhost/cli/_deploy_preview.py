"""What applying would change, for people: objects, fields, memory, GPUs and downtime."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import labelled
from selfhost.cli._output import folded, width
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.cluster import Ref
    from selfhost.deploy.settings import Preview
    from selfhost.deploy.types import Desired
    from selfhost.diff import Report

# A screen is for reading; --output json has all of it.
_MOST_FIELDS = 12


def show(wanted: Desired, preview: Preview) -> None:
    """Print it below the line that counts it."""
    for sign, refs in (("+", preview.created), ("-", preview.pruned)):
        if refs:
            labelled("", f"{sign} {_counted(refs)}")
    for change in preview.changes:
        labelled("", f"~ {change.kind} {change.name}")
        for field in change.fields[:_MOST_FIELDS]:
            _field(field.path, field.old, field.new)
        if len(change.fields) > _MOST_FIELDS:
            click.echo(f"             and {len(change.fields) - _MOST_FIELDS} more fields")
    if preview.kept:
        labelled(
            "",
            f"kept: {_counted(preview.kept)}, no longer wanted (selfhost destroy --with-weights removes it)",
        )
    for claim in preview.claims:
        labelled("", f"taken over from {claim.manager}: {claim.field}")
    if preview.report is not None:
        _effects(preview.report)


def _counted(refs: tuple[Ref, ...]) -> str:
    kinds = Counter(ref.kind for ref in refs)
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())


def _field(path: str, old: str | None, new: str | None) -> None:
    short = path.replace("spec.template.spec.", "pod ")
    words = f"{short}: {'-' if old is None else old} -> {'-' if new is None else new}"
    for line in folded(words, width() - 13):
        click.echo(f"{'':<13}{line}")


def _effects(report: Report) -> None:
    effects = report.effects
    for change in report.memory:
        size = (change.new_bytes or 0) - (change.old_bytes or 0)
        old, new = (_gib(value) for value in (change.old_bytes, change.new_bytes))
        labelled(
            "Memory",
            f"{change.term}: {old} -> {new} GiB per GPU ({'-' if size < 0 else '+'}{gib(abs(size))})",
        )
    if effects.gpus_before != effects.gpus_after or effects.gpus_meanwhile != effects.gpus_after:
        labelled(
            "GPUs",
            f"{effects.gpus_before} before, {effects.gpus_meanwhile} meanwhile, {effects.gpus_after} after",
        )
    if effects.restarts:
        down = effects.downtime_seconds
        words = "something serves all the while"
        if down is None:
            words = "nothing serves while it is updated, for how long is not known"
        elif down:
            words = f"nothing serves for at most {down / 60:,.0f} min"
        labelled("Downtime", words)
    if effects.download_bytes:
        labelled("Download", f"{gib(effects.download_bytes)} GiB of weights")


def _gib(size: int | None) -> str:
    return "-" if size is None else gib(size)
