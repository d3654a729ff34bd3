"""How results are printed: aligned tables for people, one JSON object for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import click

Align = Literal["left", "right"]
INDENT, GAP, NARROWEST = 2, 2, 8


def emit_json(name: str, facts: Mapping[str, object], *, version: int = 1) -> None:
    """Print one JSON object with its schema first.

    Args:
        name: the schema's name, as in `selfhost/<name>/v<version>`; docs/json.md describes each.
        facts: what the object holds besides `schema`.
        version: raised when a field changes its meaning or goes away; new fields do not raise it.
    """
    import json

    click.echo(json.dumps({"schema": f"selfhost/{name}/v{version}", **facts}, indent=2, allow_nan=False))


def table(
    columns: Sequence[tuple[str, Align]], rows: Iterable[Sequence[str]], *, wrap: int | None = None
) -> None:
    """Print rows under column heads, wrapped to the terminal, or to 80 columns where there is none.

    Args:
        columns: head and alignment of each column.
        rows: cells as plain text, one per column.
        wrap: index of the one column that gives way where the width is short; None for the last.
    """
    filled = [tuple(row) for row in rows]
    last = len(columns) - 1 if wrap is None else wrap
    if sys.stdout is not None and sys.stdout.isatty():
        _rich_table(columns, filled, last)
    else:
        # The same layout without rich, whose import takes longer than a whole sizing.
        _plain_table(columns, filled, last)


def _rich_table(columns: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], wrap: int) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for index, (head, align) in enumerate(columns):
        grid.add_column(Text(head), justify=align, no_wrap=index != wrap, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False, emoji=False, markup=False, width=width())
    console.print(Padding(grid, (0, 0, 0, INDENT), expand=False))


def _plain_table(columns: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], wrap: int) -> None:
    heads = tuple(head for head, _ in columns)
    widths = [max(map(columns_of, cells)) for cells in zip(heads, *rows, strict=True)]
    others = INDENT + sum(widths) - widths[wrap] + GAP * (len(widths) - 1)
    widths[wrap] = max(NARROWEST, min(widths[wrap], width() - others))
    for row in (heads, *rows):
        lines = folded(row[wrap], widths[wrap])
        for number, line in enumerate(lines):
            cells = [line if index == wrap else cell if number == 0 else "" for index, cell in enumerate(row)]
            placed = [
                _placed(cell, width, align)
                for cell, width, (_, align) in zip(cells, widths, columns, strict=True)
            ]
            click.echo((" " * INDENT + (" " * GAP).join(placed)).rstrip())


def folded(text: str, width: int, *, cut: bool = True) -> list[str]:
    """A cell's lines: broken between words, and, to `cut`, within a word that is wider than the column."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if columns_of(joined) <= width:
            lines[-1] = joined
            continue
        if not lines[-1]:
            lines.pop()
        lines += _cut(word, width) if cut else [word]
    return lines


def _cut(word: str, width: int) -> list[str]:
    """A word in pieces of so many columns."""
    if columns_of(word) == len(word):
        return [word[start : start + width] for start in range(0, len(word), width)] or [""]
    lines = [""]
    for character in word:
        if columns_of(lines[-1] + character) > width:
            lines.append("")
        lines[-1] += character
    return lines


def _placed(cell: str, width: int, align: Align) -> str:
    gap = " " * (width - columns_of(cell))
    return gap + cell if align == "right" else cell + gap


def columns_of(text: str) -> int:
    """Columns of a terminal that a text takes: two for each Chinese character."""
    if text.isascii():
        return len(text)
    return sum(2 if is_wide(character) else 1 for character in text)


def is_wide(character: str) -> bool:
    """Whether a character takes two columns."""
    import unicodedata

    return unicodedata.east_asian_width(character) in "WF"


def facts(rows: Mapping[str, str]) -> None:
    """Print names and values in two columns, long values wrapped between words: a path is copied whole."""
    left = max(map(columns_of, rows)) + 4
    for name, value in rows.items():
        shown = "".join(char if char.isprintable() else "�" for char in value)
        lines = folded(shown, width() - left, cut=False)
        click.echo(f"  {_placed(name, left - 4, 'left')}  {lines[0]}")
        for line in lines[1:]:
            click.echo(" " * left + line)


def say(text: str) -> None:
    """Print a paragraph, wrapped like the tables."""
    click.echo("\n".join(folded(text, width())))


def headline(text: str, *, good: bool | None = None) -> None:
    """Print the answer: the first line of a result, coloured on a terminal when it is good or bad news."""
    wrapped = "\n".join(folded(text, width()))
    if good is None or not colours():
        click.echo(wrapped)
    else:
        click.secho(wrapped, fg="green" if good else "red", bold=True)


def colours() -> bool:
    """Whether the environment lets a terminal be written to in colours (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def next_step(command: str, why: str, *, head: str = "Next: ") -> None:
    """Print the last line of a result: the command that leads on; `head` is what stands before it."""
    gap = " " * 4 if len(command) + len(why) + 10 <= width() else "\n      "
    click.echo(f"\n{head}{command}{gap}{why}")


def width() -> int:
    """Columns to write in: COLUMNS, the terminal's, or 80; shutil's own answer would load five compressors."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return max(40, min(int(columns), 120))
    try:
        return (
            max(40, min(os.get_terminal_size(sys.__stdout__.fileno()).columns, 120)) if sys.__stdout__ else 80
        )
    except (OSError, ValueError):
        return 80
