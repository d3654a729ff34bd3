"""Alerts about engines, and rates and latencies of each recorded."""

from __future__ import annotations

from collections.abc import Iterable

from selfhost.manifests.engine_metrics import EngineMetrics
from selfhost.manifests.rules.types import Alert, Recording
from selfhost.plan import Plan

_WHICH = "{{ $labels.served_model }} at {{ $labels.url }}"


def engine_alerts(plan: Plan) -> Iterable[Alert]:
    """An engine that is down, stuck, short of memory, or not as planned."""
    yield from _engines(plan)
    yield from _plan(plan)


def recordings(engine: EngineMetrics) -> Iterable[Recording]:
    """What dashboards and alerts of others would compute again and again."""
    yield Recording(
        name="selfhost:gpu_clock_held_down:ratio_rate5m",
        expr="rate(selfhost_gpu_clock_held_down_seconds_total[5m])",
    )
    yield Recording(
        name="selfhost:engine_generation_tokens:rate5m",
        expr="rate(selfhost_engine_generation_tokens_total[5m])",
    )
    yield Recording(
        name="selfhost:engine_prompt_tokens:rate5m", expr="rate(selfhost_engine_prompt_tokens_total[5m])"
    )
    yield Recording(
        name="selfhost:engine_memory_over_plan_bytes:difference",
        expr="selfhost_engine_memory_actual_bytes - selfhost_engine_memory_predicted_bytes",
    )
    for name, histogram in (
        ("time_to_first_token", engine.first_token),
        ("inter_token", engine.inter_token),
        ("queue_time", engine.queue_time),
    ):
        if histogram is not None:
            inner = f"sum by (le, cluster, namespace, {engine.by}) (rate({histogram}_bucket[5m]))"
            yield Recording(
                name=f"selfhost:engine_{name}_seconds:p95_5m", expr=f"histogram_quantile(0.95, {inner})"
            )
    if engine.generation_tokens is not None:
        tokens = f"sum by (cluster, namespace, pod) (rate({engine.generation_tokens}[5m]))"
        joules = 'sum by (cluster, namespace, pod) (rate(selfhost_gpu_energy_joules_total{pod!=""}[5m]))'
        yield Recording(
            name="selfhost:pod_generation_tokens_per_joule:ratio_rate5m", expr=f"{tokens} / {joules}"
        )


def _engines(plan: Plan) -> Iterable[Alert]:
    yield Alert(
        name="SelfhostEngineDown",
        expr="selfhost_engine_up == 0",
        wait=f"{plan.clocks.load_seconds.value}s",  # nothing listens while the engine loads
        severity="critical",
        action="restart_engine",
        summary=f"The metrics of {_WHICH} cannot be read.",
        runbook="kubectl logs of the engine's pod. Where it is well, a NetworkPolicy keeps the monitor out.",
    )
    yield Alert(
        name="SelfhostEngineUnhealthy",
        expr="selfhost_engine_healthy == 0 and selfhost_engine_up == 1",
        wait="2m",
        severity="critical",
        action="restart_engine",
        summary=f"The health path of {_WHICH} does not answer 200.",
        runbook="The engine core ended or is loading. kubectl logs; the liveness probe restarts it.",
    )
    yield Alert(
        name="SelfhostEngineWedged",
        expr="selfhost_engine_wedged == 1",
        wait="1m",
        severity="critical",
        action="restart_engine",
        summary=f"{_WHICH} is wedged: requests wait, no token comes, the GPUs are busy with nothing.",
        runbook="/health still answers 200, so no probe will restart it. Keep its log and a stack (py-spy dump), then "
        "delete the pod. If Xids came with it, act on those first.",
    )
    yield Alert(
        name="SelfhostEngineKvPressure",
        expr="selfhost_engine_kv_usage_ratio > 0.95 and rate(selfhost_engine_preemptions_total[5m]) > 0",
        wait="10m",
        severity="warning",
        action="fix_configuration",
        summary=f"The KV cache of {_WHICH} is full and requests are put back.",
        runbook="Work is done twice. More replicas, a shorter context, an fp8 KV cache, or fewer requests at once; "
        "selfhost size says what each of them gives.",
    )
    yield Alert(
        name="SelfhostEngineQueueGrowing",
        expr="min_over_time(selfhost_engine_requests_waiting[10m]) > 0"
        " and deriv(selfhost_engine_requests_waiting[10m]) > 0",
        wait="10m",
        severity="warning",
        action="fix_configuration",
        summary=f"Requests to {_WHICH} come faster than they are served: {{{{ $value }}}} wait at the least.",
        runbook="Where the KV cache is full, see SelfhostEngineKvPressure. Where it is not, GPUs or host bind it, and "
        "`selfhost health` names it. Add replicas or limit what is let in.",
    )


def _plan(plan: Plan) -> Iterable[Alert]:
    """Sizes against the plan: further off than its own certainty."""
    over = "selfhost_engine_memory_actual_bytes - selfhost_engine_memory_predicted_bytes"
    certainty = plan.memory.certainty_bytes
    yield Alert(
        name="SelfhostEngineMemoryOverPlan",
        expr=f"{over} > {certainty}",
        wait="15m",
        severity="warning",
        action="fix_configuration",
        summary=f"{_WHICH} takes {{{{ $value | humanize1024 }}}}B more for {{{{ $labels.term }}}} than was planned.",
        runbook=f"More than the {certainty} bytes that the plan was unsure of: less KV cache than counted on. "
        "Compare the engine's start-up log with the bill in plan.json; another version or flag is the usual cause.",
    )
    yield Alert(
        name="SelfhostEngineMemoryRising",
        expr=f"delta(selfhost_engine_memory_actual_bytes[6h]) > {certainty}",
        wait="30m",
        severity="warning",
        action="restart_engine",
        summary=f"{_WHICH} holds {{{{ $value | humanize1024 }}}}B more for {{{{ $labels.term }}}} than 6 hours ago.",
        runbook="Engines take their memory at the start; what grows later is a leak, or another process on the GPU. "
        "Restart it in a quiet hour, before an allocation fails in a busy one.",
    )
