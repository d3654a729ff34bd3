"""One option -> its cash by month, its totals and what they are worth today."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selfhost.cost.types import MONTHS, SECONDS_PER_HOUR, Line, Option, Scenario, Volume

_MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """What lines are counted by in one month."""

    run_hours: float
    utilization: float
    volume: Volume


def utilization_of(option: Option, scenario: Scenario, volume: Volume | None) -> float | None:
    """Share of what an option can answer with in the hours that it runs; None where it has no limit."""
    capacity = option.capacity_output_tokens_per_second
    if capacity is None or volume is None:
        return None
    return volume.output_tokens / (capacity * SECONDS_PER_HOUR * scenario.run_hours_per_month)


def month_of(option: Option, scenario: Scenario, month: int) -> Month:
    """The usage of one month, the first being 1."""
    volume = scenario.volume or Volume()
    if scenario.growth_per_year:
        volume = volume.scaled((1 + scenario.growth_per_year) ** ((max(1, month) - 1) / MONTHS))
    share = utilization_of(option, scenario, volume if scenario.volume is not None else None)
    return Month(
        run_hours=scenario.run_hours_per_month, utilization=1.0 if share is None else share, volume=volume
    )


def _tokens(line: Line, volume: Volume) -> float:
    cached = volume.input_tokens * volume.cached_share
    return {
        "all": volume.tokens,
        "input": volume.input_tokens,
        "uncached": volume.input_tokens - cached,
        "cached": cached,
        "output": volume.output_tokens,
    }[line.tokens]


def _quantity(line: Line, month: Month) -> float:
    """How many of the line's unit one month takes."""
    if line.unit == "month":
        return 1.0
    if line.unit == "year":
        return 1.0 / MONTHS
    if line.unit == "hour":
        return month.run_hours * (month.utilization if line.only_busy else 1.0)
    if line.unit == "kwh":
        power = line.idle_kw + (line.busy_kw - line.idle_kw) * month.utilization
        return month.run_hours * power
    if line.unit == "million tokens":
        return _tokens(line, month.volume) / _MILLION
    return (month.volume.requests or 0.0) / 1e3


def line_flow(line: Line, month: int, usage: Month) -> float:
    """What a line costs in a month; money that comes in is negative, what comes back at the end is not in here."""
    if line.unit in ("residual", "residual share"):
        return 0.0
    sign = -1.0 if line.income else 1.0
    if line.unit == "once":
        return sign * line.amount * line.times if month == line.from_month else 0.0
    if month < max(1, line.from_month) or (line.until_month is not None and month > line.until_month):
        return 0.0
    return sign * line.amount * line.times * _quantity(line, usage)


def flow(option: Option, scenario: Scenario, month: int) -> float:
    """Money that goes out in a month, month 0 being the day of the decision."""
    usage = month_of(option, scenario, month)
    return math.fsum(line_flow(line, month, usage) for line in option.lines)


def cash_flow(option: Option, scenario: Scenario) -> tuple[float, ...]:
    """Money that goes out from month 0 to the horizon, without what comes back at the end."""
    if not scenario.growth_per_year and all(_steady(line) for line in option.lines):
        return (flow(option, scenario, 0), *(flow(option, scenario, 1),) * scenario.months)
    return tuple(flow(option, scenario, month) for month in range(scenario.months + 1))


def _steady(line: Line) -> bool:
    """Whether it is the same in every month but the day of the decision."""
    return line.until_month is None and line.from_month <= (0 if line.unit == "once" else 1)


def paid_once(option: Option, months: int) -> float:
    """What is paid once within the horizon."""
    return math.fsum(
        line.amount * line.times
        for line in option.lines
        if line.unit == "once" and not line.income and line.from_month <= months
    )


def residual(option: Option, months: int) -> float:
    """What comes back at the end of the horizon: amounts, and shares of what was paid once."""
    fixed = math.fsum(line.amount * line.times for line in option.lines if line.unit == "residual")
    share = math.fsum(line.amount * line.times for line in option.lines if line.unit == "residual share")
    return fixed + share * paid_once(option, months)


def total(option: Option, scenario: Scenario) -> float:
    """All that goes out over the horizon less what comes back at its end; not discounted."""
    return math.fsum(cash_flow(option, scenario)) - residual(option, scenario.months)


def totals_by_year(flows: tuple[float, ...]) -> tuple[float, ...]:
    """What has gone out by the end of each year, and of a last year that is not whole; without residual value."""
    months = len(flows) - 1
    ends = [*range(MONTHS, months, MONTHS), months]
    return tuple(math.fsum(flows[: end + 1]) for end in ends)


def present_value(flows: tuple[float, ...], yearly_rate: float, back_at_end: float = 0.0) -> float:
    """What the flows are worth on the day of the decision.

    Each month is paid at its end, and a month's rate compounds to the year's: (1 + r)^(1/12) - 1 (Brealey, Myers,
    Allen: Principles of Corporate Finance, chapter 2). At a rate of 0 this is the sum.
    """
    step = (1.0 + yearly_rate) ** (1.0 / MONTHS)
    worth = math.fsum(amount / step**month for month, amount in enumerate(flows))
    return float(worth - back_at_end / step ** (len(flows) - 1))
