"""What a GPU draws while tokens flow: the band that a busy GPU without work falls out of."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise

from selfhost.health.engine import EngineTrail, Look, samples, trails
from selfhost.health.types import Context, History
from selfhost.observation import EngineSnapshot, Missing, Reading, known

# Ours: fewer readings than this make no band.
LEAST_SAMPLES = 5
# Ours: with less of the time busy the board's average power says more about the pauses than about the work.
_BUSY_RATIO = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyPower:
    """Power of one GPU while its engine made tokens: fifth percentile, median and ninety-fifth, in watts.

    `samples` is the number of readings it rests on.
    """

    uuid: str
    low_watts: float
    median_watts: float
    high_watts: float
    samples: int


def busy_power(history: History, engine: EngineSnapshot) -> tuple[BusyPower, ...]:
    """The band of each GPU that the engine is joined with; a GPU with too few readings is left out.

    Args:
        history: observations, oldest first.
        engine: as it is now; its address and its GPUs count.
    """
    trail = next((one for one in trails(history) if one.engine.url == engine.url), None)
    if trail is None or isinstance(trail.gpus, Missing):
        return ()
    return _bands(trail, trail.looks)


def _bands(trail: EngineTrail, looks: tuple[Look, ...]) -> tuple[BusyPower, ...]:
    assert known(trail.gpus)
    flowing = [after for before, after in pairwise(looks) if _flowed(before, after)]
    bands = []
    for gpu in trail.gpus:
        uuid = gpu.identity.uuid
        busy = [look for look in flowing if _busy(look, uuid)]
        watts = samples(busy, uuid, lambda gpu: gpu.fast.power_watts)
        if isinstance(watts, Missing) or len(watts) < LEAST_SAMPLES:
            continue
        cuts = statistics.quantiles(watts, n=20, method="inclusive")
        bands.append(
            BusyPower(
                uuid=uuid,
                low_watts=cuts[0],
                median_watts=statistics.median(watts),
                high_watts=cuts[-1],
                samples=len(watts),
            )
        )
    return tuple(bands)


def _flowed(before: Look, after: Look) -> bool:
    """Whether tokens were generated or prompts computed in between."""
    for name in ("generation_tokens", "prompt_tokens"):
        earlier, later = getattr(before.engine, name), getattr(after.engine, name)
        if known(earlier) and known(later) and later > earlier:
            return True
    return False


def _busy(look: Look, uuid: str) -> bool:
    values = samples((look,), uuid, lambda gpu: gpu.fast.utilization_ratio)
    return known(values) and values[0] >= _BUSY_RATIO


def band_of(trail: EngineTrail, uuid: str, context: Context, *, before: float) -> Reading[BusyPower]:
    """What a GPU is known to draw at work: of the baseline, or else of what was seen before a moment.

    A baseline keeps no median; the middle of its band stands for it.
    """
    learnt = context.baseline.gpu(uuid) if context.baseline else None
    if learnt is not None and learnt.busy_low_watts is not None and learnt.busy_high_watts is not None:
        return BusyPower(
            uuid=uuid,
            low_watts=learnt.busy_low_watts,
            median_watts=(learnt.busy_low_watts + learnt.busy_high_watts) / 2,
            high_watts=learnt.busy_high_watts,
            samples=learnt.busy_samples,
        )
    looks = tuple(look for look in trail.looks if look.at <= before)
    found = next((band for band in _bands(trail, looks) if band.uuid == uuid), None)
    return found or Missing(missing="no band of power at work is known: `selfhost health --learn` under load")
