"""One inference engine as its own endpoint shows it, and the GPUs it was joined with."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.observation.reading import NOT_READ, Missing, Reading

# How the reason of a Missing begins where a request was sent and nothing came back in time.
NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySum:
    """A Prometheus histogram's sum and count, from which a mean over any window follows."""

    seconds: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """vllm:cache_config_info: the KV cache as the engine laid it out, of one data-parallel rank."""

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
        log: file that its output goes to, for what it printed of its memory at start.
    """

    url: str
    pids: tuple[int, ...] = ()
    engine: str | None = None
    gpus: tuple[str, ...] = ()
    log: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupMemory:
    """What the engine printed of its memory while it started, in bytes on the GPU of its first rank.

    Args:
        weights_bytes: `Model loading took`, weights and buffers.
        activation_bytes: peak of the profiling run.
        non_torch_bytes: what that run added outside torch.
        graphs_bytes: captured CUDA graphs.
        kv_available_bytes: `Available KV cache memory`.
        kv_tokens: `GPU KV cache size`.
    """

    weights_bytes: int | None = None
    activation_bytes: int | None = None
    non_torch_bytes: int | None = None
    graphs_bytes: int | None = None
    kv_available_bytes: int | None = None
    kv_tokens: int | None = None


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
        kv_usage_ratio: share of the KV cache in use, of the fullest data-parallel rank.
        sleeping: the engine was put to sleep (vllm:engine_sleep_state), so idle is not stuck.
        first_token: time to first token.
        canary_seconds: how long a one-token request of ours took; Missing where none was sent or answered. That none
            came in time is a Missing that `unanswered` tells from the others.
        startup: what its log said of memory; Missing without a log.
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
    startup: Reading[StartupMemory] = NOT_READ

    @property
    def unanswered(self) -> bool:
        """Whether a one-token request of ours was sent and had no answer in time."""
        return isinstance(self.canary_seconds, Missing) and self.canary_seconds.missing.startswith(NO_ANSWER)
