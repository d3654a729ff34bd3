"""The plan whose values the chart has where nobody gives it others: a small model on one small GPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from selfhost.plan import Plan, from_json

# Written by scripts/chart.py, as `selfhost plan` makes it.
DEFAULT_PLAN = Path(__file__).parent / "default-plan.json"


@cache
def default_plan() -> Plan:
    """The plan of the chart's own values."""
    return from_json(DEFAULT_PLAN.read_text(encoding="utf-8"))
