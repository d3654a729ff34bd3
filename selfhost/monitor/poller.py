"""The poller: one thread that asks NVML, one that looks at the clock, engines beside them."""

from __future__ import annotations

from collections.abc import Callable

from selfhost.monitor.sources import Sources
from selfhost.observation import Observation

Listener = Callable[[Observation, tuple[Observation, ...]], None]


class Poller:
    """Observes a node until it is stopped; `latest` and `history` never wait for NVML.

    Args:
        sources: what is observed.
        listeners: called with each new observation and the history up to it, in the poller's watching thread.
    """

    def __init__(self, sources: Sources, *, listeners: tuple[Listener, ...] = ()) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self, *, patience_seconds: float = 1.0) -> None:
        """End. A call that hangs in NVML is left where it is; the process can exit all the same."""

    def latest(self) -> Observation:
        """The last observation, with what NVML is stuck in now; before the first one, a node with the reason."""
        raise NotImplementedError

    def history(self) -> tuple[Observation, ...]:
        """Observations, oldest first."""
        raise NotImplementedError

    def wait(self, after: int, timeout_seconds: float) -> int:
        """Wait for more than `after` observations; how many there were since the start."""
        raise NotImplementedError
