"""Observations -> Health: what is wrong, how badly, and what to do about it. Pure; knows no clock and no machine."""

from selfhost.health.baseline import (
    Baseline,
    BaselineError,
    GpuBaseline,
    default_path,
    read_baseline,
    write_baseline,
)
from selfhost.health.learn import learn
from selfhost.health.types import LEVELS, Action, Check, Checker, Context, Health, History, Level
from selfhost.health.verdict import assess, exit_code, verdict_of, worst_first

__all__ = [
    "LEVELS",
    "Action",
    "Baseline",
    "BaselineError",
    "Check",
    "Checker",
    "Context",
    "GpuBaseline",
    "Health",
    "History",
    "Level",
    "assess",
    "default_path",
    "exit_code",
    "learn",
    "read_baseline",
    "verdict_of",
    "worst_first",
    "write_baseline",
]
