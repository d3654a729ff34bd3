"""Engines joined with their GPUs: up, wedged, what binds them, uneven ranks, and memory against the plan."""

from __future__ import annotations

from selfhost.health.engine import engine_up
from selfhost.health.engine_bound import engine_bound
from selfhost.health.engine_drift import memory_drift
from selfhost.health.engine_skew import engine_skew
from selfhost.health.engine_wedged import engine_wedged
from selfhost.health.memory_plan import memory_plan

CHECKS = (engine_up, engine_wedged, engine_bound, engine_skew, memory_plan, memory_drift)
