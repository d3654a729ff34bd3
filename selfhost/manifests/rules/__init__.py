"""Alerting and recording rules as data: what each asks, how long it waits, how bad it is, and what to do.

Thresholds are those of the checks of `selfhost health`, as far as a rule over time can ask them; each says where it is
from. Actions are the checks' own vocabulary. Xid classes are the catalogue's.
"""

from __future__ import annotations

from selfhost.manifests.engine_metrics import EngineMetrics
from selfhost.manifests.rules.engine import engine_alerts, recordings
from selfhost.manifests.rules.gpu import gpu_alerts, limit_alerts
from selfhost.manifests.rules.monitor import JOB, monitor_alerts
from selfhost.manifests.rules.types import Alert, Group, Recording, Severity
from selfhost.plan import Plan

__all__ = ["JOB", "Alert", "Group", "Recording", "Severity", "rule_groups"]


def rule_groups(plan: Plan, engine: EngineMetrics) -> tuple[Group, ...]:
    """Every rule for a plan.

    Args:
        plan: its name tells the memory rules which engine was planned, its certainty how far a size may be off.
        engine: names that the engine's release emits.
    """
    return (
        Group(name="selfhost-recordings", recordings=tuple(recordings(engine))),
        Group(name="selfhost-monitor", alerts=tuple(monitor_alerts())),
        Group(name="selfhost-gpus", alerts=tuple(gpu_alerts())),
        Group(name="selfhost-gpu-limits", alerts=tuple(limit_alerts())),
        Group(name="selfhost-engines", alerts=tuple(engine_alerts(plan))),
    )
