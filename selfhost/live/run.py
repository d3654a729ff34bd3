"""The loop of the live view: what was seen becomes a frame, a key becomes another state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from selfhost.health import Health
from selfhost.live import panels
from selfhost.live.frame import frame, row_keys
from selfhost.live.glyphs import glyphs_for
from selfhost.live.source import Source
from selfhost.live.state import ViewState, press
from selfhost.live.terminal import Terminal
from selfhost.observation import Observation

# How soon something new is shown, at most; the poller's own interval decides when there is any.
TICK_SECONDS = 0.25
# Ours: checks over a long history that take longer than this rest for so many times as long.
CHEAP_SECONDS, REST = 0.1, 10

Judge = Callable[[tuple[Observation, ...]], Health]


def watch(
    source: Source, judge: Judge, *, environ: Mapping[str, str], now: Callable[[], float], state: ViewState
) -> None:
    """Show what a source gives until the person leaves.

    Args:
        source: a poller or a recording.
        judge: what the checks say of a history.
        environ: TERM, NO_COLOR and the locale's variables.
        now: Unix time.
        state: how the view begins.

    Raises:
        KeyboardInterrupt: Ctrl-C; the terminal is as it was.
    """
    state = replace(state, glyphs=glyphs_for(environ))
    shown: tuple[Observation, ...] = ()
    verdicts = _Verdicts(judge)
    with Terminal(environ) as terminal:
        while not (state.quit or terminal.closed):
            source.follow(state)
            history = source.history()
            if not shown or state.replay or not state.paused:
                shown = history
            health = verdicts.of(shown)
            state = replace(state, source=source.told())
            width, height = terminal.size()
            terminal.draw(frame(shown, state, width, height, now(), health), width)
            for key in terminal.wait(TICK_SECONDS):
                state = _after(key, state, source, shown, health, height)


class _Verdicts:
    """The verdict of what is shown, anew with every observation unless that costs too much of a processor."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._last: tuple[tuple[Observation, ...], Health] | None = None
        self._due = 0.0

    def of(self, history: tuple[Observation, ...]) -> Health:
        """What the checks say; for a moment longer what they said before where they are slow."""
        if self._last is not None and (_same(history, self._last[0]) or time.monotonic() < self._due):
            return self._last[1]
        began = time.process_time()
        health = self._judge(history)
        cost = time.process_time() - began
        self._due = time.monotonic() + (cost * REST if cost > CHEAP_SECONDS else 0.0)
        self._last = (history, health)
        return health


def _after(
    key: str,
    state: ViewState,
    source: Source,
    shown: tuple[Observation, ...],
    health: Health | None,
    height: int,
) -> ViewState:
    if state.replay and key in ("left", "right") and not state.typing:
        source.follow(replace(state, paused=True))
        source.step(1 if key == "right" else -1)
        return replace(state, paused=True)
    return press(state, key, row_keys(shown, state, health), panels.sortable(state.panel), max(1, height - 6))


def _same(one: tuple[Observation, ...], other: tuple[Observation, ...]) -> bool:
    return len(one) == len(other) and (not one or (one[-1] is other[-1] and one[0] is other[0]))
