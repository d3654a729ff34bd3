"""An engine that looks busy and makes nothing: tokens stand still, requests wait, GPUs spin without work.

Every leg has to stand. One that does not ends the check as ok; one that cannot be read leaves it unknown, unless
another one already says that all is well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from selfhost.health.engine import EngineTrail, Look, every_engine, median, percent, requests, said
from selfhost.health.engine_power import BusyPower, bands_at_work
from selfhost.health.types import Check, Context, History
from selfhost.observation import GpuSnapshot, Missing, Reading, known
from selfhost.observation.reading import GPU_IS_LOST, RESET_REQUIRED

CODE = "engine-wedged"
SOURCE = (
    "vLLM issues 50880, 41725, 40926, 36960 and pull request 46811 (read 2026-11-21): utilization near 100 % at a "
    "quarter to a half of the usual power, no tokens, /health 200; the seconds and shares are ours"
)
# Ours: tokens have to stand still this long; in a shorter window all of it, and at least so long.
FROZEN_SECONDS, LEAST_SECONDS = 30.0, 10.0
BUSY_RATIO = 0.9
# Ours: below this a stalled engine is not spinning on its GPUs but stuck outside them.
IDLE_RATIO = 0.1
# Ours: shares of time below which tensor cores and memory do nothing that counts (GPM metrics 5 and 10).
TENSOR_RATIO, MEMORY_RATIO = 0.01, 0.05
# Ours: share of the middle of the learnt band below which a busy GPU does not work.
POWER_SHARE = 0.5
_LEARN = "`selfhost health --learn` under load finds out"
_COUNTERS = ("generation_tokens", "prompt_tokens", "requests_finished")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """How long no counter moved while there was work; `whole`: over all that was seen."""

    looks: tuple[Look, ...]
    whole: bool

    @property
    def seconds(self) -> float:
        """From the first look of it to the last."""
        return self.looks[-1].at - self.looks[0].at

    @property
    def still(self) -> tuple[Look, ...]:
        """The looks whose GPU samples lie within it: the first one's reach back to when tokens may have flowed."""
        return self.looks[1:] or self.looks

    @property
    def enough(self) -> bool:
        """Whether it is long enough to be told from a pause."""
        return self.seconds >= (LEAST_SECONDS if self.whole else FROZEN_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """What the joined GPUs did during the freeze.

    Args:
        busiest, idlest: median utilization of the GPU that was busiest, and of the one that was so least.
        working: why one of them works, None when none is seen to.
        lazy: what shows that none works, None when that cannot be told.
        missing: what could not be read, and how to come by it.
    """

    busiest: float
    idlest: float
    working: str | None
    lazy: str | None
    missing: str | None


def engine_wedged(history: History, context: Context) -> list[Check]:
    """Whether an engine hangs although its health path may still answer."""
    return every_engine(history, context, code=CODE, source=SOURCE, rule=_wedged)


def _wedged(trail: EngineTrail, context: Context) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    engine = trail.engine
    if engine.sleeping is True:
        return say("ok", "asleep (engine_sleep_state), so that nothing is expected of it")
    if trail.without_metrics:
        return say("skipped", "it was started without metrics")
    if trail.stale is not None:
        return say("unknown", f"whether it makes tokens is not known: {trail.stale}")
    if all(isinstance(getattr(engine, name), Missing) for name in _COUNTERS[:2]):
        return say("unknown", "whether it makes tokens is not known: its metrics have no counter of tokens")
    freeze = _freeze(trail)
    if freeze is None:
        return say("ok", _moving(trail))
    work = requests(engine)
    if isinstance(work, Missing) and not engine.unanswered:
        why = f"whether requests wait is not known ({work.missing}); a one-token request would tell: --canary"
        return say("unknown", why)
    if work == 0 and not engine.unanswered:
        return _without_requests(trail, freeze, context)
    if gone := _gone(trail):
        if not freeze.enough:
            return _too_short(trail, freeze)
        message = f"stalled {_numbers(trail, freeze)}, and {gone}: it needs a restart once its GPUs are back"
        return say("critical", message, action="restart_engine", evidence=_evidence(trail))
    gpus = _gpus(trail, freeze, context)
    if isinstance(gpus, Missing):
        return _unknown_gpus(trail, freeze, gpus)
    return _judged(trail, freeze, gpus)


def _gone(trail: EngineTrail) -> str | None:
    """Which of its GPUs can do nothing any more (lost, reset required), None while all answer."""
    if isinstance(trail.gpus, Missing):
        return None
    return next(
        (
            f"{gpu.label}, which it runs on, {'is lost' if gpu.fault.code == GPU_IS_LOST else 'must be reset'}"
            for gpu in trail.gpus
            if gpu.fault is not None and gpu.fault.code in (GPU_IS_LOST, RESET_REQUIRED)
        ),
        None,
    )


def _freeze(trail: EngineTrail) -> Freeze | None:
    """The looks, back from now, during which nothing moved and something was to do; None while tokens flow."""
    last = trail.looks[-1]
    kept = [last]
    for look in reversed(trail.looks[:-1]):
        if _moved(look, last):
            break
        if requests(look.engine) == 0 and not look.engine.unanswered and requests(last.engine) != 0:
            break
        kept.append(look)
    moved = len(trail.looks) > len(kept) and _moved(trail.looks[-len(kept) - 1], last)
    freeze = Freeze(looks=tuple(reversed(kept)), whole=len(kept) == len(trail.looks))
    return None if moved and not freeze.enough else freeze


def _moved(before: Look, after: Look) -> bool:
    """Whether any counter of work differs; one that fell is an engine that was started anew."""
    pairs = [(getattr(before.engine, name), getattr(after.engine, name)) for name in _COUNTERS]
    pairs.append((before.engine.inter_token, after.engine.inter_token))
    return any(known(earlier) and known(later) and earlier != later for earlier, later in pairs)


def _moving(trail: EngineTrail) -> str:
    first, last = trail.looks[max(0, len(trail.looks) - 7)], trail.looks[-1]
    before, after = first.engine.generation_tokens, last.engine.generation_tokens
    seconds = last.at - first.at
    if known(before) and known(after) and after > before and seconds > 0:
        return f"tokens flow: {(after - before) / seconds:,.1f} generated a second"
    return "tokens flow"


def _gpus(trail: EngineTrail, freeze: Freeze, context: Context) -> Reading[Gpus]:
    if isinstance(trail.gpus, Missing):
        return Missing(missing=f"which GPUs it runs on is not known ({trail.gpus.missing})")
    shares: list[float] = []
    for gpu in trail.gpus:
        share = median(freeze.still, gpu.identity.uuid, lambda gpu: gpu.fast.utilization_ratio)
        if isinstance(share, Missing):
            return Missing(
                missing=f"utilization of {gpu.label} cannot be read ({share.missing})", code=share.code
            )
        shares.append(share)
    working = lazy = missing = None
    told: list[tuple[float, str]] = []
    bands = bands_at_work(trail, context, before=freeze.looks[0].at)
    for gpu, share in zip(trail.gpus, shares, strict=True):
        if share < BUSY_RATIO:
            continue
        at_work, words, power = _at_work(gpu, freeze, bands.get(gpu.identity.uuid))
        if at_work is None:
            missing = words
        elif at_work:
            working = words
        else:
            told.append((power, words))
    if told and working is None and missing is None:
        lazy = max(told)[1]
    return Gpus(busiest=max(shares), idlest=min(shares), working=working, lazy=lazy, missing=missing)


def _at_work(gpu: GpuSnapshot, freeze: Freeze, band: BusyPower | None) -> tuple[bool | None, str, float]:
    """Whether a busy GPU works, by GPM or else by its power, None where neither tells; the words for it; its watts."""
    uuid = gpu.identity.uuid
    tensor = median(freeze.still, uuid, lambda gpu: gpu.fast.tensor_activity_ratio)
    memory = median(freeze.still, uuid, lambda gpu: gpu.fast.memory_activity_ratio)
    watts = median(freeze.still, uuid, lambda gpu: gpu.fast.power_watts)
    drawn = 0.0 if isinstance(watts, Missing) else watts
    at_power = f" at {drawn:.0f} W" if known(watts) else ""
    if known(watts) and band is not None:
        at_power += f" of a learnt {band.low_watts:.0f}–{band.high_watts:.0f} W"
    if known(tensor):
        idle = tensor < TENSOR_RATIO and not (known(memory) and memory >= MEMORY_RATIO)
        words = f"{at_power}, tensor cores {percent(tensor)}"
        words += f" and memory {percent(memory)} active" if known(memory) else " active"
        return not idle, words, drawn
    if isinstance(watts, Missing):
        return None, f"power of {gpu.label} cannot be read ({watts.missing})", drawn
    if band is None:
        return None, f"what {gpu.label} draws at work is not known ({_LEARN})", drawn
    return drawn >= POWER_SHARE * band.median_watts, at_power, drawn


def _numbers(trail: EngineTrail, freeze: Freeze) -> str:
    engine = trail.engine
    parts = [f"{engine.waiting} waiting" if known(engine.waiting) else "waiting not known"]
    if known(engine.running) and engine.running:
        parts.append(f"{engine.running} running")
    if engine.unanswered:
        parts.append("a one-token request unanswered")
    return f"for {freeze.seconds:.0f} s: {', '.join(parts)}, 0 tokens"


def _evidence(trail: EngineTrail) -> str:
    engine = trail.engine
    parts = [f"{name} {getattr(engine, name)}" for name in _COUNTERS if known(getattr(engine, name))]
    parts.append(f"/health {engine.health_status}" if known(engine.health_status) else "/health silent")
    return ", ".join(parts)


def _unknown_gpus(trail: EngineTrail, freeze: Freeze, why: Missing) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE)
    if not freeze.enough:
        return _too_short(trail, freeze)
    return say("unknown", f"no token {_numbers(trail, freeze)}, and {why.missing}", evidence=_evidence(trail))


def _too_short(trail: EngineTrail, freeze: Freeze) -> Check:
    """No token yet: well so far where tokens came before, and not known where nothing was seen before."""
    say = partial(said, trail, code=CODE, source=SOURCE)
    if not freeze.whole:
        return say("ok", f"no token for {freeze.seconds:.0f} s; {FROZEN_SECONDS:.0f} s would be too long")
    message = f"requests run, and no token was seen in {freeze.seconds:.0f} s of watching"
    return say("unknown", f"{message}; {LEAST_SECONDS:.0f} s are needed to tell", wants_history=True)


def _judged(trail: EngineTrail, freeze: Freeze, gpus: Gpus) -> Check:
    say = partial(said, trail, code=CODE, source=SOURCE, evidence=_evidence(trail))
    even = gpus.busiest - gpus.idlest < 0.05
    share = (
        f"GPUs {percent(gpus.busiest) if even else f'{percent(gpus.idlest)} to {percent(gpus.busiest)}'} busy"
    )
    if gpus.working is not None:
        return say("ok", f"at work: {share}{gpus.working}")
    if IDLE_RATIO <= gpus.busiest < BUSY_RATIO:
        return say("ok", f"not wedged: {share}")
    if not freeze.enough:
        return _too_short(trail, freeze)
    numbers = _numbers(trail, freeze)
    if gpus.busiest < IDLE_RATIO:
        message = f"stalled {numbers}, {share}: stuck outside the GPUs"
        return say("warn", message, action="check_application")
    if gpus.missing is not None:
        return say("unknown", f"no token {numbers}, {share}, and {gpus.missing}")
    return say("critical", f"wedged {numbers}, {share}{gpus.lazy}", action="restart_engine")


def _without_requests(trail: EngineTrail, freeze: Freeze, context: Context) -> Check:
    """Nothing to do, as it says. Pull request 46811 has a wedge in which the gauges read 0 as well."""
    say = partial(said, trail, code=CODE, source=SOURCE)
    gpus = _gpus(trail, freeze, context)
    if known(gpus) and freeze.enough and gpus.busiest >= BUSY_RATIO and gpus.lazy is not None:
        message = (
            f"no request is seen, and yet its GPUs were {percent(gpus.busiest)} busy for {freeze.seconds:.0f} s"
            f"{gpus.lazy}; a one-token request would tell: --canary"
        )
        return say("unknown", message, evidence=_evidence(trail))
    return say("ok", "idle: nothing runs or waits")
