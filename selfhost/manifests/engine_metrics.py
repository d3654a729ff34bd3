"""What the metrics of an engine are for: the one place where the dashboard and the rules get their names from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMetrics:
    """Name of each metric; None where the release has none. Latencies are histograms, by their bare names.

    `by` is the label that tells whose latencies they are: the model's name, or the pod where the engine names no model.
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


MODEL_LABEL = "model_name"
# Labels of every metric of the engine, and those of single ones; vllm/v1/metrics/loggers.py of 0.32, read 2026-11-21.
LABELS = {"vllm": ("model_name", "engine")}
MORE_LABELS = {"vllm:request_success_total": ("finished_reason",)}
ROLES = {
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
    )
}


def engine_metrics(engine: str, emitted: Sequence[str]) -> EngineMetrics:
    """Metrics of an engine, as far as its release emits them.

    Args:
        engine: name of its module.
        emitted: names in the plan.
    """
    known = ROLES.get(engine, EngineMetrics())
    names = [field.name for field in fields(known) if field.name != "by"]
    absent = [name for name in names if getattr(known, name) not in emitted]
    labels = LABELS.get(engine, ())
    return replace(known, **dict.fromkeys(absent), by=MODEL_LABEL if MODEL_LABEL in labels else "pod")
