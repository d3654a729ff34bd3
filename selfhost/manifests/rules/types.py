"""Rules as data: an alert, a recording, and the groups they are evaluated in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert.

    Args:
        name: CamelCase, as Prometheus' own are.
        expr: PromQL.
        wait: how long it has to hold.
        severity: critical wakes somebody, warning is for working hours.
        action: as in selfhost/health/types.py.
        summary: one sentence with the labels that tell where.
        runbook: what it means and what to do, in order.
    """

    name: str
    expr: str
    wait: str
    severity: Severity
    action: str
    summary: str
    runbook: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recording rule, named level:metric:operation."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules that are evaluated together."""

    name: str
    alerts: tuple[Alert, ...] = ()
    recordings: tuple[Recording, ...] = ()
