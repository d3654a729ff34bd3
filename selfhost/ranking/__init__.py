"""Every way to place a model -> the ways that carry a load and meet its goals, in the order somebody cares about."""

from __future__ import annotations

from selfhost.ranking.order import RANKINGS, behind_first, order, why_not_first
from selfhost.ranking.search import SLOW, Question, search, sensible_quantizations
from selfhost.ranking.types import RANKS, Cost, Found, Load, Missed, Option, Rank

__all__ = [
    "RANKINGS",
    "RANKS",
    "SLOW",
    "Cost",
    "Found",
    "Load",
    "Missed",
    "Option",
    "Question",
    "Rank",
    "behind_first",
    "order",
    "search",
    "sensible_quantizations",
    "why_not_first",
]
