"""One observation, or as many as the checks ask for, within a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfhost.monitor.sources import Sources
from selfhost.observation import Observation

if TYPE_CHECKING:
    from selfhost.health import Baseline


def observe_once(sources: Sources, *, deadline_seconds: float = 10.0) -> Observation:
    """Look once at everything; at the deadline what was seen until then, with the call that NVML is stuck in."""
    raise NotImplementedError


def watch_once(
    sources: Sources,
    *,
    baseline: Baseline | None = None,
    deadline_seconds: float = 10.0,
    window_seconds: float = 30.0,
) -> tuple[Observation, ...]:
    """Observe once, and go on for at most `window_seconds` while some check would say more with another look."""
    raise NotImplementedError
