"""Observations and their verdict -> the summary that the fleet view reads. Pure."""

from __future__ import annotations

from selfhost.health import Health
from selfhost.observation import EngineSnapshot, GpuSnapshot, Observation, known, number
from selfhost.observation.summary import (
    MOST_CHECKS,
    SUMMARY_SCHEMA,
    CheckSummary,
    EngineSummary,
    GpuSummary,
    Summary,
)

# Ours: tokens a second are over about this long.
RATE_SECONDS = 30.0


def summarise(
    history: tuple[Observation, ...], health: Health | None, interval_seconds: float | None = None
) -> Summary:
    """The last observation in short.

    Args:
        history: oldest first, at least one.
        health: None where the checks could not be run: the verdict is then unknown.
        interval_seconds: of the observations.
    """
    last = history[-1]
    checks = health.checks if health is not None else ()
    trouble = [check for check in checks if check.level not in ("ok", "skipped")]
    return Summary(
        schema=SUMMARY_SCHEMA,
        host=last.node.host,
        at=last.at,
        verdict=health.verdict if health is not None else "unknown",
        checks=tuple(
            CheckSummary(
                code=check.code,
                level=check.level,
                gpu=check.gpu,
                message=check.message,
                action=check.action,
            )
            for check in trouble[:MOST_CHECKS]
        ),
        gpus=tuple(_gpu(gpu) for gpu in last.node.gpus),
        engines=tuple(_engine(engine, history) for engine in last.engines),
        interval_seconds=interval_seconds,
    )


def _gpu(gpu: GpuSnapshot) -> GpuSummary:
    who, fast = gpu.identity, gpu.fast
    total = number(who.memory_total_bytes)
    if gpu.fault is not None:
        return GpuSummary(index=who.index, uuid=who.uuid, name=who.name, up=False, memory_total_bytes=total)
    return GpuSummary(
        index=who.index,
        uuid=who.uuid,
        name=who.name,
        up=True,
        utilization_ratio=number(fast.utilization_ratio),
        memory_used_bytes=number(fast.memory_used_bytes),
        memory_total_bytes=total,
        temperature_celsius=number(fast.temperature_celsius),
        power_watts=number(fast.power_watts),
    )


def _engine(engine: EngineSnapshot, history: tuple[Observation, ...]) -> EngineSummary:
    return EngineSummary(
        name=engine.name,
        running=number(engine.running),
        waiting=number(engine.waiting),
        kv_usage_ratio=number(engine.kv_usage_ratio),
        tokens_per_second=tokens_per_second(engine.url, history),
    )


def tokens_per_second(url: str, history: tuple[Observation, ...]) -> float | None:
    """Generated tokens a second over the last half minute; None before two scrapes, or after a restart."""
    newest: tuple[float, int] | None = None
    found: float | None = None
    for observation in reversed(history):
        engine = next((one for one in observation.engines if one.url == url), None)
        if engine is None or not known(engine.generation_tokens) or not known(engine.metrics_age_seconds):
            break
        # The time at which the metrics were read, not that of a later attempt.
        at = engine.at - engine.metrics_age_seconds
        if newest is None:
            newest = (at, engine.generation_tokens)
            continue
        seconds, tokens = newest[0] - at, newest[1] - engine.generation_tokens
        if tokens < 0:  # the engine was started anew in between
            break
        if (
            found is not None and seconds > 2 * RATE_SECONDS
        ):  # beyond a gap: a machine slept, or nothing was read
            break
        if seconds > 0:
            found = tokens / seconds
        if seconds >= RATE_SECONDS:
            break
    return found
