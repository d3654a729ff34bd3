"""First figures of an engine next to its plan: how fast one stream is, and what its memory became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from selfhost.health.memory_plan import MemoryTerm, memory_terms
from selfhost.observation import EngineSnapshot, Missing, Reading, StartupMemory, known
from selfhost.observation.reading import NOT_READ
from selfhost.plan import Plan
from selfhost.probe.page import empty_snapshot, read_page
from selfhost.probe.startup import read_startup_log
from selfhost.units import gib


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFigures:
    """One stream, as the client saw it, the way to the engine included.

    Args:
        first_token_seconds: from the request to the first text (TTFT).
        inter_token_seconds: mean between two tokens; None of one token alone.
        slowest_gap_seconds: the longest pause between two pieces of text; None of one alone.
        tokens_per_second: of the stream, its first token left out; None of one token alone.
        tokens: that were generated, as the engine counts them.
        counted: the engine said how many; otherwise pieces of text were counted.
    """

    first_token_seconds: float
    inter_token_seconds: float | None
    slowest_gap_seconds: float | None
    tokens_per_second: float | None
    tokens: int
    counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigures:
    """Memory next to the plan's prediction.

    Args:
        terms: in bytes on one GPU, those that the plan or the engine knows.
        kv_tokens_predicted: tokens that the KV cache was to hold, None where the plan does not know.
        kv_tokens: tokens that it holds.
        because: where that figure is from.
    """

    terms: tuple[MemoryTerm, ...]
    kv_tokens_predicted: int | None
    kv_tokens: Reading[int]
    because: str

    @property
    def kv_tokens_error_ratio(self) -> float | None:
        """Actual less predicted as a share of what was predicted; None where either is not known."""
        if isinstance(self.kv_tokens, Missing) or not self.kv_tokens_predicted:
            return None
        return (self.kv_tokens - self.kv_tokens_predicted) / self.kv_tokens_predicted

    @property
    def line(self) -> str:
        """In a sentence, for a progress line; empty where nothing of it was seen."""
        for term in self.terms:
            if term.error_bytes is not None and known(term.actual) and term.predicted_bytes is not None:
                share = "" if term.error_ratio is None else f", {percent(term.error_ratio)}"
                sign = "+" if term.error_bytes >= 0 else "-"
                return (
                    f"{term.name}: {gib(term.predicted_bytes)} GiB planned, {gib(term.actual)} GiB seen "
                    f"({sign}{gib(abs(term.error_bytes))} GiB{share})"
                )
        return ""


def percent(ratio: float) -> str:
    """A signed share for people: -0.012 is `-1.2 %`."""
    return f"{100 * ratio:+.1f} %"


def stream_figures(times: Sequence[float], tokens: int | None) -> StreamFigures | None:
    """Figures of a stream; None where no text came.

    Args:
        times: at which pieces of text came, seconds since the request.
        tokens: as the engine counts them, None where it does not say.
    """
    if not times:
        return None
    count = tokens if tokens is not None and tokens > 0 else len(times)
    span = times[-1] - times[0]
    several = count > 1 and span > 0
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return StreamFigures(
        first_token_seconds=times[0],
        inter_token_seconds=span / (count - 1) if several else None,
        slowest_gap_seconds=max(gaps, default=None),
        tokens_per_second=(count - 1) / span if several else None,
        tokens=count,
        counted=tokens is not None and tokens > 0,
    )


def snapshot_of(
    plan: Plan,
    page: str | None,
    log: str | None,
    *,
    now: float,
    url: str = "",
    why: str = "its metrics were not read",
    health_status: Reading[int] = NOT_READ,
) -> EngineSnapshot:
    """An engine from its page of metrics and the beginning of its log.

    Args:
        plan: whose engine it is.
        page: of metrics, None where there is none.
        log: None where there is none.
        now: Unix time.
        url: how it is called.
        why: there is no page.
        health_status: what its health path answered.
    """
    found = empty_snapshot(url, plan.engine.name, now, why)
    if page is not None:
        found = read_page(found, page, now)
    told = None if log is None else read_startup_log(log)
    startup: Reading[StartupMemory] = told or Missing(
        missing="its log was not read" if log is None else "its log says nothing of memory"
    )
    version: Reading[str] = found.version if known(found.version) else plan.engine.version
    return replace(found, startup=startup, health_status=health_status, version=version)


def memory_figures(plan: Plan, engine: EngineSnapshot) -> MemoryFigures | None:
    """Predicted against actual memory; None where nothing was seen of it.

    Args:
        plan: what was deployed.
        engine: from its metrics and its log.
    """
    terms = tuple(_from_log(term, engine) for term in memory_terms(plan, engine, ()))
    tokens, because = _kv_tokens(engine)
    if isinstance(tokens, Missing) and not any(known(term.actual) for term in terms):
        return None
    shown = tuple(term for term in terms if known(term.actual) or term.predicted_bytes)
    return MemoryFigures(
        terms=shown, kv_tokens_predicted=plan.memory.kv_tokens, kv_tokens=tokens, because=because
    )


def _from_log(term: MemoryTerm, engine: EngineSnapshot) -> MemoryTerm:
    """The KV cache as the log has it, where the metrics do not tell."""
    if term.name != "KV cache" or known(term.actual) or isinstance(engine.startup, Missing):
        return term
    size = engine.startup.kv_available_bytes
    if size is None:
        return term
    return replace(term, actual=size, because="start-up log: Available KV cache memory")


def _kv_tokens(engine: EngineSnapshot) -> tuple[Reading[int], str]:
    """Tokens that the KV cache holds, and where that is from."""
    cache = engine.cache
    if known(cache.size_tokens):
        return cache.size_tokens, "metrics"
    if known(engine.startup) and engine.startup.kv_tokens is not None:
        return engine.startup.kv_tokens, "start-up log"
    if known(cache.gpu_blocks) and known(cache.block_tokens):
        return cache.gpu_blocks * cache.block_tokens, "metrics: blocks of tokens"
    return cache.size_tokens, ""
