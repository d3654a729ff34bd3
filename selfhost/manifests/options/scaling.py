"""Operations: autoscaling, priority, rules and dashboard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingOptions:
    """How replicas are kept and scaled."""
