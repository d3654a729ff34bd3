"""A page of metrics -> readings of an engine; impossible values are a Missing that says what stood there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from selfhost.observation import CacheConfig, EngineSnapshot, LatencySum, Missing, Reading, known
from selfhost.probe.names import ENGINES, EngineNames, Series, all_names, metric_names
from selfhost.probe.text import Sample, read_samples

Samples = Mapping[str, list[Sample]]
# Counters of an engine are exact in a double up to here; what is above was never counted. IEEE 754.
_LARGEST = 2.0**53
_NAMELESS = Missing(missing="this engine does not show it")


def empty_snapshot(url: str, engine: str, now: float, why: str) -> EngineSnapshot:
    """An engine of which no metric was ever read, and why."""
    missing = Missing(missing=why)
    return EngineSnapshot(
        name=url.partition("://")[2] or url,
        url=url,
        engine=engine,
        at=now,
        version=missing,
        model=missing,
        metrics_age_seconds=missing,
        running=missing,
        waiting=missing,
        kv_usage_ratio=missing,
        preemptions=missing,
        prompt_tokens=missing,
        generation_tokens=missing,
        requests_finished=missing,
        prefix_queries=missing,
        prefix_hits=missing,
        sleeping=missing,
        first_token=missing,
        inter_token=missing,
        queue_time=missing,
        cache=CacheConfig(
            gpu_blocks=missing,
            block_tokens=missing,
            size_tokens=missing,
            gpu_memory_utilization=missing,
            kv_dtype=missing,
        ),
    )


def read_page(found: EngineSnapshot, text: str, now: float) -> EngineSnapshot:
    """A page of metrics as readings. A page without any known name leaves what was there before.

    Args:
        found: the engine as it is known so far.
        text: the page.
        now: Unix time at which it was read.
    """
    samples = read_samples(text, all_names())
    engine = _engine_of(samples)
    if engine is None:
        if known(found.metrics_age_seconds):
            return found
        return _without(found, "no metric of a known engine on its page")
    names = ENGINES[engine]
    values: dict[str, Any] = {field: _count(samples, every) for field, every in names.series}
    values |= {field: _latency(samples, every) for field, every in names.latencies}
    model = _label(samples, names) if names.model_label else found.model
    return replace(
        found,
        **values,
        engine=engine,
        at=now,
        metrics_age_seconds=0.0,
        model=model,
        kv_usage_ratio=_ratio(samples, names.kv_usage_ratio),
        sleeping=_sleeping(samples, names),
        cache=_cache(samples, names),
    )


def _without(found: EngineSnapshot, why: str) -> EngineSnapshot:
    empty = empty_snapshot(found.url, found.engine, found.at, why)
    kept = ("pids", "gpu_uuids", "version", "model", "startup", "health_status", "canary_seconds")
    return replace(empty, **{field: getattr(found, field) for field in kept})


def _engine_of(samples: Samples) -> str | None:
    """The engine whose names stand there most often."""
    counts = {engine: len(metric_names(engine) & samples.keys()) for engine in ENGINES}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def _samples(samples: Samples, every: tuple[Series, ...]) -> list[Sample] | None:
    """Samples of the first alternative that is there; of other ranks than the first only data-parallel ones."""
    for series in every:
        rows = samples.get(series.name)
        if rows is None:
            continue
        rows = [row for row in rows if not _is_other_rank(row)]
        if series.label is not None:
            rows = [row for row in rows if row.labels.get(series.label) in series.values]
        if rows:
            return rows
    return None


def _is_other_rank(sample: Sample) -> bool:
    """A tensor- or pipeline-parallel rank beyond the first counts the same requests once more (SGLang)."""
    return any(sample.labels.get(label, "0") != "0" for label in ("tp_rank", "pp_rank"))


def _count(samples: Samples, every: tuple[Series, ...]) -> Reading[int]:
    """Sum over data-parallel ranks, models and reasons."""
    if not every:
        return _NAMELESS
    rows = _samples(samples, every)
    if rows is None:
        return Missing(missing=f"no {every[0].name} on its page")
    wrong = next((row.value for row in rows if not 0 <= row.value <= _LARGEST), None)
    if wrong is not None:
        return Missing(missing=f"{every[0].name} is {wrong:g}, which is no count")
    return round(sum(row.value for row in rows))


def _ratio(samples: Samples, every: tuple[Series, ...]) -> Reading[float]:
    """The largest of all data-parallel ranks."""
    if not every:
        return _NAMELESS
    rows = _samples(samples, every)
    if rows is None:
        return Missing(missing=f"no {every[0].name} on its page")
    wrong = next((row.value for row in rows if not 0 <= row.value <= 1), None)
    if wrong is not None:
        return Missing(missing=f"{every[0].name} is {wrong:g}, which is no share")
    return max(row.value for row in rows)


def _latency(samples: Samples, every: tuple[str, ...]) -> Reading[LatencySum]:
    if not every:
        return _NAMELESS
    for base in every:
        sums, counts = samples.get(f"{base}_sum"), samples.get(f"{base}_count")
        if not sums or not counts:
            continue
        seconds, count = sum(row.value for row in sums), sum(row.value for row in counts)
        if not (math.isfinite(seconds) and seconds >= 0 and 0 <= count <= _LARGEST):
            return Missing(missing=f"{base} is {seconds:g} s in {count:g}, which is no latency")
        return LatencySum(seconds=seconds, count=round(count))
    return Missing(missing=f"no {every[0]} on its page")


def _label(samples: Samples, names: EngineNames) -> Reading[str]:
    assert names.model_label is not None
    found: dict[str, None] = {}
    for series in (*names.running, *names.generation_tokens):
        for row in samples.get(series.name, ()):
            found[row.labels.get(names.model_label, "")] = None
    models = [model for model in found if model]
    return ", ".join(models)[:400] if models else Missing(missing=f"no label {names.model_label} on its page")


def _sleeping(samples: Samples, names: EngineNames) -> Reading[bool]:
    """Whether every rank sleeps. A release that cannot sleep, or shows nothing of it, is a Missing."""
    rows = samples.get(names.sleep_state) if names.sleep_state else None
    awake = [row.value for row in rows or () if row.labels.get("sleep_state") == "awake"]
    if not awake:
        return Missing(missing="this release does not show whether it sleeps")
    return not any(awake)


def _cache(samples: Samples, names: EngineNames) -> CacheConfig:
    rows = samples.get(names.cache_info) if names.cache_info else None
    if not rows:
        none = (
            _NAMELESS if names.cache_info is None else Missing(missing=f"no {names.cache_info} on its page")
        )
        return CacheConfig(
            gpu_blocks=none,
            block_tokens=none,
            size_tokens=_count(samples, names.cache_tokens),
            gpu_memory_utilization=none,
            kv_dtype=none,
        )
    labels = [row.labels for row in rows]
    share = _smallest(labels, "gpu_memory_utilization")
    dtype = labels[0].get("cache_dtype")
    return CacheConfig(
        gpu_blocks=_whole(_smallest(labels, "num_gpu_blocks")),
        block_tokens=_whole(_smallest(labels, "block_size")),
        size_tokens=_whole(_smallest(labels, "kv_cache_size_tokens")),
        gpu_memory_utilization=share,
        kv_dtype=dtype
        if dtype not in (None, "None")
        else Missing(missing="no cache_dtype in its cache_config_info"),
    )


def _smallest(labels: list[dict[str, str]], key: str) -> Reading[float]:
    """Of all ranks the smallest: the one that fills up first. A value of `None` is one that was not settled."""
    values: list[float] = []
    for one in labels:
        try:
            values.append(float(one.get(key, "")))
        except ValueError:
            continue
    values = [value for value in values if 0 <= value <= _LARGEST]
    return min(values) if values else Missing(missing=f"no {key} in its cache_config_info")


def _whole(value: Reading[float]) -> Reading[int]:
    return value if isinstance(value, Missing) else int(value)
