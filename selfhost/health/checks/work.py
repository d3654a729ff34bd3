"""A busy GPU without signs of work, where no engine can tell a wedge: no verdict, and no silence either."""

from __future__ import annotations

import statistics

from selfhost.health.checks._family import Finding, Trail, family
from selfhost.health.engine import percent
from selfhost.health.engine_wedged import BUSY_RATIO, MEMORY_RATIO, POWER_SHARE, TENSOR_RATIO
from selfhost.health.types import Check, Context, History
from selfhost.observation import known, number

CODE = "gpu-work"
SOURCE = (
    "vLLM issues 50880, 40926 and 41725, spark-vllm-docker issue 260 (read 2026-11-21): utilization near 100 % at an "
    "eighth to a quarter of the limit while an engine hangs; the shares are ours"
)
# Ours, where no band was learnt and the board has no GPM: the reported wedges drew 13 to 23 % of their limits.
LIMIT_SHARE = 0.25
LOOKS = 2


def gpu_work(history: History, context: Context) -> list[Check]:
    """Whether a GPU that reads as busy does anything, as far as the GPU alone can tell."""
    judged = {
        uuid
        for engine in history[-1].engines
        if known(engine.gpu_uuids) and known(engine.generation_tokens)
        for uuid in engine.gpu_uuids
    }

    def rule(trail: Trail, _: Context) -> Finding | None:
        if trail.identity.uuid in judged:
            return None  # engine-wedged knows more
        return _rule(trail)

    return family(
        history, context, code=CODE, source=SOURCE, well="busy ones work, as far as they show it", rule=rule
    )


def _rule(trail: Trail) -> Finding | None:
    looks = [fast for _, fast in trail.fast[-30:]]
    shares = [number(fast.utilization_ratio) for fast in looks]
    if not all(share is not None and share >= BUSY_RATIO for share in shares):
        return None
    why = _lazy(trail)
    if why is None:
        return None
    if len(looks) < LOOKS:
        return Finding(
            level="unknown",
            message="busy without signs of work; a second look would tell",
            wants_history=True,
        )
    latest = number(looks[-1].utilization_ratio) or 0.0
    return Finding(
        level="unknown",
        message=f"{trail.gpu.label}: {percent(latest)} busy and yet {why}: a hung engine looks like this; "
        "name its metrics with --engine URL to be sure",
        evidence=f"{len(looks)} looks at {percent(BUSY_RATIO)} utilization or more; no engine's tokens beside it",
        action="check_application",
    )


def _lazy(trail: Trail) -> str | None:
    """What shows that a busy GPU does no work; None where it works, or where that cannot be told."""
    looks = [fast for _, fast in trail.fast[-30:]]
    tensor = [value for fast in looks if known(value := fast.tensor_activity_ratio)]
    memory = [value for fast in looks if known(value := fast.memory_activity_ratio)]
    if tensor and memory:
        idle = max(tensor) < TENSOR_RATIO and max(memory) < MEMORY_RATIO
        return (
            f"tensor cores {percent(max(tensor))} and memory {percent(max(memory))} active" if idle else None
        )
    watts = [value for fast in looks if known(value := fast.power_watts)]
    if not watts:
        return None
    drawn = statistics.median(watts)
    band = trail.baseline
    if band is not None and band.busy_low_watts is not None and band.busy_high_watts is not None:
        if drawn >= POWER_SHARE * (band.busy_low_watts + band.busy_high_watts) / 2:
            return None
        return f"at {drawn:.0f} W of a learnt {band.busy_low_watts:.0f}–{band.busy_high_watts:.0f} W"
    limit = number(trail.gpu.slow.power_limit_watts)
    if not limit or drawn >= LIMIT_SHARE * limit:
        return None
    return f"at {drawn:.0f} of {limit:.0f} W"


CHECKS = (gpu_work,)
