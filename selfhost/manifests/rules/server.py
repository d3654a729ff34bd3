"""Alerts about one deployment from its engine's own metrics, where no monitor of selfhost watches the nodes."""

from __future__ import annotations

from collections.abc import Iterable

from selfhost.manifests.engine_metrics import EngineMetrics
from selfhost.manifests.queries import Scope
from selfhost.manifests.rules.types import Alert
from selfhost.plan import Plan

# As SelfhostEngineKvPressure asks it of the monitor.
FULL_CACHE_RATIO = 0.95
QUIET_SECONDS = 600  # ours: a prefill of a million tokens takes minutes


def server_alerts(
    plan: Plan, metrics: EngineMetrics, scope: Scope, *, queue: int, always: bool, most: int, longest: int
) -> Iterable[Alert]:
    """A server that is gone, down, stuck, or short of room.

    Args:
        plan: its clocks say how long a server may be away.
        metrics: names that the engine's release emits.
        scope: series of the deployment's pods.
        queue: requests that may wait for each replica.
        always: whether there is to be a replica at any time.
        most: most replicas there can be.
        longest: seconds of the longest request, after which even counters that grow at its end have grown.
    """
    yield from _up(plan, scope, always=always)
    yield from _stalled(
        metrics, scope, seconds=max(QUIET_SECONDS, longest) if not metrics.live_tokens else QUIET_SECONDS
    )
    yield from _short(metrics, scope, queue=queue, most=most)


def _up(plan: Plan, scope: Scope, *, always: bool) -> Iterable[Alert]:
    up, name = f"up{{{scope.matchers(engine=False)}}}", plan.name
    load = plan.clocks.load_seconds.value
    if always:
        yield Alert(
            name="SelfhostServerAbsent",
            expr=f"absent({up})",
            wait=f"{plan.clocks.progress_deadline_seconds.value}s",  # a rollout without spare GPUs takes as long
            severity="critical",
            action="check_application",
            summary=f"Prometheus sees no pod of {name}.",
            runbook="kubectl get pods and describe the Deployment: no GPU free, no weights, no image. Where a pod "
            "runs, Prometheus does not select the PodMonitor, or a NetworkPolicy keeps it out.",
        )
    yield Alert(
        name="SelfhostServerDown",
        expr=f"{up} == 0",
        wait=f"{load}s",  # nothing listens while the engine loads
        severity="critical",
        action="restart_engine",
        summary=f"{{{{ $labels.pod }}}} of {name} has not answered for {load} s, longer than it may load.",
        runbook="kubectl logs --previous of the pod: out of memory, an old driver, weights that are not whole.",
    )


def _stalled(metrics: EngineMetrics, scope: Scope, *, seconds: int) -> Iterable[Alert]:
    if metrics.running is None or metrics.generation_tokens is None:
        return
    running = f"sum by (pod) ({scope.series(metrics.running)})"
    tokens = f"sum by (pod) (rate({scope.series(metrics.generation_tokens)}[{seconds}s]))"
    yield Alert(
        name="SelfhostServerStalled",
        expr=f"{running} > 0 and {tokens} == 0",
        wait="10m",
        severity="critical",
        action="restart_engine",
        summary="{{ $labels.pod }} holds {{ $value }} requests and has counted no token for "
        f"{seconds + 600} s.",
        runbook="The health path may still answer 200, so no probe restarts it. Keep its log, then delete the pod. "
        "Look at the GPUs of its node for Xid errors first.",
    )


def _short(metrics: EngineMetrics, scope: Scope, *, queue: int, most: int) -> Iterable[Alert]:
    if metrics.waiting is not None:
        yield Alert(
            name="SelfhostServerQueue",
            expr=f"{scope.total(metrics.waiting)} > {queue * most}",
            wait="15m",
            severity="warning",
            action="fix_configuration",
            summary="{{ $value }} requests wait, more than "
            + (f"{queue} for each of {most} replicas." if most > 1 else f"{queue}."),
            runbook="Requests come faster than they are served. Add replicas, limit what is let in, or shorten the "
            "context; selfhost size says what each gives.",
        )
    if metrics.kv_usage is not None and metrics.preemptions is not None:
        full = f"max by (pod) ({scope.series(metrics.kv_usage)}) > {FULL_CACHE_RATIO}"
        put_back = f"sum by (pod) (rate({scope.series(metrics.preemptions)}[5m])) > 0"
        yield Alert(
            name="SelfhostServerCacheFull",
            expr=f"{full} and {put_back}",
            wait="10m",
            severity="warning",
            action="fix_configuration",
            summary="The KV cache of {{ $labels.pod }} is full and requests are put back.",
            runbook="Work is done twice. More replicas, a shorter context, an fp8 KV cache, or fewer requests at once; "
            "selfhost size says what each of them gives.",
        )
