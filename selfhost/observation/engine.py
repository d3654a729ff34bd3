"""One inference engine as its own endpoint shows it, and the GPUs it was joined with."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.observation.reading import NOT_READ, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySum:
    """A Prometheus histogram's sum and count, from which a mean over any window follows."""

    seconds: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """vllm:cache_config_info: the KV cache as the engine laid it out."""

    gpu_blocks: Reading[int] = NOT_READ
    block_tokens: Reading[int] = NOT_READ
    size_tokens: Reading[int] = NOT_READ
    gpu_memory_utilization: Reading[float] = NOT_READ
    kv_dtype: Reading[str] = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """Where an engine is to be found, before it was asked anything.

    Args:
        url: base address without a path, such as http://127.0.0.1:8000.
        pids: its processes, server and workers, as numbered where the GPUs' processes are read.
        engine: `vllm`, `sglang`, `tgi` or `llamacpp`; None where its metrics have to tell.
        gpus: its GPUs as the user named them: indices, UUIDs or PCI addresses.
    """

    url: str
    pids: tuple[int, ...] = ()
    engine: str | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSnapshot:
    """An engine at one moment; counters are totals since its start, summed over its data-parallel ranks.

    Args:
        name: how it is shown: the served model's name, or the address.
        url: base address without a path or credentials.
        engine: `vllm`, `sglang`, `tgi`, `llamacpp`, or `unknown`.
        at: Unix time of this scrape.
        pids: processes of the engine as seen from here, server and workers.
        gpu_uuids: GPUs its processes hold, or that the user named; Missing where the two cannot be joined.
        health_status: HTTP status of the health path; Missing where it did not answer.
        metrics_age_seconds: how long ago the metrics below were read; grows while the endpoint does not answer.
        kv_usage_ratio: share of the KV cache in use.
        sleeping: the engine was put to sleep (vllm:engine_sleep_state), so idle is not stuck.
        first_token: time to first token.
        canary_seconds: how long a one-token request of ours took; Missing where none was sent or answered.
    """

    name: str
    url: str
    engine: str
    at: float
    version: Reading[str] = NOT_READ
    model: Reading[str] = NOT_READ
    pids: tuple[int, ...] = ()
    gpu_uuids: Reading[tuple[str, ...]] = NOT_READ
    health_status: Reading[int] = NOT_READ
    metrics_age_seconds: Reading[float] = NOT_READ
    running: Reading[int] = NOT_READ
    waiting: Reading[int] = NOT_READ
    kv_usage_ratio: Reading[float] = NOT_READ
    preemptions: Reading[int] = NOT_READ
    prompt_tokens: Reading[int] = NOT_READ
    generation_tokens: Reading[int] = NOT_READ
    requests_finished: Reading[int] = NOT_READ
    prefix_queries: Reading[int] = NOT_READ
    prefix_hits: Reading[int] = NOT_READ
    sleeping: Reading[bool] = NOT_READ
    first_token: Reading[LatencySum] = NOT_READ
    inter_token: Reading[LatencySum] = NOT_READ
    queue_time: Reading[LatencySum] = NOT_READ
    cache: CacheConfig = CacheConfig()
    canary_seconds: Reading[float] = NOT_READ
