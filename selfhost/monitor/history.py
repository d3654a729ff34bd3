"""The observations of the last while, bounded by age and by number."""

from __future__ import annotations

import threading
from collections import deque

from selfhost.observation import Observation


class Ring:
    """Keeps observations of the last `seconds`, at most `count` of them."""

    def __init__(self, *, seconds: float, count: int) -> None:
        self._seconds = seconds
        self._kept: deque[Observation] = deque(maxlen=max(1, count))
        self._lock = threading.Lock()

    def add(self, observation: Observation) -> tuple[Observation, ...]:
        """Add one, drop what is too old; all that is kept, oldest first.

        A clock that was set back makes what came before look as if it were of the future: it is dropped too.
        """
        with self._lock:
            self._kept.append(observation)
            oldest = observation.at - self._seconds
            kept = [one for one in self._kept if oldest <= one.at <= observation.at]
            if len(kept) != len(self._kept):
                self._kept.clear()
                self._kept.extend(kept)
            return tuple(kept)

    def all(self) -> tuple[Observation, ...]:
        """All that is kept, oldest first."""
        with self._lock:
            return tuple(self._kept)
