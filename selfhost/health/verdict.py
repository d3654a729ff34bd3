"""Observations -> Health: every check run, suppressed where a suppression stands, worst first, and one verdict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from selfhost.health.checks import checkers
from selfhost.health.types import LEVELS, Action, Check, Context, Health, History, Level

if TYPE_CHECKING:
    from selfhost.health.suppressions import Suppression

# The codes of Nagios plugins (Nagios Plugin Development Guidelines, "Plugin Return Codes"; read 2026-11-21).
_NAGIOS: dict[Level, int] = {"ok": 0, "warn": 1, "critical": 2, "unknown": 3, "skipped": 3}

# What takes most away from the node first: among findings of one level that is the one to begin with.
_HARDEST: tuple[Action, ...] = (
    "reboot_node", "inspect_hardware", "reset_gpu", "restart_engine", "check_application", "fix_configuration", "none",
)  # fmt: skip


def assess(history: History, context: Context, suppressions: tuple[Suppression, ...] = ()) -> Health:
    """Run every check.

    Args:
        history: observations of one node, oldest first, at least one.
        context: the time, and what the node should look like.
        suppressions: findings that somebody asked not to be told of for a while.

    Returns:
        The node's verdict and its checks, worst first.
    """
    found = [check for checker in checkers() for check in checker(history, context)]
    if suppressions:
        from selfhost.health.suppressions import apply, expired, unmatched

        wrong = unmatched(suppressions, found)
        found = apply(suppressions, found, history[-1].node, now=context.now)
        found += expired(suppressions, now=context.now) + wrong
    checks = worst_first(found)
    return Health(verdict=verdict_of(checks), checks=checks, host=history[-1].node.host)


def worst_first(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Checks by level; then the node's, GPUs' and engines', a cause before what follows; then by what they ask for."""

    def rank(check: Check) -> tuple[int, int, int, int]:
        scope = 2 if check.engine is not None else 0 if check.gpu is None else 1
        gpu = -1 if check.gpu is None else check.gpu
        return LEVELS.index(check.level), scope, _HARDEST.index(check.action), gpu

    return tuple(sorted(checks, key=rank))


def verdict_of(checks: Iterable[Check]) -> Level:
    """The worst of critical > warn > unknown > ok. Where everything was skipped nothing is known."""
    levels = {check.level for check in checks}
    for level in LEVELS:
        if level in levels and level != "skipped":
            return level
    return "unknown"


def exit_code(level: Level, *, nagios: bool = False) -> int:
    """The process's exit code of a verdict: as Nagios has them, otherwise 0 for ok and 5 for everything else."""
    if nagios:
        return _NAGIOS[level]
    return 0 if level == "ok" else 5
