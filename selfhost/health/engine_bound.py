"""What an engine with a queue is bound by, in one sentence with its numbers. Two that can be mended are warnings.

Order: the KV cache, which decides alone; then the GPUs: idle, at their power limit, computing, reading memory, or busy
with neither.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from selfhost.health.engine import EngineTrail, Look, every_engine, mean, percent, said, samples
from selfhost.health.types import Check, Context, History, Level
from selfhost.observation import GpuSnapshot, Missing, Reading, known

CODE = "engine-bound"
SOURCE = "ours (2026-11-21): shares of KV cache, utilization, GPM activity; power cap: nvml.h r615, clocks reason 0x4"
# All ours.
WINDOW_SECONDS = 60.0
KV_RATIO = 0.95
HOST_RATIO, BUSY_RATIO = 0.5, 0.9
TENSOR_RATIO, MEMORY_RATIO = 0.4, 0.5
CAPPED_RATIO = 0.5
POWER_CAP = 0x4


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Means over an engine's GPUs and the window; Missing where one of the GPUs does not tell.

    `capped` is the share of looks at the power limit, `clock` the share of the highest SM clock.
    """

    busy: Reading[float]
    tensor: Reading[float]
    memory: Reading[float]
    capped: Reading[float]
    clock: Reading[float]


def engine_bound(history: History, context: Context) -> list[Check]:
    """What limits each engine, where requests wait."""
    return every_engine(history, context, code=CODE, source=SOURCE, rule=_bound)


def _bound(trail: EngineTrail, context: Context) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    engine = trail.engine
    if engine.sleeping is True:
        return say("ok", "not bound: asleep")
    if trail.without_metrics:
        return say("skipped", "it was started without metrics")
    if trail.stale is not None:
        return say("unknown", f"what binds it is not known: {trail.stale}")
    if isinstance(engine.waiting, Missing):
        return say("unknown", f"whether requests wait is not known: {engine.waiting.missing}")
    looks = trail.recent(WINDOW_SECONDS)
    queued = [look for look in looks if known(look.engine.waiting) and look.engine.waiting > 0]
    if not engine.waiting or 2 * len(queued) < len(looks):
        return say("ok", f"not bound: no queue ({_load(trail)})")
    kv = engine.kv_usage_ratio
    if known(kv) and kv >= KV_RATIO:
        return _kv(trail, looks, kv)
    if isinstance(trail.gpus, Missing):
        message = f"{_load(trail)}, and what binds it is not known: which GPUs it runs on is not ({trail.gpus.missing})"
        return say("unknown", message)
    return _gpus(trail, _activity(trail.gpus, looks), context, once=len(looks) < 2)


def _load(trail: EngineTrail) -> str:
    engine = trail.engine
    parts = [
        f"{value} {word}"
        for value, word in ((engine.waiting, "waiting"), (engine.running, "running"))
        if known(value)
    ]
    if known(engine.kv_usage_ratio):
        parts.append(f"KV cache {percent(engine.kv_usage_ratio)} full")
    return ", ".join(parts)


def _kv(trail: EngineTrail, looks: tuple[Look, ...], kv: float) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    first, last = looks[0].engine.preemptions, looks[-1].engine.preemptions
    seconds = looks[-1].at - looks[0].at
    message = f"bound by its KV cache: {_load(trail)}"
    if len(looks) > 1 and known(first) and known(last) and last > first:
        return say(
            "warn",
            f"{message}, {last - first} requests put back in {seconds:.0f} s; more GPUs, a shorter context or fewer "
            "requests at once help",
            action="fix_configuration",
        )
    return say("ok", message, wants_history=len(looks) < 2)


def _activity(gpus: tuple[GpuSnapshot, ...], looks: tuple[Look, ...]) -> Activity:
    def over(read: Callable[[GpuSnapshot], Reading[float]]) -> Reading[float]:
        values: list[float] = []
        for gpu in gpus:
            value = mean(looks, gpu.identity.uuid, read)
            if isinstance(value, Missing):
                return value
            values.append(value)
        return statistics.fmean(values)

    return Activity(
        busy=over(lambda gpu: gpu.fast.utilization_ratio),
        tensor=over(lambda gpu: gpu.fast.tensor_activity_ratio),
        memory=over(lambda gpu: gpu.fast.memory_activity_ratio),
        capped=_capped(gpus, looks),
        clock=over(_clock),
    )


def _clock(gpu: GpuSnapshot) -> Reading[float]:
    now, most = gpu.fast.sm_clock_mhz, gpu.identity.sm_clock_max_mhz
    if isinstance(now, Missing):
        return now
    return most if isinstance(most, Missing) else now / most if most else Missing(missing="no highest clock")


def _capped(gpus: tuple[GpuSnapshot, ...], looks: tuple[Look, ...]) -> Reading[float]:
    """Share of the time at the power limit, of the GPU that is there most: it holds up the others."""
    shares: list[float] = []
    for gpu in gpus:
        flags = samples(looks, gpu.identity.uuid, _at_cap)
        if isinstance(flags, Missing):
            return flags
        shares.append(statistics.fmean(flags))
    return max(shares)


def _at_cap(gpu: GpuSnapshot) -> Reading[float]:
    reasons = gpu.fast.clock_reasons
    return reasons if isinstance(reasons, Missing) else float(bool(reasons & POWER_CAP))


def _gpus(trail: EngineTrail, seen: Activity, context: Context, *, once: bool) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    load, busy = _load(trail), seen.busy
    if isinstance(busy, Missing):
        level: Level = "skipped" if busy.absent else "unknown"
        return say(level, f"{load}, and how busy its GPUs are cannot be read: {busy.missing}")
    words = f"{load}, GPUs {percent(busy)} busy"
    if busy < HOST_RATIO and once:
        return say("unknown", f"{words} at one look: two are needed to tell", wants_history=True)
    if busy < HOST_RATIO:
        return say(
            "warn",
            f"bound by the host: {words}; CPU, tokenizer, network or storage keep the GPUs waiting",
            action="check_application",
        )
    shown = f"{words}{_parts(seen)}"
    if known(seen.capped) and seen.capped >= CAPPED_RATIO:
        slower = f", clocks {percent(1 - seen.clock)} below the highest" if known(seen.clock) else ""
        return say(
            "ok", f"bound by power: at the power limit {percent(seen.capped)} of the time{slower}; {shown}"
        )
    if isinstance(seen.tensor, Missing) or isinstance(seen.memory, Missing):
        return _without_gpm(trail, words, seen, context, once=once)
    if seen.tensor >= TENSOR_RATIO and seen.tensor >= seen.memory * TENSOR_RATIO / MEMORY_RATIO:
        return say("ok", f"bound by computation: {shown}")
    if seen.memory >= MEMORY_RATIO:
        return say("ok", f"bound by memory bandwidth: {shown}")
    if busy >= BUSY_RATIO:
        return say("ok", f"bound by communication or kernel launches: {shown}")
    return say("ok", f"bound by no one part alone: {shown}")


def _parts(seen: Activity) -> str:
    parts = [
        f"{what} {percent(value)}"
        for what, value in (("tensor cores", seen.tensor), ("memory", seen.memory))
        if known(value)
    ]
    return f", {' and '.join(parts)} active" if parts else ""


def _without_gpm(trail: EngineTrail, words: str, seen: Activity, context: Context, *, once: bool) -> Check:
    """Boards before Hopper do not tell computing from reading memory; later ones not at the first look."""
    say = partial(said, trail, code=CODE, source=SOURCE)
    places = _places(context)
    running = trail.engine.running
    if places is not None and known(running) and running >= places:
        return say("ok", f"bound by the batch: all {places} places (--max-num-seqs) are taken; {words}")
    why = seen.tensor if isinstance(seen.tensor, Missing) else seen.memory
    assert isinstance(why, Missing)
    asked = "this board has no GPM, as those before Hopper" if why.absent else why.missing
    message = f"bound by the GPUs: {words}; by computation or by bandwidth: {asked}"
    return say("ok", message, wants_history=once and not why.absent)


def _places(context: Context) -> int | None:
    plan = context.plan
    return None if plan is None else plan.memory.max_num_seqs * plan.split.data
