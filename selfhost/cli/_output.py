"""How results are printed: aligned tables for people, one JSON object for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import click

Align = Literal["left", "right"]


def emit_json(name: str, facts: Mapping[str, object], *, version: int = 1) -> None:
    """Print one JSON object with its schema first.

    Args:
        name: the schema's name, as in `selfhost.<name>/v<version>`; docs/json.md describes each.
        facts: what the object holds besides `schema`.
        version: raised when a field changes its meaning or goes away; new fields do not raise it.
    """
    import json

    click.echo(json.dumps({"schema": f"selfhost.{name}/v{version}", **facts}, indent=2, allow_nan=False))


def table(columns: Sequence[tuple[str, Align]], rows: Iterable[Sequence[str]], *, indent: int = 2) -> None:
    """Print rows under column heads, wrapped to the terminal, or to 80 columns where there is none.

    Args:
        columns: head and alignment of each column; the last left-aligned one takes the width that is left.
        rows: cells as plain text, one per column.
        indent: spaces before the first column.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    flexible = max((i for i, (_, align) in enumerate(columns) if align == "left"), default=0)
    for index, (head, align) in enumerate(columns):
        fold = index == flexible
        grid.add_column(
            Text(head), justify=align, no_wrap=not fold, overflow="fold", ratio=1 if fold else None
        )
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False, emoji=False, markup=False)
    console.print(Padding(grid, (0, 0, 0, indent), expand=False))


def say(text: str) -> None:
    """Print a paragraph for people, wrapped like the tables."""
    click.echo(click.wrap_text(text, width=_width(), preserve_paragraphs=True))


def headline(text: str, *, good: bool | None) -> None:
    """Print the answer: the first line of a result, coloured on a terminal."""
    import os

    wrapped = click.wrap_text(text, width=_width())
    if os.environ.get("NO_COLOR") or good is None:
        click.echo(wrapped)
    else:
        click.secho(wrapped, fg="green" if good else "red", bold=True)


def _width() -> int:
    import shutil

    return max(40, min(shutil.get_terminal_size((80, 24)).columns, 120))
