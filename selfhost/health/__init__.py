"""Observations -> Health: what is wrong, how badly, and what to do about it. Pure; knows no clock and no machine."""

from selfhost.health.types import LEVELS, Action, Check, Checker, Context, Health, History, Level

__all__ = ["LEVELS", "Action", "Check", "Checker", "Context", "Health", "History", "Level"]
