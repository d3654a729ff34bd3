"""What a GPU draws while tokens flow: the band that a busy GPU without work falls out of."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from selfhost.health.engine import EngineTrail
from selfhost.health.learn import LEAST_SAMPLES, busy_watts
from selfhost.health.types import Context, History
from selfhost.observation import EngineSnapshot, known


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


def bands_at_work(trail: EngineTrail, context: Context, *, before: float) -> dict[str, BusyPower]:
    """What each GPU is known to draw at work, by UUID: of the baseline, or else of what was seen before a moment.

    A baseline keeps no median; the middle of its band stands for it.
    """
    earlier = tuple(observation for observation in trail.history if observation.at <= before)
    found = {band.uuid: band for band in busy_power(earlier, trail.engine)}
    for learnt in context.baseline.gpus if context.baseline else ():
        low, high = learnt.busy_low_watts, learnt.busy_high_watts
        if low is not None and high is not None:
            found[learnt.uuid] = BusyPower(
                uuid=learnt.uuid,
                low_watts=low,
                median_watts=(low + high) / 2,
                high_watts=high,
                samples=learnt.busy_samples,
            )
    return found
