"""One frame of the view: history and state in, exactly as many lines as the screen has out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfhost.health.types import LEVELS, Check, Health
from selfhost.live import panels, words
from selfhost.live.detail import detail
from selfhost.live.layout import (
    DIM,
    HEAD,
    LEVEL_STYLES,
    LOUD,
    Cell,
    Row,
    blank,
    chosen,
    fitted,
    heads,
    line,
    row_line,
    title,
    window,
    wrapped,
)
from selfhost.live.seen import Seen, see
from selfhost.live.state import HELP, PANELS, Panel, ViewState
from selfhost.live.trends import trends
from selfhost.observation import Missing, Observation, number

if TYPE_CHECKING:
    from rich.text import Text

SMALLEST = (40, 10)
TITLES: dict[Panel, str] = {
    "gpus": "GPUs",
    "processes": "processes",
    "engines": "engines",
    "checks": "checks",
}
# Below this many columns what stands at the right ends gives way.
ROOMY = 72
# Readings that are this many intervals old are said to be.
LATE_INTERVALS = 3


def frame(
    history: tuple[Observation, ...],
    state: ViewState,
    width: int,
    height: int,
    now: float,
    health: Health | None = None,
) -> list[Text]:
    """The screen as styled lines.

    Args:
        history: observations, oldest first, at least one; the last one is shown.
        state: what was chosen at the keyboard.
        width, height: of the screen in cells; below 40 × 10 only a line that says so is drawn.
        now: Unix time.
        health: what the checks said of this history.

    Returns:
        `height` lines, none wider than `width`.
    """
    if width < SMALLEST[0] or height < SMALLEST[1]:
        small = line([Cell(text=f"needs {SMALLEST[0]}x{SMALLEST[1]}")], width, state.glyphs)
        return [small, *(blank() for _ in range(height - 1))][: max(height, 0)]
    seen = see(history, health)
    top = [_first(seen, state, width, now), _verdict(seen, state, width), _tabs(seen, state, width)]
    room = height - len(top) - 1
    body = _body(seen, state, width, room)[:room]
    return [*top, *body, *(blank() for _ in range(room - len(body))), _keys(state, width)]


def row_keys(
    history: tuple[Observation, ...], state: ViewState, health: Health | None = None
) -> tuple[str, ...]:
    """Keys of the rows that the frame's list has, for selection to move among."""
    return panels.keys(panels.rows(state.panel, see(history, health), state))


def _first(seen: Seen, state: ViewState, width: int, now: float) -> Text:
    """Host and driver, and at the right end when this was read."""
    node = seen.observation.node
    late = now - seen.observation.at
    if state.replay:
        when = Cell(text=f"{state.source}  {words.clock(seen.observation.at)}", style="")
    elif not state.paused and late > LATE_INTERVALS * state.interval + 1:
        when = Cell(text=f"nothing new for {words.age(late)}", style=LOUD)
    else:
        when = Cell(text=f"every {state.interval:g} s  {words.clock(seen.observation.at)}", style="")
    if state.paused:
        where = f"{state.source}  " if state.replay else ""
        when = Cell(text=f"PAUSED  {where}{words.clock(seen.observation.at)}", style="bold reverse")
    driver, cuda = number(node.driver_version), number(node.cuda_version)
    parts = [Cell(text=" "), Cell(text=node.host, style=HEAD)]
    if node.nvml.stuck_seconds > 0:
        stuck = f"{node.nvml.stuck_call or 'NVML'} not back for {words.age(node.nvml.stuck_seconds)}"
        parts += [Cell(text="  "), Cell(text=stuck, style=LOUD)]
    parts.append(Cell(text=f"  driver {driver or words.MISSING}  CUDA {cuda or words.MISSING}"))
    if state.source and not state.replay:
        parts.append(Cell(text=f"  {state.source}", style=DIM))
    return _ends(parts, when, width, state)


def _ends(left: Sequence[Cell], right: Cell, width: int, state: ViewState) -> Text:
    """Cells at the left end and one at the right end, which is kept whole."""
    from rich.cells import cell_len

    tail = state.glyphs.plain(right.text)
    room = max(0, width - cell_len(tail) - 1)
    made = line(left, room, state.glyphs)
    made.append(" " * max(0, width - made.cell_len - cell_len(tail)))
    made.append_text(line([Cell(text=tail, style=right.style)], max(0, width - made.cell_len), state.glyphs))
    return made


def _verdict(seen: Seen, state: ViewState, width: int) -> Text:
    """The node's verdict and its worst finding."""
    health, glyphs = seen.health, state.glyphs
    fault = seen.observation.node.nvml.fault
    if health is None or not health.checks:
        if fault is not None:
            return line([Cell(text=f" {glyphs.unknown} {words.why(fault)}", style=LOUD)], width, glyphs)
        return line([Cell(text=" no verdict", style=DIM)], width, glyphs)
    style = LEVEL_STYLES[health.verdict]
    cells = [Cell(text=f" {glyphs.level(health.verdict)} {words.LEVEL_WORDS[health.verdict]}", style=style)]
    worst = health.checks[0]
    if worst.level in ("critical", "warn", "unknown"):
        action = words.ACTIONS[worst.action]
        about = "" if worst.gpu is None or "gpu" in worst.message.casefold() else f"gpu {worst.gpu}: "
        cells.append(Cell(text=f"  {about}{worst.message}"))
        if action and width >= ROOMY:
            return _ends(cells, Cell(text=f" {glyphs.arrow} {action}", style=HEAD), width, state)
    return _ends(cells, Cell(text=f"  {_counts(health.checks)}", style=DIM), width, state)


def _counts(checks: Sequence[Check]) -> str:
    """How many checks of each level: `1 critical, 2 warn, 20 ok`."""
    many = {level: sum(1 for check in checks if check.level == level) for level in LEVELS}
    return ", ".join(f"{count} {level}" for level, count in many.items() if count and level != "skipped")


def _tabs(seen: Seen, state: ViewState, width: int) -> Text:
    """The panels with how many items each has, and the filter."""
    bad = sum(1 for check in seen.health.checks if check.level in ("critical", "warn")) if seen.health else 0
    many = {
        "gpus": str(len(seen.gpus)), "processes": str(len(seen.processes)), "engines": str(len(seen.engines)),
        "checks": f"{bad} bad" if bad else "ok" if seen.health and seen.health.verdict == "ok" else "",
    }  # fmt: skip
    cells = []
    for place, panel in enumerate(PANELS):
        here = panel == state.panel
        text = f"{place + 1} {TITLES[panel]} {many[panel]}".rstrip()
        cells += [
            Cell(text=" "),
            Cell(text=f"[{text}]" if here else f" {text} ", style="bold reverse" if here else ""),
        ]
    right = ""
    if state.filter or state.typing:
        right = f"/{state.filter}"
    elif seen.gpus and width >= ROOMY:
        right = words.kinds(line.gpu.identity.name for line in seen.gpus)
    return _ends(cells, Cell(text=right, style="bold" if state.filter else DIM), width, state)


def _keys(state: ViewState, width: int) -> Text:
    """What can be pressed."""
    if state.typing:
        return line([Cell(text=f" /{state.filter}_", style=HEAD), Cell(text="   Enter keep  Esc all", style=DIM)],
                    width, state.glyphs)  # fmt: skip
    if state.help or state.detail:
        return line([Cell(text=" Esc back  j k scroll  q quit", style=DIM)], width, state.glyphs)
    step = "<- -> step" if state.replay else "+ - interval"
    text = f" q quit  ? help  Tab panel  Enter open  s sort  / filter  p pause  {step}"
    return line([Cell(text=text, style=DIM)], width, state.glyphs)


def _body(seen: Seen, state: ViewState, width: int, room: int) -> list[Text]:
    if state.help:
        return _scrolled(_help(width, state), state.scroll, room)
    if state.detail:
        return _scrolled(_detail(seen, state, width), state.scroll, room)
    shown = _list(state.panel, seen, state, width, room)
    return shown + _sections(seen, state, width, room - len(shown))


def _scrolled(lines: list[Text], at: int, room: int) -> list[Text]:
    start = max(0, min(at, len(lines) - room))
    return lines[start : start + room]


def _help(width: int, state: ViewState) -> list[Text]:
    lines = [title("keys", width, state.glyphs)]
    for key, what in HELP:
        for place, text in enumerate(wrapped(what, width - 18)):
            head = fitted(key if place == 0 else "", 15, state.glyphs)
            lines.append(line([Cell(text=f"  {head} ", style=HEAD), Cell(text=text)], width, state.glyphs))
    return lines


def _detail(seen: Seen, state: ViewState, width: int) -> list[Text]:
    name, found = detail(seen, state.key)
    lines = [title(name, width, state.glyphs)]
    wide = max([len(fact) for fact, value in found if value], default=0) + 4
    for fact, value in found:
        if not value:
            lines.append(line([Cell(text=f" {fact}", style=HEAD)], width, state.glyphs))
            continue
        missing = value.startswith(words.MISSING)
        for place, text in enumerate(wrapped(state.glyphs.plain(value), max(8, width - wide - 1))):
            head = fitted(f"   {fact}" if place == 0 else "", wide, state.glyphs)
            cells = [Cell(text=f"{head} "), Cell(text=text, style=DIM if missing else "")]
            lines.append(line(cells, width, state.glyphs))
    return lines


def _list(panel: Panel, seen: Seen, state: ViewState, width: int, room: int) -> list[Text]:
    """A panel as heads and rows, scrolled so that the selected row is seen."""
    columns, rows = panels.columns(panel), panels.rows(panel, seen, state)
    widths = chosen(columns, width)
    here = panel == state.panel
    drawn: list[Text] = []
    at = 0
    for row in rows:
        if here and row.key == state.key:
            at = len(drawn)
        drawn += _row(row, panel, seen, state, width)
    first = window(len(drawn), at, room - 1)
    shown = drawn[first : first + max(room - 1, 0)]
    if not rows:
        shown = [line([Cell(text=f"   {_nothing(panel, seen, state)}", style=DIM)], width, state.glyphs)]
    return [heads(columns, widths, width, state.glyphs, state.sort if here else -1), *shown]


def _row(row: Row, panel: Panel, seen: Seen, state: ViewState, width: int) -> list[Text]:
    columns = panels.columns(panel)
    selected = panel == state.panel and row.key == state.key
    made = [row_line(row, columns, chosen(columns, width), width, state.glyphs, selected=selected)]
    below = (Cell(text=fitted(one.text, width, state.glyphs).rstrip(), style=one.style) for one in row.under)
    return [*made, *(line([one], width, state.glyphs) for one in below)]


def _nothing(panel: Panel, seen: Seen, state: ViewState) -> str:
    """Why a list is empty."""
    node = seen.observation.node
    if state.filter:
        return f"nothing contains {state.filter!r}; Esc shows all again"
    if panel == "gpus" and node.nvml.fault is not None:
        return words.why(node.nvml.fault)
    if panel == "engines" and not seen.observation.engines_looked_for:
        return "engines were not looked for"
    if panel == "processes":
        missing = [gpu.gpu.slow.processes for gpu in seen.gpus if isinstance(gpu.gpu.slow.processes, Missing)]
        if missing and len(missing) == len(seen.gpus):
            return words.why(missing[0])
    return {
        "gpus": "NVML counts no GPU", "processes": "no process holds a GPU", "engines": "no engine was found",
        "checks": "no check has run",
    }[panel]  # fmt: skip


def _sections(seen: Seen, state: ViewState, width: int, room: int) -> list[Text]:
    """What fits below the list: the other panels, and the history of the selected GPU."""
    if state.panel != "gpus":
        return []
    lines: list[Text] = []
    for make in (_engines_below, _trends_below, _checks_below, _processes_below):
        left = room - len(lines)
        if left < 3:  # a title and two lines, or nothing
            break
        lines += make(seen, state, width, left)
    return lines


def _engines_below(seen: Seen, state: ViewState, width: int, room: int) -> list[Text]:
    return _list("engines", seen, state, width, min(room, 1 + 2 * len(seen.engines))) if seen.engines else []


def _trends_below(seen: Seen, state: ViewState, width: int, room: int) -> list[Text]:
    key = (state.key or "").partition("/")[2]
    alive = [gpu for gpu in seen.gpus if gpu.gpu.fault is None]
    named = [gpu for gpu in alive if key in {gpu.gpu.identity.uuid, *(one.uuid for one in gpu.gpu.slow.mig)}]
    if not alive:
        return []
    troubled = [gpu for gpu in alive if gpu.level in ("critical", "warn")]
    gpu = (named or troubled or alive)[0]
    spans = len(gpu.past) > 1 and gpu.past[-1].fast_at and gpu.past[0].fast_at
    after = words.age((gpu.past[-1].fast_at or 0) - (gpu.past[0].fast_at or 0)) if spans else ""
    head = title(f"gpu {gpu.gpu.identity.index}", width, state.glyphs, after)
    return [head, *trends(gpu, width, state.glyphs)[: room - 1]]


def _checks_below(seen: Seen, state: ViewState, width: int, room: int) -> list[Text]:
    bad = sum(1 for check in seen.health.checks if check.level not in ("ok", "skipped")) if seen.health else 0
    return _list("checks", seen, state, width, min(room, 1 + bad)) if bad else []


def _processes_below(seen: Seen, state: ViewState, width: int, room: int) -> list[Text]:
    return (
        _list("processes", seen, state, width, min(room, 1 + len(seen.processes))) if seen.processes else []
    )
