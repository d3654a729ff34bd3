"""The ranks of one engine side by side: tensor-parallel ranks wait for the slowest, so one slow GPU slows them all."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from selfhost.health.engine import EngineTrail, Look, every_engine, mean, percent, said
from selfhost.health.types import Check, Context, History
from selfhost.observation import GpuSnapshot, Missing, Reading, known

CODE = "engine-skew"
SOURCE = "ours (2026-11-21): ranks of one engine against the median of the others; reasons: nvml.h r615"
# All ours. A rank is odd when it is so far from the median of the others.
WINDOW_SECONDS = 60.0
CLOCK_SHARE = 0.9
HOTTER_CELSIUS = 20.0
BUSY_DIFFERENCE = 0.3
POWER_SHARE = 0.6
LOADED_RATIO = 0.5
# Reasons that take clocks away (nvml.h r615, nvmlClocksEventReason*).
SLOWING = {
    0x8: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x200: "board limit",
    0x400: "reliability limit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One reading of the ranks: how it is named, read, printed, and when it is odd against the others' median."""

    what: str
    read: Callable[[GpuSnapshot], Reading[float]]
    odd: Callable[[float, float], bool]
    shown: Callable[[float], str]
    share_of_work: bool = False


def _float(reading: Reading[int] | Reading[float]) -> Reading[float]:
    return reading if isinstance(reading, Missing) else float(reading)


COMPARED = (
    Compared(
        what="SM clock",
        read=lambda gpu: _float(gpu.fast.sm_clock_mhz),
        odd=lambda own, others: own < CLOCK_SHARE * others,
        shown=lambda value: f"{value:.0f} MHz",
    ),
    Compared(
        what="PCIe generation",
        read=lambda gpu: _float(gpu.slow.pcie_generation),
        odd=lambda own, others: own < others,
        shown=lambda value: f"{value:.0f}",
    ),
    Compared(
        what="PCIe width",
        read=lambda gpu: _float(gpu.slow.pcie_width),
        odd=lambda own, others: own < others,
        shown=lambda value: f"x{value:.0f}",
    ),
    Compared(
        what="temperature",
        read=lambda gpu: _float(gpu.fast.temperature_celsius),
        odd=lambda own, others: own > others + HOTTER_CELSIUS,
        shown=lambda value: f"{value:.0f} °C",
    ),
    Compared(
        what="utilization",
        read=lambda gpu: gpu.fast.utilization_ratio,
        odd=lambda own, others: abs(own - others) > BUSY_DIFFERENCE,
        shown=percent,
        share_of_work=True,
    ),
    Compared(
        what="power",
        read=lambda gpu: gpu.fast.power_watts,
        odd=lambda own, others: own < POWER_SHARE * others,
        shown=lambda value: f"{value:.0f} W",
        share_of_work=True,
    ),
)


def engine_skew(history: History, context: Context) -> list[Check]:
    """Whether one GPU of an engine is slower than the others."""
    return every_engine(history, context, code=CODE, source=SOURCE, rule=_skew)


def _skew(trail: EngineTrail, context: Context) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    if isinstance(trail.gpus, Missing):
        return say(
            "skipped",
            f"its ranks cannot be compared: which GPUs it runs on is not known ({trail.gpus.missing})",
        )
    if len(trail.gpus) < 2:
        return say("skipped", "one GPU has nothing to be compared with")
    looks = trail.recent(WINDOW_SECONDS)
    loaded = [look for look in looks if _loaded(look)]
    if not loaded:
        return say("skipped", "ranks are compared under load, and there is none")
    found = _findings(trail.gpus, loaded, together=_together(trail, context))
    if not found:
        return say("ok", f"{len(trail.gpus)} ranks alike in clock, link, temperature and load")
    polls = {gpu.fast_at for look in loaded for gpu in look.gpus.values()}
    odd = "; ".join(f"gpu {index} with {_listed(words)}" for index, words in sorted(found.items()))
    if len(loaded) < 2 or len(polls) < 2:
        return say("unknown", f"ranks differ at one look, {odd}: two are needed to tell", wants_history=True)
    return say("warn", f"the other ranks wait for {odd}", action="inspect_hardware")


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _loaded(look: Look) -> bool:
    shares = [gpu.fast.utilization_ratio for gpu in look.gpus.values() if known(gpu.fast.utilization_ratio)]
    return bool(shares) and max(shares) >= LOADED_RATIO


def _together(trail: EngineTrail, context: Context) -> bool:
    """Whether all ranks do the same work at the same time, so that utilization and power can be compared."""
    return context.plan is not None and known(trail.gpus) and context.plan.split.tensor == len(trail.gpus)


def _findings(gpus: tuple[GpuSnapshot, ...], looks: list[Look], *, together: bool) -> dict[int, list[str]]:
    """What is odd, by index of the GPU."""
    found: dict[int, list[str]] = {}
    if len({gpu.identity.name for gpu in gpus}) > 1:
        return {}  # boards of different kinds differ by nature
    for compared in COMPARED:
        if compared.share_of_work and not together:
            continue
        values = {gpu.identity.index: mean(looks, gpu.identity.uuid, compared.read) for gpu in gpus}
        known_values = {index: value for index, value in values.items() if known(value)}
        for index, value in known_values.items():
            others = [other for place, other in known_values.items() if place != index]
            if others and compared.odd(value, statistics.median(others)):
                median = compared.shown(statistics.median(others))
                found.setdefault(index, []).append(
                    f"{compared.what} {compared.shown(value)} against {median}"
                )
    for index, words in _reasons(gpus, looks):
        found.setdefault(index, []).append(words)
    return found


def _reasons(gpus: tuple[GpuSnapshot, ...], looks: list[Look]) -> list[tuple[int, str]]:
    """Slow-downs that some ranks have in every look and others never, with the ranks' indices."""
    always: dict[int, int] = {}
    for gpu in gpus:
        masks = [
            seen.fast.clock_reasons
            for look in looks
            for seen in look.gpus.values()
            if seen.identity.uuid == gpu.identity.uuid and known(seen.fast.clock_reasons)
        ]
        bits = ~0 if masks else 0
        for mask in masks:
            bits &= mask
        always[gpu.identity.index] = bits
    found: list[tuple[int, str]] = []
    for bit, words in SLOWING.items():
        slowed = [index for index, bits in always.items() if bits & bit]
        if slowed and len(slowed) < len(gpus):
            found.extend((index, words) for index in slowed)
    return found
