"""What a GPU draws while tokens flow: the band that a busy GPU without work falls out of."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from selfhost.health.engine import EngineTrail
from selfhost.health.learn import LEAST_SAMPLES, busy_watts
from selfhost.health.types import Context, History
from selfhost.observation import EngineSnapshot, Missing, Reading, known


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
        engine: as it is now; its GPUs count.
    """
    uuids = engine.gpu_uuids if known(engine.gpu_uuids) else ()
    watts = busy_watts(history)
    return tuple(_band(uuid, watts[uuid]) for uuid in uuids if len(watts.get(uuid, ())) >= LEAST_SAMPLES)


def _band(uuid: str, watts: list[float]) -> BusyPower:
    cuts = statistics.quantiles(watts, n=20, method="inclusive")
    return BusyPower(
        uuid=uuid,
        low_watts=cuts[0],
        median_watts=statistics.median(watts),
        high_watts=cuts[-1],
        samples=len(watts),
    )


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
    earlier = tuple(observation for observation in trail.history if observation.at <= before)
    found = next((band for band in busy_power(earlier, trail.engine) if band.uuid == uuid), None)
    return found or Missing(missing="no band of power at work is known: `selfhost health --learn` under load")
