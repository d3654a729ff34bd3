"""Cells and columns as styled lines of an exact width; wide signs count twice, and nothing is ever wider than asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfhost.health.types import Level
from selfhost.live.glyphs import Glyphs

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2
# Colour repeats what a symbol and a word say; it never says anything alone.
LEVEL_STYLES: dict[Level, str] = {
    "critical": "bold red", "warn": "yellow", "unknown": "magenta", "ok": "green", "skipped": "dim",
}  # fmt: skip
LOUD = "bold reverse red"
HEAD = "bold"
DIM = "dim"
SELECTED = "reverse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Text with a style of rich."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column.

    Args:
        head: its title.
        width: cells it needs.
        rank: columns of a higher rank go first where the line is short.
        right: aligned to the right.
        grow: takes what is left over, up to `most` cells.
        sortable: the sort key may choose it.
    """

    head: str
    width: int
    rank: int = 0
    right: bool = False
    grow: bool = False
    most: int = 1000
    sortable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One item of a list.

    Args:
        key: what selection holds on to when the order changes.
        cells: one per column.
        spread: instead of the cells after the first: one text over the rest of the line.
        style: of the whole line.
        under: texts that stand below the line, indented; they go with it.
        searched: what a filter looks at besides what is shown.
    """

    key: str
    cells: tuple[Cell, ...]
    spread: Cell | None = None
    style: str = ""
    under: tuple[Cell, ...] = ()
    searched: str = ""

    def holds(self, text: str) -> bool:
        """Whether the filter's text is in it."""
        shown = [cell.text for cell in (*self.cells, *self.under, self.spread or Cell(text=""))]
        return text.casefold() in "\n".join([*shown, self.searched]).casefold()


def chosen(columns: Sequence[Column], width: int) -> dict[int, int]:
    """Columns that fit and how wide each is: those of the lowest rank stay longest.

    Returns:
        Index of a column to its cells, in order.
    """
    kept = set(range(len(columns)))
    while len(kept) > 1 and _needed(columns, kept) > width:
        kept.discard(max(kept, key=lambda index: (columns[index].rank, index)))
    widths = {index: min(columns[index].width, width) for index in sorted(kept)}
    spare = width - sum(widths.values()) - GAP * (len(widths) - 1)
    for index in sorted(
        (index for index in widths if columns[index].grow), key=lambda index: columns[index].rank
    ):
        more = max(0, min(spare, columns[index].most - widths[index]))
        widths[index] += more
        spare -= more
    return widths


def _needed(columns: Sequence[Column], kept: set[int]) -> int:
    return sum(columns[index].width for index in kept) + GAP * (len(kept) - 1)


def fitted(text: str, width: int, glyphs: Glyphs, *, right: bool = False) -> str:
    """Text of exactly `width` cells: cut with a sign, or filled up."""
    from rich.cells import cell_len, set_cell_size

    text = glyphs.plain(text)
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        cut = set_cell_size(text, width - 1).rstrip() + glyphs.cut if width > 1 else glyphs.cut
        return set_cell_size(cut, width)
    return " " * (width - length) + text if right else text + " " * (width - length)


def line(cells: Sequence[Cell], width: int, glyphs: Glyphs, style: str = "") -> Text:
    """Cells one after the other, cut at `width`."""
    from rich.cells import cell_len
    from rich.text import Text

    made, left = Text(style=style, end="", no_wrap=True), width
    for cell in cells:
        if left <= 0:
            break
        plain = glyphs.plain(cell.text)
        text = plain if cell_len(plain) <= left else fitted(plain, left, glyphs)
        made.append(text, cell.style or None)
        left -= cell_len(text)
    return made


def heads(columns: Sequence[Column], widths: dict[int, int], width: int, glyphs: Glyphs, mark: int) -> Text:
    """The line of titles; `mark` is the column that the list is sorted by."""
    cells = []
    for place, (index, wide) in enumerate(widths.items()):
        gap = "" if place == 0 else " " * GAP
        text = fitted(columns[index].head, wide, glyphs, right=columns[index].right)
        cells += [
            Cell(text=gap),
            Cell(text=text, style="bold underline" if index == mark else HEAD),
        ]
    return line(cells, width, glyphs)


def row_line(
    row: Row, columns: Sequence[Column], widths: dict[int, int], width: int, glyphs: Glyphs, *, selected: bool
) -> Text:
    """One row under its columns."""
    style = f"{row.style} {SELECTED}".strip() if selected else row.style
    cells: list[Cell] = []
    used = 0
    for place, (index, wide) in enumerate(widths.items()):
        gap = GAP if place else 0
        if place and row.spread is not None:
            shown = Cell(
                text=fitted(row.spread.text, width - used - gap, glyphs),
                style="" if row.style else row.spread.style,
            )
            cells += [Cell(text=" " * gap), shown]
            used = width
            break
        cell = row.cells[index]
        text = fitted(cell.text, wide, glyphs, right=columns[index].right)
        cells += [Cell(text=" " * gap), Cell(text=text, style="" if row.style else cell.style)]
        used += gap + wide
    if selected or row.style:
        cells.append(Cell(text=" " * max(0, width - used)))
    return line(cells, width, glyphs, style)


def title(text: str, width: int, glyphs: Glyphs, after: str = "") -> Text:
    """The line above a section: a rule with its name."""
    from rich.cells import cell_len

    head = f"{glyphs.rule * 2} {text} "
    tail = f" {after} {glyphs.rule * 2}" if after else ""
    fill = max(0, width - cell_len(glyphs.plain(head)) - cell_len(glyphs.plain(tail)))
    return line([Cell(text=head + glyphs.rule * fill + tail, style=DIM)], width, glyphs)


def blank() -> Text:
    """An empty line."""
    from rich.text import Text

    return Text("", end="")


def wrapped(text: str, width: int) -> list[str]:
    """A sentence in lines of at most `width` cells, broken between words, and within one that is wider."""
    from rich.cells import cell_len, chop_cells

    lines: list[str] = [""]
    for word in text.split():
        if cell_len(word) > width:
            pieces = chop_cells(word, max(width, 1))
            lines = [*lines, *pieces] if lines[-1] else [*lines[:-1], *pieces]
        elif cell_len(lines[-1]) + (1 if lines[-1] else 0) + cell_len(word) <= width:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
        else:
            lines.append(word)
    return lines


def window(count: int, at: int, room: int) -> int:
    """First of `room` lines to show so that line `at` of `count` is among them."""
    if count <= room or room <= 0:
        return 0
    return max(0, min(at - room // 2, count - room))
