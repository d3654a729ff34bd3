"""Which engine a metric's name belongs to, and whether any release, or the one in use, has it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from selfhost.catalog.flags import KnownMetric, Release, release, table

# Beginning of an engine's own names -> its table. Triton's `nv_` is shared with backends, which add names of their own.
_PREFIXES = (
    ("vllm:", "vllm"), ("sglang:", "sglang"), ("tgi_", "tgi"), ("llamacpp:", "llamacpp"),
    ("nv_inference_", "triton"), ("nv_cache_", "triton"),
)  # fmt: skip
# The colon written as an underscore: what people type, and what some collectors make of it.
_UNDERSCORED = (("vllm_", "vllm"), ("sglang_", "sglang"), ("llamacpp_", "llamacpp"))
# Others that use an engine's prefix. production-stack's router, src/vllm_router/services/metrics_service and
# experimental/semantic_cache; vLLM-Omni; SGLang's router. Read 2026-11-26.
_NEIGHBOURS = re.compile(
    r"vllm[:_](current_qps|avg_(decoding_length|itl|latency|ttft)|num_(prefill|decoding)_requests|healthy_pods_total"
    r"|num_incoming_requests(_total)?|(input|output)_tokens(_total)?|request_errors(_total)?|request_latency_seconds\w*"
    r"|semantic_cache_\w+|router_\w+|omni_\w+|cpu_kv_\w+)$"
    r"|sglang[:_](router_|diffusion_|model_gateway_)\w+$|vllm:(omni|lmcache)_\w+$"
)
# What stands in for a metric that vLLM no longer has: release notes of 0.11 and 0.12, v1/metrics/loggers.py.
_RENAMED = {
    "vllm:gpu_cache_usage_perc": "vllm:kv_cache_usage_perc",
    "vllm:gpu_prefix_cache_queries": "vllm:prefix_cache_queries_total",
    "vllm:gpu_prefix_cache_queries_total": "vllm:prefix_cache_queries_total",
    "vllm:gpu_prefix_cache_hits": "vllm:prefix_cache_hits_total",
    "vllm:gpu_prefix_cache_hits_total": "vllm:prefix_cache_hits_total",
    "vllm:gpu_prefix_cache_hit_rate": "vllm:prefix_cache_hits_total over vllm:prefix_cache_queries_total",
    "vllm:time_per_output_token_seconds": "vllm:inter_token_latency_seconds",
    "llamacpp:kv_cache_usage_ratio": "llamacpp:requests_deferred",
}
_SUFFIX = re.compile(r"_(bucket|sum|count|created|total)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a name.

    Args:
        engine: whose name it is, or looks like.
        kind: `never` (no release read has it), `gone`, `later` (a newer release has it), `form` (another series of the
            same metric is meant, such as a counter's `_total`) or `colon` (an underscore for the colon).
        release: first release without it (`gone`) or first with it (`later`), as text; empty otherwise.
        instead: the name to take, None where there is none.
    """

    engine: str
    kind: str
    release: str = ""
    instead: str | None = None


def engine_of(name: str) -> str | None:
    """Engine whose prefix a name has, None where it has none or belongs to somebody beside the engine."""
    if _NEIGHBOURS.match(name):
        return None
    return next((engine for prefix, engine in (*_PREFIXES, *_UNDERSCORED) if name.startswith(prefix)), None)


def judge(name: str, versions: Iterable[str] = ()) -> Verdict | None:
    """What is wrong with a metric's name, None where nothing is known to be.

    Args:
        name: as a query has it.
        versions: releases of that engine which are in use; none for the newest.
    """
    engine = engine_of(name)
    if engine is None:
        return None
    underscored = next(
        (prefix for prefix, owner in _UNDERSCORED if owner == engine and name.startswith(prefix)), None
    )
    if underscored is not None:
        real = underscored[:-1] + ":" + name[len(underscored) :]
        if _NEIGHBOURS.match(real):
            return None
        if real in series(engine) or real in table(engine).metrics:
            return Verdict(engine=engine, kind="colon", instead=real)
        return Verdict(engine=engine, kind="never", instead=_close(engine, real))
    metric = series(engine).get(name)
    if metric is None:
        return _no_series(engine, name)
    return _by_release(metric, engine, name, tuple(versions))


def _by_release(metric: KnownMetric, engine: str, name: str, versions: tuple[str, ...]) -> Verdict | None:
    known = [each for each in map(release, versions) if each is not None]
    span = metric.span
    wanted: list[Release] = known or [span.newest]
    if any(span.has(each) is not False for each in wanted):
        return None
    if all(each < span.since for each in wanted):
        return Verdict(engine=engine, kind="later", release=shown(span.since))
    if span.after is None:
        return None
    return Verdict(engine=engine, kind="gone", release=shown(span.after), instead=renamed(name))


def renamed(name: str) -> str | None:
    """What stands in for a metric that is gone, None where nothing does."""
    if name in _RENAMED:
        return _RENAMED[name]
    suffix = _SUFFIX.search(name)
    base = _RENAMED.get(name[: suffix.start()]) if suffix else None
    return f"{base}{suffix.group()}" if base and suffix and " " not in base else base


def _no_series(engine: str, name: str) -> Verdict:
    known = table(engine).metrics
    base = _SUFFIX.sub("", name)
    for each in (name, f"{name}_total", base, f"{base}_total"):
        if each in known:
            return Verdict(engine=engine, kind="form", instead=_series(engine, known[each])[0])
    return Verdict(engine=engine, kind="never", instead=_close(engine, name))


def shown(number: Release) -> str:
    """A release as people write it."""
    return ".".join(str(part) for part in number)


@lru_cache(maxsize=256)
def _close(engine: str, name: str) -> str | None:
    alive = [text for text, metric in series(engine).items() if metric.span.until is None]
    found = difflib.get_close_matches(name, alive, n=1, cutoff=0.8)
    return found[0] if found else None


# prometheus_client adds `_total` to a counter; these engines write their counters by hand, as they are called.
_PLAIN = frozenset(("tgi", "triton", "llamacpp"))


def _series(engine: str, metric: KnownMetric) -> tuple[str, ...]:
    return (metric.name,) if engine in _PLAIN and metric.type == "counter" else metric.series


@lru_cache(maxsize=8)
def series(engine: str) -> dict[str, KnownMetric]:
    """Metrics of an engine by the name of each of their series."""
    ordered = sorted(
        table(engine).metrics.values(), key=lambda each: (each.span.until is None, each.span.newest)
    )
    return {name: metric for metric in ordered for name in _series(engine, metric)}
