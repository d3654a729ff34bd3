"""What the metrics of an engine are for: the one place where the dashboard and the rules get their names from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMetrics:
    """Name of each metric; None where the release has none. Latencies are histograms, by their bare names.

    `by` is the label that tells whose latencies they are: the model's name, or the pod where the engine names no model.
    `live_tokens`: token counters grow while a request runs; others grow when it ends.
    """

    running: str | None = None
    waiting: str | None = None
    kv_usage: str | None = None
    preemptions: str | None = None
    prompt_tokens: str | None = None
    generation_tokens: str | None = None
    finished: str | None = None
    prefix_queries: str | None = None
    prefix_hits: str | None = None
    first_token: str | None = None
    inter_token: str | None = None
    queue_time: str | None = None
    whole_request: str | None = None
    by: str = "pod"
    live_tokens: bool = False


MODEL_LABEL = "model_name"
# Labels of every metric of the engine, and those of single ones: vllm/v1/metrics/loggers.py of 0.32, read 2026-11-21;
# sglang/srt/observability/metrics_collector.py of 0.5.23 (a rank of data parallelism is named where there are several)
# and TGI 3.3.7 router/src, backends/v3/src, read 2026-11-26.
LABELS: dict[str, tuple[str, ...]] = {
    "vllm": ("model_name", "engine"),
    "sglang": ("model_name", "engine_type", "dp_rank"),
    "tgi": (),
    "llamacpp": (),
    "triton": ("model", "version"),
}
_SCHEDULER = ("tp_rank", "pp_rank", "moe_ep_rank")
MORE_LABELS = {
    "vllm:request_success_total": ("finished_reason",),
    "sglang:num_running_reqs": _SCHEDULER,
    "sglang:num_queue_reqs": _SCHEDULER,
    "sglang:token_usage": _SCHEDULER,
    "sglang:num_retracted_requests_total": _SCHEDULER,
    "sglang:cached_tokens_total": ("cache_source",),
    "sglang:prompt_tokens_total": ("is_streaming",),
    "sglang:generation_tokens_total": ("is_streaming",),
}
ROLES = {
    "triton": EngineMetrics(waiting="nv_inference_pending_request_count"),  # docs/user_guide/metrics.md
    "llamacpp": EngineMetrics(  # tools/server/server-context.cpp, which names no model
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        prompt_tokens="llamacpp:prompt_tokens_total",
        generation_tokens="llamacpp:tokens_predicted_total",
    ),
    "vllm": EngineMetrics(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_usage="vllm:kv_cache_usage_perc",
        preemptions="vllm:num_preemptions_total",
        prompt_tokens="vllm:prompt_tokens_total",
        generation_tokens="vllm:generation_tokens_total",
        finished="vllm:request_success_total",
        prefix_queries="vllm:prefix_cache_queries_total",
        prefix_hits="vllm:prefix_cache_hits_total",
        first_token="vllm:time_to_first_token_seconds",
        inter_token="vllm:inter_token_latency_seconds",
        queue_time="vllm:request_queue_time_seconds",
        whole_request="vllm:e2e_request_latency_seconds",
        live_tokens=True,  # at each step of the scheduler (v1/metrics/loggers.py, record)
    ),
    "sglang": EngineMetrics(
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        kv_usage="sglang:token_usage",
        preemptions="sglang:num_retracted_requests_total",
        prompt_tokens="sglang:prompt_tokens_total",
        generation_tokens="sglang:generation_tokens_total",
        finished="sglang:num_requests_total",
        # Both grow when a request ends: prompt tokens, and those of them that were in the cache.
        prefix_queries="sglang:prompt_tokens_total",
        prefix_hits="sglang:cached_tokens_total",
        first_token="sglang:time_to_first_token_seconds",
        inter_token="sglang:inter_token_latency_seconds",
        queue_time="sglang:queue_time_seconds",
        whole_request="sglang:e2e_request_latency_seconds",
    ),
    # Sums of its histograms stand for token counters, which it has not; durations are in seconds.
    "tgi": EngineMetrics(
        running="tgi_batch_current_size",
        waiting="tgi_queue_size",
        prompt_tokens="tgi_request_input_length_sum",
        generation_tokens="tgi_request_generated_tokens_sum",
        finished="tgi_request_success",
        inter_token="tgi_request_mean_time_per_token_duration",
        queue_time="tgi_request_queue_duration",
        whole_request="tgi_request_duration",
    ),
}


def engine_metrics(engine: str, emitted: Sequence[str]) -> EngineMetrics:
    """Metrics of an engine, as far as its release emits them.

    Args:
        engine: name of its module.
        emitted: names in the plan.
    """
    known = ROLES.get(engine, EngineMetrics())
    names = [field.name for field in fields(known) if field.name not in ("by", "live_tokens")]
    changes: dict[str, Any] = {name: None for name in names if getattr(known, name) not in emitted}
    changes["by"] = MODEL_LABEL if MODEL_LABEL in LABELS.get(engine, ()) else "pod"
    return replace(known, **changes)
