"""Rates over a history: counters become bytes and tokens a second, histograms a mean over the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from selfhost.observation import (
    EngineSnapshot,
    GpuSnapshot,
    LatencySum,
    Missing,
    Observation,
    Reading,
)

# Long enough that a token rate does not jump with each batch, short enough to follow a load.
WINDOW_SECONDS = 15.0
ONE_READING = Missing(missing="a rate needs two readings")
RESTARTED = Missing(missing="the counter started again")

Point = tuple[float | None, Reading[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes a second, as the GPU sees it."""

    received: Reading[float] = ONE_READING
    sent: Reading[float] = ONE_READING


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRates:
    """What an engine did in the window: tokens a second, mean time to first token, preemptions."""

    prompt: Reading[float] = ONE_READING
    generation: Reading[float] = ONE_READING
    first_token_seconds: Reading[float] = ONE_READING
    preemptions: Reading[float] = ONE_READING


def rate(points: Sequence[Point]) -> Reading[float]:
    """Growth of a counter a second, from the first to the last reading.

    Args:
        points: time and counter, oldest first; readings that are missing are passed over.
    """
    last = points[-1][1] if points else ONE_READING
    if isinstance(last, Missing):
        return last
    known = [(at, value) for at, value in points if at is not None and not isinstance(value, Missing)]
    if len(known) < 2 or known[-1][0] <= known[0][0]:
        return ONE_READING
    if any(after[1] < before[1] for before, after in pairwise(known)):
        return RESTARTED
    return (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0])


def gpu_history(history: Sequence[Observation], uuid: str) -> list[GpuSnapshot]:
    """Snapshots of one GPU, oldest first."""
    return [gpu for seen in history for gpu in seen.node.gpus if gpu.identity.uuid == uuid]


def traffic(gpus: Sequence[GpuSnapshot]) -> tuple[Traffic, Traffic]:
    """PCIe and NVLink traffic between the last two different readings of one GPU."""
    if not gpus:
        return Traffic(), Traffic()
    before = next((gpu for gpu in reversed(gpus[:-1]) if gpu.fast_at != gpus[-1].fast_at), None)
    pair = (gpus[-1],) if before is None else (before, gpus[-1])
    return (
        Traffic(
            received=rate([(gpu.fast_at, gpu.fast.pcie_received_bytes) for gpu in pair]),
            sent=rate([(gpu.fast_at, gpu.fast.pcie_sent_bytes) for gpu in pair]),
        ),
        Traffic(
            received=rate([(gpu.fast_at, gpu.fast.nvlink_received_bytes) for gpu in pair]),
            sent=rate([(gpu.fast_at, gpu.fast.nvlink_sent_bytes) for gpu in pair]),
        ),
    )


def engine_history(history: Sequence[Observation], url: str) -> list[EngineSnapshot]:
    """Snapshots of one engine, oldest first."""
    return [engine for seen in history for engine in seen.engines if engine.url == url]


def engine_rates(snapshots: Sequence[EngineSnapshot], window: float = WINDOW_SECONDS) -> EngineRates:
    """Rates of one engine over the last `window` seconds."""
    if not snapshots:
        return EngineRates()
    looks = {_read_at(one): one for one in snapshots}  # a scrape that several observations repeat counts once
    times = sorted(looks)
    recent = [at for at in times if at >= times[-1] - window]
    if len(recent) < 2:  # scraped more seldom than the window is long
        recent = times[-2:]
    found = [(at, looks[at]) for at in recent]
    return EngineRates(
        prompt=rate([(at, one.prompt_tokens) for at, one in found]),
        generation=rate([(at, one.generation_tokens) for at, one in found]),
        preemptions=rate([(at, one.preemptions) for at, one in found]),
        first_token_seconds=mean_latency([one.first_token for _, one in found]),
    )


def _read_at(engine: EngineSnapshot) -> float:
    """When its metrics were read, which is earlier than the scrape where it did not answer."""
    age = engine.metrics_age_seconds
    return engine.at if isinstance(age, Missing) else round(engine.at - age, 3)


def mean_latency(sums: Sequence[Reading[LatencySum]]) -> Reading[float]:
    """Mean of what a histogram counted between the first and the last reading, in seconds."""
    last = sums[-1] if sums else ONE_READING
    if isinstance(last, Missing):
        return last
    first = next(one for one in sums if not isinstance(one, Missing))
    if first is last:
        return ONE_READING
    answered = last.count - first.count
    if answered < 0 or last.seconds < first.seconds:
        return RESTARTED
    return (
        (last.seconds - first.seconds) / answered if answered else Missing(missing="no request in the window")
    )
