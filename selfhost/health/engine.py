"""One engine over the history, beside the GPUs it runs on; and whether it can be reached at all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from selfhost.health.types import Action, Check, Context, History, Level
from selfhost.observation import EngineSnapshot, GpuSnapshot, Missing, Reading, known
from selfhost.observation.reading import NOT_READ

# Ours: metrics older than this say nothing of the present; the poller's default tick is 5 s, a scrape's limit 2 s.
STALE_SECONDS = 15.0
# They serve metrics only with `--enable-metrics` or `--metrics` (SGLang 0.5.23, llama.cpp; read 2026-11-21).
_ASKED_FOR = ("sglang", "llamacpp")
_UP = "vLLM 0.32.0 /health: 503 once its core has died; SGLang, TGI, llama.cpp: 503 while loading (read 2026-11-21)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The engine and its GPUs at one moment.

    Args:
        at: Unix time at which the metrics were read.
        gpus: those it is joined with, as they were then, by UUID.
    """

    at: float
    engine: EngineSnapshot
    gpus: Mapping[str, GpuSnapshot]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTrail:
    """One engine over the history.

    Args:
        engine: as it is now.
        gpus: those it is joined with, as they are now; Missing where they are not known.
        looks: moments at which its metrics were read anew, oldest first; none where they never were.
        history: the observations that the looks are from.
        alone: no other engine was seen on this node.
    """

    engine: EngineSnapshot
    gpus: Reading[tuple[GpuSnapshot, ...]]
    looks: tuple[Look, ...]
    history: History
    alone: bool

    @property
    def stale(self) -> str | None:
        """Why its metrics say nothing of the present, None when they do."""
        age = self.engine.metrics_age_seconds
        if isinstance(age, Missing):
            return f"its metrics cannot be read: {age.missing}"
        return f"its metrics are {age:.0f} s old" if age > STALE_SECONDS else None

    @property
    def without_metrics(self) -> bool:
        """Whether it was started without metrics, which SGLang and llama.cpp have to be asked for."""
        off = self.stale is not None and ("HTTP 404" in self.stale or "HTTP 501" in self.stale)
        return off and self.engine.engine in _ASKED_FOR

    def recent(self, seconds: float) -> tuple[Look, ...]:
        """The looks of the last `seconds`, the latest one at least where there is any."""
        if not self.looks:
            return ()
        since = self.looks[-1].at - seconds
        return tuple(look for look in self.looks if look.at >= since)


def trails(history: History) -> tuple[EngineTrail, ...]:
    """Every engine that is known now, over the history. A scrape that several observations repeat counts once."""
    now = history[-1]
    return tuple(
        EngineTrail(
            engine=engine,
            gpus=_joined(engine, now.node.gpus),
            looks=_looks(engine, history),
            history=history,
            alone=len(now.engines) == 1,
        )
        for engine in now.engines
    )


def _joined(engine: EngineSnapshot, gpus: tuple[GpuSnapshot, ...]) -> Reading[tuple[GpuSnapshot, ...]]:
    if isinstance(engine.gpu_uuids, Missing):
        return engine.gpu_uuids
    found = tuple(gpu for gpu in gpus if gpu.identity.uuid in engine.gpu_uuids)
    if len(found) < len(engine.gpu_uuids) or not found:
        return Missing(missing=f"{len(found)} of its {len(engine.gpu_uuids)} GPUs can be seen")
    return found


def _looks(engine: EngineSnapshot, history: History) -> tuple[Look, ...]:
    uuids = engine.gpu_uuids if known(engine.gpu_uuids) else ()
    found: dict[float, Look] = {}
    for observation in history:
        seen = next((one for one in observation.engines if one.url == engine.url), None)
        if seen is None or isinstance(seen.metrics_age_seconds, Missing):
            continue
        at = round(seen.at - seen.metrics_age_seconds, 3)
        gpus = {gpu.identity.uuid: gpu for gpu in observation.node.gpus if gpu.identity.uuid in uuids}
        found[at] = Look(at=at, engine=seen, gpus=gpus)
    return tuple(found[at] for at in sorted(found))


def samples(
    looks: Iterable[Look], uuid: str, read: Callable[[GpuSnapshot], Reading[float]]
) -> Reading[tuple[float, ...]]:
    """A reading of one GPU over the looks, each poll of the GPU once; why there is none where there is none."""
    found: dict[float | None, float] = {}
    why = Missing(missing="the GPU was not seen")
    for look in looks:
        gpu = look.gpus.get(uuid)
        if gpu is None or gpu.fast_at in found:
            continue
        value = read(gpu) if gpu.fault is None else gpu.fault
        if isinstance(value, Missing):
            why = value
        else:
            found[gpu.fast_at] = value
    return tuple(found.values()) if found else why


def mean(looks: Iterable[Look], uuid: str, read: Callable[[GpuSnapshot], Reading[float]]) -> Reading[float]:
    """Mean of a reading of one GPU over the looks."""
    values = samples(looks, uuid, read)
    return values if isinstance(values, Missing) else statistics.fmean(values)


def median(looks: Iterable[Look], uuid: str, read: Callable[[GpuSnapshot], Reading[float]]) -> Reading[float]:
    """Median of a reading of one GPU over the looks: one stray sample does not move it."""
    values = samples(looks, uuid, read)
    return values if isinstance(values, Missing) else statistics.median(values)


def percent(ratio: float) -> str:
    """A share for people: 0.98 -> `98 %`."""
    return f"{100 * ratio:.0f} %"


def requests(engine: EngineSnapshot) -> Reading[int]:
    """Running and waiting requests together."""
    if isinstance(engine.running, Missing):
        return engine.running
    return engine.waiting if isinstance(engine.waiting, Missing) else engine.running + engine.waiting


def every_engine(
    history: History,
    context: Context,
    *,
    code: str,
    source: str,
    rule: Callable[[EngineTrail, Context], Check],
) -> list[Check]:
    """Run a rule over every engine; one skipped check where there is none."""
    found = trails(history)
    if not found:
        why = "no engine was found" if history[-1].engines_looked_for else "no engine was looked for or named"
        return [Check(code=code, level="skipped", message=why, source=source)]
    return [rule(trail, context) for trail in found]


def said(
    trail: EngineTrail,
    level: Level,
    message: str,
    *,
    code: str,
    source: str,
    evidence: str = "",
    action: Action = "none",
    wants_history: bool = False,
) -> Check:
    """A check of one engine, whose name begins the message."""
    return Check(
        code=code,
        level=level,
        engine=trail.engine.url,
        message=f"{trail.engine.name}: {message}",
        evidence=evidence,
        action=action,
        source=source,
        wants_history=wants_history,
    )


def engine_up(history: History, context: Context) -> list[Check]:
    """Whether the health path answers 200 and the metrics can be read."""
    return every_engine(history, context, code="engine-up", source=_UP, rule=_up)


def _up(trail: EngineTrail, context: Context) -> Check:
    engine = trail.engine
    say = partial(said, trail, code="engine-up", source=_UP, evidence=f"{engine.url} ({engine.engine})")
    status, stale = engine.health_status, trail.stale
    if status == NOT_READ:
        return say("unknown", "was not looked at in time", wants_history=True)
    if isinstance(status, Missing) and stale is not None:
        if engine.pids and all(isinstance(look.engine.health_status, Missing) for look in trail.looks):
            # Its processes live and it was never seen to answer: vLLM does not listen before it is loaded.
            return say(
                "warn",
                f"does not answer yet: {status.missing}; it loads, or hangs",
                action="check_application",
            )
        return say("critical", f"does not answer: {status.missing}", action="check_application")
    if isinstance(status, Missing):
        message = f"its health path does not answer ({status.missing}) although its metrics do"
        # SGLang's generates a token, and vLLM's waits for a loop that a burst of requests may hold up: once is no hang.
        if (
            all(isinstance(look.engine.health_status, Missing) for look in trail.looks[-2:])
            and trail.looks[1:]
        ):
            return say("critical", message, action="restart_engine")
        return say("warn", f"{message}, in one look", action="check_application", wants_history=True)
    if status == 503 and engine.engine == "vllm":
        return say("critical", "its health path answers 503: its core has died", action="restart_engine")
    if status == 503:
        return say("warn", "its health path answers 503: it loads, or ends", action="check_application")
    if status != 200:
        return say("warn", f"its health path answers {status}", action="check_application")
    if trail.without_metrics:
        return say("ok", "health path 200; it was started without metrics (--enable-metrics, --metrics)")
    if stale is not None:
        off = "404" in stale or "no metric" in stale
        return say(
            "warn",
            f"{stale}, although its health path answers 200",
            action="fix_configuration" if off else "check_application",
        )
    return say("ok", "health path 200, metrics read")
