"""Memory of an engine that grows while it serves: a leak is told from the steps that a first large batch makes."""

from __future__ import annotations

import statistics
from functools import partial

from selfhost.health.engine import EngineTrail, Look, every_engine, said
from selfhost.health.memory_plan import process_bytes
from selfhost.health.types import Check, Context, History
from selfhost.observation import Missing, Reading
from selfhost.units import MIB, gib

CODE = "memory-drift"
SOURCE = "ours (2026-11-21): growth of the process's memory on a GPU, in each third of the window, beyond its noise"
# All ours. Allocators take memory in blocks of up to some 20 MiB and keep it: growth below this is not told.
WINDOW_SECONDS, LEAST_POINTS = 300.0, 9
MOST_POINTS = 100
LEAST_GROWTH_BYTES = 64 * MIB
NOISE_FACTOR = 3.0
SHARE_OF_EACH_STEP = 0.25


def memory_drift(history: History, context: Context) -> list[Check]:
    """Whether the memory of an engine's processes keeps growing."""
    return every_engine(history, context, code=CODE, source=SOURCE, rule=_drift)


def _drift(trail: EngineTrail, context: Context) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    if isinstance(trail.gpus, Missing):
        return say("skipped", f"which GPUs it runs on is not known ({trail.gpus.missing})")
    grown: list[str] = []
    why: Missing | None = None
    watched = 0.0
    for gpu in trail.gpus:
        points = _points(trail.looks, gpu.identity.uuid, trail)
        if isinstance(points, Missing):
            why = points
            continue
        span = points[-1][0] - points[0][0]
        if span < WINDOW_SECONDS or len(points) < LEAST_POINTS:
            why = Missing(
                missing=f"{WINDOW_SECONDS / 60:.0f} minutes of watching are needed, {span:.0f} s were seen"
            )
            continue
        watched = max(watched, span)
        growth = _growth(points)
        if growth is not None:
            rate = growth / span * 3600
            grown.append(f"{gib(growth)} GiB on {gpu.label} in {span / 60:.0f} min ({gib(rate)} GiB an hour)")
    if grown:
        message = f"its memory keeps growing: {'; '.join(grown)}"
        return say("warn", message, action="check_application")
    if why is not None and not watched:
        return say("skipped", why.missing)
    return say("ok", f"its memory did not grow in {watched / 60:.0f} min")


def _points(looks: tuple[Look, ...], uuid: str, trail: EngineTrail) -> Reading[list[tuple[float, int]]]:
    """Memory over time, each poll of the slow lane once."""
    found: dict[float, int] = {}
    why = Missing(missing="its GPU was not seen")
    for look in looks:
        gpu = look.gpus.get(uuid)
        if gpu is None or gpu.fault is not None:
            continue
        at = gpu.slow_at or gpu.fast_at or look.at
        if at in found:
            continue
        size = process_bytes(trail.engine, gpu)
        if isinstance(size, Missing):
            why = size
        else:
            found[at] = size
    points = sorted(found.items())
    return points[:: max(1, len(points) // MOST_POINTS)] if points else why


def _growth(points: list[tuple[float, int]]) -> int | None:
    """Bytes by which a straight line through the points grows; None where it is noise, or one step and no drift."""
    times, sizes = [at for at, _ in points], [float(size) for _, size in points]
    if times[-1] == times[0]:
        return None
    slope, start = statistics.linear_regression(times, sizes)
    growth = slope * (times[-1] - times[0])
    noise = statistics.pstdev(size - start - slope * at for at, size in zip(times, sizes, strict=True))
    third = len(sizes) // 3
    first, middle, last = (
        statistics.median(part) for part in (sizes[:third], sizes[third:-third], sizes[-third:])
    )
    least = SHARE_OF_EACH_STEP * (last - first)
    if growth < max(LEAST_GROWTH_BYTES, NOISE_FACTOR * noise) or min(middle - first, last - middle) < least:
        return None
    return round(growth)
