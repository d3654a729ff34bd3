"""The loop of the live view: what was seen becomes a frame, a key becomes another state."""

from __future__ import annotations

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
    health: Health | None = None
    with Terminal(environ) as terminal:
        while not (state.quit or terminal.closed):
            source.follow(state)
            history = source.history()
            standing = state.paused and not state.replay and shown
            if not standing and not _same(history, shown):
                shown, health = history, judge(history)
            state = replace(state, source=source.told())
            width, height = terminal.size()
            terminal.draw(frame(shown, state, width, height, now(), health), width)
            for key in terminal.wait(TICK_SECONDS):
                state = _after(key, state, source, shown, health, height)


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
