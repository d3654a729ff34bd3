"""What the person at the keyboard chose, and how each key changes it: pure, so that a test can type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from selfhost.live.glyphs import UNICODE, Glyphs

T = TypeVar("T")
Panel = Literal["gpus", "processes", "engines", "checks"]
PANELS: tuple[Panel, ...] = ("gpus", "processes", "engines", "checks")
INTERVALS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
DEFAULT_INTERVAL = 2.0

# What a key is called here -> what it does; the help lists these lines.
HELP: tuple[tuple[str, str], ...] = (
    ("q", "quit"),
    ("1-4, Tab", "GPUs, processes, engines, checks"),
    ("up, down, j, k", "select; PgUp, PgDn, g, G: a page, first, last"),
    ("Enter", "detail of what is selected, with the reason of every missing reading; Esc: back"),
    ("s, S", "sort by the next column, the other way round"),
    ("/", "show only what contains a text (name, pod, uuid, process); Enter: keep, Esc: all again"),
    ("p, Space", "pause: what is shown stands still, what is recorded goes on"),
    ("left, right", "in a recording: one observation back, forward"),
    ("+, -", "interval of the readings, or speed of a recording"),
    ("r", "reset sorting, filter, selection and interval"),
    ("h, ?", "this help"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewState:
    """Everything that decides a frame besides what was observed.

    Args:
        panel: which list is shown.
        sorts, reverse, selected: per panel: index of the column, whether the other way round, key of the row.
        filter: shown rows contain it, whatever the case.
        typing: the filter is being typed.
        paused: the view stands.
        detail: the selected row is shown in full; `scroll` is its first line.
        interval, began: seconds between readings, now and at the start.
        speed: of a recording; 2 plays it twice as fast.
        replay: a recording is shown.
        source: where in a recording the view stands, or where it is recorded.
    """

    panel: Panel = "gpus"
    sorts: tuple[int, ...] = (-1, -1, -1, -1)
    reverse: tuple[bool, ...] = (False, False, False, False)
    selected: tuple[str | None, ...] = (None, None, None, None)
    filter: str = ""
    typing: bool = False
    paused: bool = False
    detail: bool = False
    help: bool = False
    scroll: int = 0
    interval: float = DEFAULT_INTERVAL
    began: float = DEFAULT_INTERVAL
    speed: float = 1.0
    replay: bool = False
    source: str = ""
    quit: bool = False
    glyphs: Glyphs = UNICODE

    @property
    def place(self) -> int:
        """Index of the panel."""
        return PANELS.index(self.panel)

    @property
    def sort(self) -> int:
        """Column that this panel is sorted by; -1 for its own order."""
        return self.sorts[self.place]

    @property
    def reversed_(self) -> bool:
        """Whether this panel is sorted the other way round."""
        return self.reverse[self.place]

    @property
    def key(self) -> str | None:
        """Row that is selected in this panel."""
        return self.selected[self.place]


def press(
    state: ViewState, key: str, rows: Sequence[str], columns: Sequence[int], page: int = 10
) -> ViewState:
    """The state after a key.

    Args:
        key: one sign, or the name of a key: `up`, `down`, `left`, `right`, `enter`, `escape`, `tab`, `backtab`,
            `backspace`, `pageup`, `pagedown`, `home`, `end`.
        rows: keys of the rows that this panel shows, in order.
        columns: indices of the columns that it can be sorted by.
        page: rows of a page.
    """
    if state.typing:
        return _typed(state, key)
    if key in ("q", "Q"):
        return replace(state, quit=True)
    if key in ("h", "?"):
        return replace(state, help=not state.help, scroll=0)
    if key in ("escape", "backspace"):
        return _back(state)
    if key in ("p", " "):
        return replace(state, paused=not state.paused)
    if key in ("+", "=", "-", "_"):
        return _paced(state, 1 if key in "+=" else -1)
    if key == "r":
        return _reset(state)
    if state.help:
        return state
    return _in_panel(state, key, rows, columns, page)


def _in_panel(
    state: ViewState, key: str, rows: Sequence[str], columns: Sequence[int], page: int
) -> ViewState:
    steps = {
        "up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page, "home": -(10**6), "g": -(10**6),
        "end": 10**6, "G": 10**6,
    }  # fmt: skip
    if key in steps:
        return _moved(state, steps[key], rows)
    if key in ("tab", "backtab"):
        place = (state.place + (1 if key == "tab" else -1)) % len(PANELS)
        return replace(state, panel=PANELS[place], detail=False, scroll=0)
    if key in ("1", "2", "3", "4"):
        return replace(state, panel=PANELS[int(key) - 1], detail=False, scroll=0)
    if key == "enter":
        selected = state if state.key in rows else _moved(state, 0, rows)
        return replace(selected, detail=not state.detail and bool(rows), scroll=0)
    if key == "/":
        return replace(state, typing=True, detail=False)
    if key == "s":
        order = (-1, *columns)
        now = order.index(state.sort) if state.sort in order else 0
        following = order[(now + 1) % len(order)]
        return replace(state, sorts=_put(state.sorts, state.place, following))
    if key == "S":
        return replace(state, reverse=_put(state.reverse, state.place, not state.reversed_))
    return state


def _moved(state: ViewState, step: int, rows: Sequence[str]) -> ViewState:
    if state.detail:
        return replace(state, scroll=max(0, min(state.scroll + step, 10**6)))
    if not rows:
        return state
    now = rows.index(state.key) if state.key in rows else (0 if step >= 0 else len(rows) - 1)
    # The first step selects the first row where none was.
    step = step if state.key in rows else 0 if abs(step) == 1 else step
    return _selected(state, rows[max(0, min(now + step, len(rows) - 1))])


def _put(values: tuple[T, ...], place: int, value: T) -> tuple[T, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _selected(state: ViewState, key: str | None) -> ViewState:
    return replace(state, selected=_put(state.selected, state.place, key))


def _typed(state: ViewState, key: str) -> ViewState:
    if key == "enter":
        return replace(state, typing=False)
    if key == "escape":
        return replace(state, typing=False, filter="")
    if key == "backspace":
        return replace(state, filter=state.filter[:-1], typing=bool(state.filter))
    if len(key) == 1 and key.isprintable() and len(state.filter) < 200:
        return replace(state, filter=state.filter + key)
    return state


def _back(state: ViewState) -> ViewState:
    """Out of what was opened last: help, detail, filter, selection."""
    if state.help:
        return replace(state, help=False, scroll=0)
    if state.detail:
        return replace(state, detail=False, scroll=0)
    if state.filter:
        return replace(state, filter="")
    return _selected(state, None)


def _reset(state: ViewState) -> ViewState:
    fresh = ViewState()
    return replace(
        state, sorts=fresh.sorts, reverse=fresh.reverse, selected=fresh.selected, filter="", detail=False,
        help=False, scroll=0, interval=state.began, speed=1.0, paused=False,
    )  # fmt: skip


def _paced(state: ViewState, direction: int) -> ViewState:
    """A longer (1) or shorter (-1) interval; of a recording, a higher or lower speed."""
    if state.replay:
        return replace(state, speed=max(0.125, min(64.0, state.speed * 2.0**direction)))
    if direction > 0:
        longer = next((step for step in INTERVALS if step > state.interval), state.interval)
        return replace(state, interval=longer)
    shorter = next((step for step in reversed(INTERVALS) if step < state.interval), state.interval)
    return replace(state, interval=shorter)
