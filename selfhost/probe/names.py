"""What each engine calls its metrics, release by release, and where it tells its version.

vLLM: v1/metrics/loggers.py of 0.32.0, and engine/metrics.py of 0.6 for the names that are gone since. SGLang: 0.5.23
srt/metrics/collector.py. TGI: 3.3.7 docs/source/reference/metrics.md. llama.cpp: tools/server/README.md. All read
2026-11-21 to 2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Samples of one name, those alone whose labels say so where `only` names any."""

    name: str
    label: str | None = None
    values: tuple[str, ...] = ()


def _s(name: str, label: str | None = None, *values: str) -> Series:
    return Series(name=name, label=label, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNames:
    """Metric names of one engine. Of several alternatives the first that is there counts: newest release first.

    Args:
        prefix: what all its names start with, which tells the engine by its page.
        running … queue_time: as in EngineSnapshot. Latencies are names of histograms or summaries without a suffix.
        version_paths: JSON pages that tell the version, each with the key it stands under.
        model_label: label that names the served model; None where a page has to be asked.
        model_path: JSON page and key that tell the model where no label does.
    """

    engine: str
    prefix: str
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    running: tuple[Series, ...] = ()
    waiting: tuple[Series, ...] = ()
    kv_usage_ratio: tuple[Series, ...] = ()
    preemptions: tuple[Series, ...] = ()
    prompt_tokens: tuple[Series, ...] = ()
    generation_tokens: tuple[Series, ...] = ()
    requests_finished: tuple[Series, ...] = ()
    prefix_queries: tuple[Series, ...] = ()
    prefix_hits: tuple[Series, ...] = ()
    first_token: tuple[str, ...] = ()
    inter_token: tuple[str, ...] = ()
    queue_time: tuple[str, ...] = ()
    cache_tokens: tuple[Series, ...] = ()
    cache_info: str | None = None
    sleep_state: str | None = None
    version_paths: tuple[tuple[str, str], ...] = ()
    model_label: str | None = "model_name"
    model_path: tuple[str, str] | None = None

    @property
    def series(self) -> tuple[tuple[str, tuple[Series, ...]], ...]:
        """Every count and ratio of an EngineSnapshot with its alternatives."""
        return (
            ("running", self.running),
            ("waiting", self.waiting),
            ("preemptions", self.preemptions),
            ("prompt_tokens", self.prompt_tokens),
            ("generation_tokens", self.generation_tokens),
            ("requests_finished", self.requests_finished),
            ("prefix_queries", self.prefix_queries),
            ("prefix_hits", self.prefix_hits),
        )

    @property
    def latencies(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Every latency of an EngineSnapshot with its alternatives."""
        return (
            ("first_token", self.first_token),
            ("inter_token", self.inter_token),
            ("queue_time", self.queue_time),
        )


VLLM = EngineNames(
    engine="vllm",
    prefix="vllm:",
    running=(_s("vllm:num_requests_running"),),
    waiting=(_s("vllm:num_requests_waiting"),),
    # gpu_cache_usage_perc: to 0.9; kv_cache_usage_perc since vllm#20354.
    kv_usage_ratio=(_s("vllm:kv_cache_usage_perc"), _s("vllm:gpu_cache_usage_perc")),
    preemptions=(_s("vllm:num_preemptions_total"),),
    prompt_tokens=(_s("vllm:prompt_tokens_total"),),
    generation_tokens=(_s("vllm:generation_tokens_total"),),
    requests_finished=(_s("vllm:request_success_total"),),
    prefix_queries=(_s("vllm:prefix_cache_queries_total"), _s("vllm:gpu_prefix_cache_queries_total")),
    prefix_hits=(_s("vllm:prefix_cache_hits_total"), _s("vllm:gpu_prefix_cache_hits_total")),
    first_token=("vllm:time_to_first_token_seconds",),
    inter_token=("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    queue_time=("vllm:request_queue_time_seconds",),
    cache_info="vllm:cache_config_info",
    sleep_state="vllm:engine_sleep_state",
    version_paths=(("/version", "version"),),
)

SGLANG = EngineNames(
    engine="sglang",
    prefix="sglang:",
    running=(_s("sglang:num_running_reqs"),),
    waiting=(_s("sglang:num_queue_reqs"),),
    kv_usage_ratio=(_s("sglang:token_usage"),),
    # num_retracted_reqs is a gauge of the last batch, not this counter.
    preemptions=(_s("sglang:num_retracted_requests_total"),),
    # prompt_tokens_total and generation_tokens_total grow when a request ends; realtime_tokens_total as it goes on.
    prompt_tokens=(
        _s("sglang:realtime_tokens_total", "mode", "prefill_compute", "prefill_cache"),
        _s("sglang:prompt_tokens_total"),
    ),
    generation_tokens=(
        _s("sglang:realtime_tokens_total", "mode", "decode"),
        _s("sglang:generation_tokens_total"),
    ),
    requests_finished=(_s("sglang:num_requests_total"),),
    prefix_hits=(_s("sglang:cached_tokens_total"),),
    first_token=("sglang:time_to_first_token_seconds",),
    inter_token=("sglang:inter_token_latency_seconds",),
    queue_time=("sglang:queue_time_seconds",),
    cache_tokens=(_s("sglang:max_total_num_tokens"),),
    version_paths=(("/server_info", "version"), ("/get_server_info", "version")),
)

TGI = EngineNames(
    engine="tgi",
    prefix="tgi_",
    running=(_s("tgi_batch_current_size"),),
    waiting=(_s("tgi_queue_size"),),
    # Both token counters grow when a request ends.
    prompt_tokens=(_s("tgi_request_input_length_sum"),),
    generation_tokens=(_s("tgi_request_generated_tokens_sum"),),
    requests_finished=(_s("tgi_request_success"),),
    inter_token=("tgi_request_mean_time_per_token_duration",),
    queue_time=("tgi_request_queue_duration",),
    version_paths=(("/info", "version"),),
    model_label=None,
    model_path=("/info", "model_id"),
)

LLAMACPP = EngineNames(
    engine="llamacpp",
    prefix="llamacpp:",
    running=(_s("llamacpp:requests_processing"),),
    waiting=(_s("llamacpp:requests_deferred"),),
    kv_usage_ratio=(_s("llamacpp:kv_cache_usage_ratio"),),  # gone in newer builds
    # Both token counters grow when a slot has finished its work, not with each token.
    prompt_tokens=(_s("llamacpp:prompt_tokens_total"),),
    generation_tokens=(_s("llamacpp:tokens_predicted_total"),),
    version_paths=(("/props", "build_info"),),
    model_label=None,
    model_path=("/props", "model_alias"),
)

ENGINES: dict[str, EngineNames] = {names.engine: names for names in (VLLM, SGLANG, TGI, LLAMACPP)}


@cache
def metric_names(engine: str) -> frozenset[str]:
    """Every sample name that is read of an engine's page."""
    names = ENGINES[engine]
    wanted = {series.name for _, every in names.series for series in every}
    wanted |= {series.name for series in (*names.kv_usage_ratio, *names.cache_tokens)}
    wanted |= {f"{base}{end}" for _, every in names.latencies for base in every for end in ("_sum", "_count")}
    wanted |= {name for name in (names.cache_info, names.sleep_state) if name}
    return frozenset(wanted)


@cache
def all_names() -> frozenset[str]:
    """Every sample name that is read of any engine's page."""
    return frozenset().union(*(metric_names(engine) for engine in ENGINES))
