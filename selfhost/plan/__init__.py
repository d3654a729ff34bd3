"""A decision, written down: what is deployed, why, and what was refused. plan.json is its versioned, strict file."""

from __future__ import annotations

from selfhost.plan.codec import from_json, read_plan, to_json, write_plan
from selfhost.plan.make import make_plan
from selfhost.plan.types import (
    SCHEMA,
    Alternative,
    Clocks,
    Derived,
    Plan,
    PlannedCost,
    PlannedEngine,
    PlannedEstimate,
    PlannedGpu,
    PlannedModel,
    Pod,
    Provenance,
    Weights,
)

__all__ = [
    "SCHEMA",
    "Alternative",
    "Clocks",
    "Derived",
    "Plan",
    "PlannedCost",
    "PlannedEngine",
    "PlannedEstimate",
    "PlannedGpu",
    "PlannedModel",
    "Pod",
    "Provenance",
    "Weights",
    "from_json",
    "make_plan",
    "read_plan",
    "to_json",
    "write_plan",
]
