"""One observation, or as many as the checks ask for, within a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from selfhost.monitor.edges import ALL_LANES, Edges, Lane, machine
from selfhost.monitor.observer import Observer
from selfhost.monitor.sources import Sources
from selfhost.observation import Observation

if TYPE_CHECKING:
    from selfhost.health import Baseline

# Ours: what is kept of the deadline for the engines when NVML does not answer, and what a thread is given to end in.
_ENGINE_SHARE = 0.4
_STOP_SECONDS = 0.5
# Ours: seconds between two looks. Utilization is a sample of up to a second, and GPM needs 100 ms between two.
STEP_SECONDS = 2.0

# Who the GPUs are is asked once: asking again starts GPM's comparison of two samples anew.
_AGAIN: frozenset[Lane] = ALL_LANES - {"static"}


def observe_once(
    sources: Sources, *, deadline_seconds: float = 10.0, edges: Edges | None = None
) -> Observation:
    """Look once at everything.

    Args:
        sources: what is observed.
        deadline_seconds: when to come back with what was seen until then; a call that NVML hangs in is then named in
            `node.nvml`, and its thread is left behind: the process can exit all the same.
        edges: the machine; the real one by default.
    """
    observer = Observer(sources, edges or machine(sources))
    observer.start()
    try:
        return _look(observer, sources, deadline_seconds)
    finally:
        observer.stop(_STOP_SECONDS)


def watch_once(
    sources: Sources,
    *,
    baseline: Baseline | None = None,
    deadline_seconds: float = 10.0,
    window_seconds: float = 30.0,
    step_seconds: float = STEP_SECONDS,
    edges: Edges | None = None,
) -> tuple[Observation, ...]:
    """Look once, and go on looking while some check would say more with another look.

    Args:
        sources: what is observed.
        baseline: what the checks compare with.
        deadline_seconds: of the first look, and of each one after it.
        window_seconds: how long to go on at most, counted from the first look's end.
        step_seconds: between two looks.
        edges: the machine; the real one by default.

    Returns:
        Observations, oldest first, at least one.
    """
    from selfhost.health import Context, assess

    edges = edges or machine(sources)
    observer = Observer(sources, edges)
    observer.start()
    try:
        seen = [_look(observer, sources, deadline_seconds)]
        until = time.monotonic() + window_seconds
        while True:
            context = Context(now=seen[-1].at, plan=sources.plan, baseline=baseline)
            health = assess(tuple(seen), context)
            left = until - time.monotonic()
            if left < step_seconds or not any(check.wants_history for check in health.checks):
                return tuple(seen)
            time.sleep(step_seconds)
            left = min(deadline_seconds, until - time.monotonic() + sources.engine_timeout_seconds)
            seen.append(_look(observer, sources, left, _AGAIN))
    finally:
        observer.stop(_STOP_SECONDS)


def _look(
    observer: Observer, sources: Sources, deadline_seconds: float, lanes: frozenset[Lane] = ALL_LANES
) -> Observation:
    began = time.monotonic()
    # A search and a scrape; what NVML does not need of its time goes to the engines.
    engines = min(deadline_seconds * _ENGINE_SHARE, sources.engine_timeout_seconds + 1.0)
    return observer.look(
        lanes,
        nvml_seconds=deadline_seconds - engines,
        engine_seconds=engines,
        whole=True,
        until=began + deadline_seconds,
    )
