"""The poller: looks again every interval until it is stopped, and answers at any time without waiting for NVML.

NVML has a thread of its own (nvml_thread.py). The thread here is its watchdog: it asks for the lanes, waits no longer
than it may, and publishes an observation on every tick, also while NVML hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from selfhost.monitor.compose import LATE_SECONDS
from selfhost.monitor.edges import Edges, Lane, machine
from selfhost.monitor.engine_watch import PROMPT_SECONDS
from selfhost.monitor.history import Ring
from selfhost.monitor.observer import Observer
from selfhost.monitor.sources import Sources
from selfhost.observation import Observation

Listener = Callable[[Observation, tuple[Observation, ...]], None]

FAST: frozenset[Lane] = frozenset(("fast",))
SLOW: frozenset[Lane] = frozenset(("fast", "slow"))
# Ours: how much of a tick NVML is waited for before an observation goes out without what is still being read.
_NVML_SHARE = 0.5


class Poller:
    """Observes a node until it is stopped; `latest` and `history` never wait for NVML.

    Args:
        sources: what is observed.
        listeners: called with each new observation and the history up to it, in the poller's watching thread.
        edges: the machine; the real one by default.
    """

    def __init__(
        self, sources: Sources, *, listeners: tuple[Listener, ...] = (), edges: Edges | None = None
    ) -> None:
        self.sources = sources
        self.failure: str | None = None
        self._listeners = list(listeners)
        self._observer = Observer(sources, edges or machine(sources))
        self._ring = Ring(seconds=sources.history_seconds, count=sources.history_count)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="selfhost-poller", daemon=True)

    def listen(self, listener: Listener) -> None:
        """Have a function called with every observation from now on."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin; returns at once."""
        self._observer.start()
        self._thread.start()

    def stop(self, *, patience_seconds: float = 1.0) -> None:
        """End. A call that hangs in NVML is left where it is; the process can exit all the same."""
        until = time.monotonic() + patience_seconds
        self._stop.set()
        self._observer.stop(patience_seconds / 2)
        if self._thread.ident is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            self._changed.notify_all()

    @property
    def alive(self) -> bool:
        """Whether both threads are there; NVML's own may be stuck."""
        return self._thread.is_alive() and self._observer.nvml.alive

    @property
    def ready(self) -> bool:
        """Whether NVML has been read once, or said why it cannot be."""
        return self._count > 0 and self._observer.nvml.view().passes > 0

    @property
    def polled_at(self) -> float | None:
        """Unix time at which the last complete poll of NVML ended."""
        return self._observer.nvml.view().polled_at

    @property
    def stuck(self) -> tuple[str, float] | None:
        """The NVML call under way, and for how many seconds."""
        call = self._observer.nvml.current_call()
        return None if call is None else (call[0], time.monotonic() - call[1])

    def latest(self) -> Observation:
        """The last observation, with what NVML is stuck in now; before the first, what is known until then."""
        ring = self._ring.all()
        stuck = self.stuck
        if not ring or (stuck is not None and stuck[1] >= LATE_SECONDS):
            return self._observer.compose()
        return ring[-1]

    def history(self) -> tuple[Observation, ...]:
        """Observations, oldest first."""
        return self._ring.all()

    def wait(self, after: int, timeout_seconds: float) -> int:
        """Wait for more than `after` observations; how many there were since the start."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._count > after or self._stop.is_set(), timeout=max(0.0, timeout_seconds)
            )
            return self._count

    def _run(self) -> None:
        tick = 0
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                self._tick(slow=tick % max(1, self.sources.slow_every) == 0)
                self.failure = None
            except Exception as error:  # the watchdog outlives a fault of ours, and /healthz tells of it
                self.failure = f"{type(error).__name__}: {error}"[:300]
            tick += 1
            # Ticks that were missed, by a suspended machine for one, are not made up for.
            due = max(due + self.sources.interval_seconds, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _tick(self, *, slow: bool) -> None:
        interval = self.sources.interval_seconds
        observation = self._observer.look(
            SLOW if slow else FAST,
            nvml_seconds=interval * _NVML_SHARE,
            engine_seconds=min(PROMPT_SECONDS, interval / 4),
        )
        history = self._ring.add(observation)
        for listener in self._listeners:
            listener(observation, history)
        with self._changed:
            self._count += 1
            self._changed.notify_all()
