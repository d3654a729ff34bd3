"""A curve of speeds -> how many requests at once meet goals, and where more of them stop being worth it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selfhost.throughput.types import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What the goals allow.

    Args:
        concurrency: most requests at once that meet all goals, 0 where even one does not.
        output_tokens_per_second: typical, at that concurrency; None where none does.
        binds: the goal that ends it: `ttft`, `tpot`, or `admission` where the goals hold for all that are let in.
        sentence: the same in words.
    """

    concurrency: int
    output_tokens_per_second: float | None
    binds: str
    sentence: str


def meeting(
    points: tuple[Point, ...], *, ttft_ms: float | None, tpot_ms: float | None, at: Callable[[int], Point]
) -> Met | None:
    """Most requests at once whose typical times meet the goals: between two points of the curve by bisection.

    Args:
        points: by growing concurrency.
        ttft_ms, tpot_ms: the goals, None for none.
        at: the point of any other concurrency.

    Returns:
        None without a goal.
    """
    if ttft_ms is None and tpot_ms is None:
        return None
    before: Point | None = None
    for point in points:
        ends = _broken(point, ttft_ms, tpot_ms)
        if ends is None:
            before = point
            continue
        if before is None:
            return Met(
                concurrency=0,
                output_tokens_per_second=None,
                binds=ends[0],
                sentence=f"Even one request alone misses the {ends[0].upper()} goal: {ends[1]:,.0f} ms.",
            )
        return _between(before, point, ttft_ms, tpot_ms, at)
    last = points[-1]
    return Met(
        concurrency=last.concurrency,
        output_tokens_per_second=last.output_tokens_per_second.typical,
        binds="admission",
        sentence=f"The goals hold for all {last.concurrency:,} requests that are admitted at once.",
    )


def _broken(point: Point, ttft_ms: float | None, tpot_ms: float | None) -> tuple[str, float] | None:
    for name, goal, value in (
        ("ttft", ttft_ms, point.ttft_ms.typical),
        ("tpot", tpot_ms, point.tpot_ms.typical),
    ):
        if goal is not None and value > goal:
            return name, value
    return None


def _between(
    meets: Point, misses: Point, ttft_ms: float | None, tpot_ms: float | None, at: Callable[[int], Point]
) -> Met:
    while misses.concurrency - meets.concurrency > 1:
        middle = at((meets.concurrency + misses.concurrency) // 2)
        if _broken(middle, ttft_ms, tpot_ms) is None:
            meets = middle
        else:
            misses = middle
    ends = _broken(misses, ttft_ms, tpot_ms)
    assert ends is not None
    count, speed = meets.concurrency, meets.output_tokens_per_second.typical
    how = "1 request at once meets" if count == 1 else f"{count:,} requests at once meet"
    return Met(
        concurrency=count,
        output_tokens_per_second=speed,
        binds=ends[0],
        sentence=f"{how} the goals, at {speed:,.0f} tokens/s; {ends[0].upper()} ends it.",
    )


def knee(points: tuple[Point, ...]) -> int:
    """Concurrency where the curve bends: farthest above the line from its first to its last point.

    Kneedle (Satopää et al. 2011, doi 10.1109/ICDCSW.2011.20), on throughput over time per request, both from 0 to 1. By
    Little's law a request takes its share of the throughput's inverse: the requests at once over the throughput.

    A curve that lies farther below the line than it ever lies above has no such bend: routed models gain the most when
    all experts are read anyway. Then it is the last point.

    Args:
        points: by growing concurrency, up to what is admitted: those that wait for a place are slower without end.
    """
    if len(points) < 3:
        return points[-1].concurrency
    speeds = [point.output_tokens_per_second.typical for point in points]
    waits = [point.concurrency / speed for point, speed in zip(points, speeds, strict=True)]
    wide, tall = max(waits) - min(waits), max(speeds) - min(speeds)
    if wide <= 0 or tall <= 0:
        return points[-1].concurrency
    gains = [
        (speed - speeds[0]) / tall - (wait - waits[0]) / wide
        for wait, speed in zip(waits, speeds, strict=True)
    ]
    if max(gains) < -min(gains):
        return points[-1].concurrency
    return points[gains.index(max(gains))].concurrency
