"""The worked cases' budgets: totals of one to three years, and when two of them meet; in CNY, as printed in 2025."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.advise.tables import Case

MONTHS = 12
YEARS = (1, 2, 3)  # rule 61: what a total is computed over


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """When a plan that is dear at first has cost as much as one that is dear by the year.

    Args:
        years: until then at the other's least and most yearly cost; None: never.
        within_three: whether that is within three years at least at the most.
    """

    plan: str
    against: str
    years_at_least_cost: float | None
    years_at_most_cost: float | None

    @property
    def within_three_years(self) -> bool:
        """Whether it meets within three years where the other costs most."""
        return self.years_at_most_cost is not None and self.years_at_most_cost <= 3


def total(case: Case, years: int) -> tuple[int, int]:
    """Least and most that a case costs in so many years: up front + yearly x years."""
    return case.upfront + case.yearly[0] * years, case.upfront + case.yearly[1] * years


def meeting(plan: Case, against: Case) -> Meeting:
    """When a plan meets another: (upfront - upfront') / (yearly' - yearly), None where that lies before the start."""
    return Meeting(
        plan=plan.id,
        against=against.id,
        years_at_least_cost=_years(plan, against, against.yearly[0]),
        years_at_most_cost=_years(plan, against, against.yearly[1]),
    )


def _years(plan: Case, against: Case, yearly: int) -> float | None:
    more, saved = plan.upfront - against.upfront, yearly - plan.yearly[1]
    if more <= 0:
        return 0.0 if saved >= 0 else None
    return more / saved if saved > 0 else None


def monthly_to_meet(plan: Case, against: Case, years: int) -> float:
    """What the other has to cost a month for both to be equal after so many years."""
    return (plan.upfront + plan.yearly[1] * years - against.upfront) / (years * MONTHS)


def calls_for(case: Case, monthly: float) -> float | None:
    """Calls that an amount a month buys, None where the case is not paid by the call."""
    return None if case.per_thousand_calls is None else monthly / case.per_thousand_calls * 1000
