"""Where the view's observations come from: a poller that goes on, or a recording that plays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from selfhost.live.state import ViewState
from selfhost.monitor import Poller
from selfhost.observation import Observation

# A recording with a longer gap (the machine slept, the recorder was stopped) does not make anybody wait for it.
LONGEST_PAUSE_SECONDS = 60.0
# What is kept of a recording for trends and rates; ours: the poller keeps as many.
HISTORY = 900


class Source(Protocol):
    """Gives the view its history."""

    def history(self) -> tuple[Observation, ...]:
        """Observations until now, oldest first; empty before the first."""

    def told(self) -> str:
        """For the first line: where in a recording the view stands, or where it is recorded."""

    def follow(self, state: ViewState) -> None:
        """Move on to now, and take over what was chosen: interval, speed, pause."""

    def step(self, by: int) -> None:
        """Go back or forward by one observation, where that can be."""


class Live:
    """A poller; a paused view stands while the poller goes on.

    Args:
        poller: started already.
        told: what is to be said beside it, such as where it is recorded.
    """

    def __init__(self, poller: Poller, told: Callable[[], str] = str) -> None:
        self._poller = poller
        self._told = told

    def history(self) -> tuple[Observation, ...]:
        """What the poller has seen."""
        return self._poller.history() or (self._poller.latest(),)

    def told(self) -> str:
        """Where it is recorded, if it is."""
        return self._told()

    def follow(self, state: ViewState) -> None:
        """Read as often as was chosen."""
        if self._poller.sources.interval_seconds != state.interval:
            self._poller.sources = replace(self._poller.sources, interval_seconds=state.interval)

    def step(self, by: int) -> None:
        """What is happening cannot be stepped through."""


class Replay:
    """A recording, played at the pace it was recorded.

    Args:
        observations: oldest first, at least one.
        monotonic: a clock in seconds that only runs forward.
    """

    def __init__(self, observations: tuple[Observation, ...], monotonic: Callable[[], float]) -> None:
        self._observations = observations
        self._monotonic = monotonic
        self._times = _times(observations)
        self._offset, self._since, self._place = 0.0, monotonic(), 0
        self._speed, self._paused = 1.0, False

    def history(self) -> tuple[Observation, ...]:
        """What was played until the last `follow` or `step`."""
        end = self._place + 1
        return self._observations[max(0, end - HISTORY) : end]

    def told(self) -> str:
        """`12 of 300`, the speed where it is not the recorded one, and the end."""
        speed = "" if self._speed == 1 else f"  {self._speed:g} x"
        end = "  end" if self._place == len(self._observations) - 1 else ""
        return f"recording {self._place + 1} of {len(self._observations)}{speed}{end}"

    def follow(self, state: ViewState) -> None:
        """Play on until now, from here on at the chosen speed, or stand."""
        now = self._monotonic()
        played = 0.0 if self._paused else (now - self._since) * self._speed
        self._offset, self._since = min(self._offset + played, self._times[-1]), now
        self._speed, self._paused = state.speed, state.paused
        self._place = max(0, bisect_right(self._times, self._offset) - 1)

    def step(self, by: int) -> None:
        """One observation back (-1) or forward (1)."""
        self._place = max(0, min(self._place + by, len(self._times) - 1))
        self._offset, self._since = self._times[self._place], self._monotonic()


def _times(observations: tuple[Observation, ...]) -> list[float]:
    """Seconds from the first observation to each, without long gaps and without going backwards."""
    times = [0.0]
    for before, after in pairwise(observations):
        times.append(times[-1] + max(0.0, min(after.at - before.at, LONGEST_PAUSE_SECONDS)))
    return times
