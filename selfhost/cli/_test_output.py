"""A smoke test for people: checks, first figures, memory next to the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from selfhost.cli._output import folded, headline, table, width
from selfhost.observation import known
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.deploy.figures import MemoryFigures, StreamFigures
    from selfhost.deploy.smoke import Check, Smoke

_WORDS = {"pass": "ok", "fail": "FAIL", "skipped": "skipped"}
_WIDTHS = (8, 13)


def show(found: Smoke, where: str) -> None:
    """All of it; the answer first.

    Args:
        found: the smoke test.
        where: what was tried, for the first line.
    """
    headline(f"{where}: {found.sentence[:1].lower()}{found.sentence[1:]}", good=found.passed)
    click.echo()
    for check in found.checks:
        line(check)
    if found.stream is not None:
        click.echo(f"\n{'stream':<{_WIDTHS[0]}}  {stream_words(found.stream)}")
    if found.memory is not None:
        show_memory(found.memory)


def line(check: Check) -> None:
    """A check on a line, folded beside its name."""
    first, second = _WIDTHS
    took = "" if check.seconds is None else f"  {_seconds(check.seconds)}"
    lines = folded(check.because, width() - first - second - 6 - len(took))
    click.echo(f"  {_WORDS[check.verdict]:<{first - 1}} {check.code:<{second}} {lines[0]}{took}")
    for more in lines[1:]:
        click.echo(" " * (first + second + 3) + more)


def stream_words(stream: StreamFigures) -> str:
    """The speed of one stream in a phrase."""
    words = f"first token after {_seconds(stream.first_token_seconds)}"
    if stream.tokens_per_second is not None and stream.inter_token_seconds is not None:
        words += f", then {stream.tokens_per_second:,.1f} tokens/s"
        words += f" ({_seconds(stream.inter_token_seconds)} between tokens)"
    return words + (
        "" if stream.counted else "; pieces of text counted, as the engine tells no number of tokens"
    )


def show_memory(memory: MemoryFigures, title: str = "per GPU, GiB") -> None:
    """Planned and seen, term by term."""
    from selfhost.deploy.figures import percent

    rows = []
    for term in memory.terms:
        if not known(term.actual):
            continue
        error = "" if term.error_bytes is None else f"{'+' if term.error_bytes >= 0 else '-'}"
        error += "" if term.error_bytes is None else gib(abs(term.error_bytes))
        share = "" if term.error_ratio is None else percent(term.error_ratio)
        planned = "-" if term.predicted_bytes is None else gib(term.predicted_bytes)
        rows.append((term.name, planned, gib(term.actual), error, share, term.because))
    if known(memory.kv_tokens):
        planned = "-" if memory.kv_tokens_predicted is None else f"{memory.kv_tokens_predicted:,}"
        ratio = memory.kv_tokens_error_ratio
        share = "" if ratio is None else percent(ratio)
        rows.append(("tokens it holds", planned, f"{memory.kv_tokens:,}", "", share, memory.because))
    if rows:
        click.echo()
        table(
            (
                (title, "left"), ("planned", "right"), ("seen", "right"), ("error", "right"), ("%", "right"),
                ("from", "left"),
            ),
            rows,
        )  # fmt: skip


def _seconds(value: float) -> str:
    return f"{1000 * value:,.0f} ms" if value < 1 else f"{value:,.1f} s"
