"""The four lists of the view: a file each, with its columns and the rows it makes of what was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from selfhost.live.glyphs import Glyphs
from selfhost.live.layout import Column, Row
from selfhost.live.panels import checks, engines, gpus, processes
from selfhost.live.panels.gpus import Made
from selfhost.live.seen import Seen
from selfhost.live.state import Panel, ViewState

_COLUMNS: dict[Panel, tuple[Column, ...]] = {
    "gpus": gpus.COLUMNS, "processes": processes.COLUMNS, "engines": engines.COLUMNS, "checks": checks.COLUMNS,
}  # fmt: skip
_ROWS: dict[Panel, Callable[[Seen, Glyphs], Made]] = {
    "gpus": gpus.rows, "processes": processes.rows, "engines": engines.rows, "checks": checks.rows,
}  # fmt: skip


def columns(panel: Panel) -> tuple[Column, ...]:
    """Columns of a panel."""
    return _COLUMNS[panel]


def sortable(panel: Panel) -> tuple[int, ...]:
    """Indices of the columns that a panel can be sorted by."""
    return tuple(index for index, column in enumerate(columns(panel)) if column.sortable)


def rows(panel: Panel, seen: Seen, state: ViewState) -> tuple[Row, ...]:
    """Rows of a panel as the state wants them: filtered and sorted.

    Missing values come last whichever way the list is sorted.
    """
    made = _ROWS[panel](seen, state.glyphs)
    here = panel == state.panel
    if here and state.filter:
        made = [(values, block) for values, block in made if any(row.holds(state.filter) for row in block)]
    if here and state.sort >= 0:
        at = state.sort
        known = [item for item in made if item[0][at] is not None]
        numbers = all(isinstance(item[0][at], (int, float)) for item in known)
        known.sort(key=lambda item: _order(item[0][at], number=numbers), reverse=state.reversed_ != numbers)
        made = known + [item for item in made if item[0][at] is None]
    elif here and state.reversed_:
        made = made[::-1]
    return tuple(row for _, block in made for row in block)


def _order(value: object, *, number: bool) -> tuple[float, str]:
    if number and isinstance(value, (int, float)):
        return (value, "")
    return (0.0, str(value).casefold())


def keys(found: Sequence[Row]) -> tuple[str, ...]:
    """Keys of rows, in order."""
    return tuple(row.key for row in found)
