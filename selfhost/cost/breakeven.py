"""Two options -> from which month, volume and utilization on the first is cheaper; "never" has a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selfhost.cost.flows import cash_flow, flow, month_of, total, utilization_of
from selfhost.cost.types import MONTHS, Option, Scenario

_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """When one option has become cheaper than another for good, all cash counted and residual value not.

    Args:
        months: from the decision; 0 where it is cheaper from the start; None for never.
        until_months: when it stops being cheaper, None where it does not.
        reason: why never, or what to know; None for nothing.
    """

    months: float | None
    until_months: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """From which volume on one option costs less than another over the horizon.

    Args:
        factor: of the scenario's volume; None for never.
        utilization: share of its capacity at that volume, also where that is more than 1 (never); None without one.
        reason: why never, or what to know; None for nothing.
        indifferent: the volume changes nothing between the two.
    """

    factor: float | None
    utilization: float | None = None
    reason: str | None = None
    indifferent: bool = False


def _last_change(options: tuple[Option, ...], months: int) -> int:
    """Month from which on every month is like the one before."""
    ends = [months]
    for option in options:
        for line in option.lines:
            ends += [line.from_month, line.until_month or 0]
    return max(ends) + 1


def break_even_time(one: Option, other: Option, scenario: Scenario) -> Time:
    """When `one` has cost less than `other` for good.

    Within a month money is spent evenly. Past the horizon every month is like its last, so that a break-even after
    thirty years is found and can be called too late.
    """
    gaps = [
        mine - theirs
        for mine, theirs in zip(cash_flow(one, scenario), cash_flow(other, scenario), strict=True)
    ]
    # A volume that grows never settles: the horizon's last month stands for all later ones.
    if not scenario.growth_per_year:
        later = range(scenario.months + 1, _last_change((one, other), scenario.months) + 1)
        gaps += [flow(one, scenario, month) - flow(other, scenario, month) for month in later]
    return _meeting(gaps, gaps[-1])


def discounted_time(one: Option, other: Option, scenario: Scenario) -> Time:
    """The same with each month's money at its value on the day of the decision, within the horizon alone."""
    step = (1 + scenario.discount_rate) ** (1 / MONTHS)
    flows = zip(cash_flow(one, scenario), cash_flow(other, scenario), strict=True)
    found = _meeting([(mine - theirs) / step**month for month, (mine, theirs) in enumerate(flows)], 0.0)
    if found.months is not None or found.until_months is not None:
        return found
    return Time(months=None, reason=f"not within {scenario.months} months with money at its value today")


def _meeting(gaps: Sequence[float], later: float) -> Time:
    """When the sum of what one costs more each month has come to nothing for good.

    Args:
        gaps: by month, the first on the day of the decision.
        later: of each month after those.
    """
    gap = gaps[0]
    scale = max(1.0, abs(gap))
    behind = gap > _TINY * scale
    since: float | None = None if behind else 0.0
    lost: float | None = None
    for month, each in enumerate(gaps[1:], 1):
        after = gap + each
        scale = max(scale, abs(each), abs(after))
        if behind and after <= _TINY * scale:
            behind, since = False, month - 1 + (gap / -each if each < 0 else 1.0)
        elif not behind and after > _TINY * scale:
            behind, lost = True, month - 1 + (-gap / each if each > 0 else 1.0)
        gap = after
    end = len(gaps) - 1
    if behind and later < -_TINY * scale:
        return Time(months=end + gap / -later)
    if not behind and later > _TINY * scale:
        lost = end + -gap / later
    elif not behind:
        return Time(months=since)
    return Time(
        months=None, until_months=lost if lost and lost > _TINY else None, reason=_why(lost, later, scale)
    )


def _why(lost: float | None, later: float, scale: float) -> str:
    if lost is not None and lost > _TINY:
        return "cheaper at first only: each later month costs more"
    if lost is not None:
        return "the same at the start, and each month costs more"
    more = "no less" if abs(later) <= _TINY * scale else "more"
    return f"dearer at the start, and each later month costs {more}"


def _at(option: Option, scenario: Scenario, factor: float) -> float:
    assert scenario.volume is not None
    return total(option, replace(scenario, volume=scenario.volume.scaled(factor)))


def break_even_volume(one: Option, other: Option, scenario: Scenario) -> Amount:
    """From which multiple of the volume on `one` costs less than `other` over the horizon, residual value counted.

    Costs are straight lines in the volume as long as no more machines are needed, so two points give them.
    """
    volume = scenario.volume
    if volume is None or not (volume.tokens or volume.requests):
        return Amount(factor=None, reason="no volume is given")
    fixed = _at(one, scenario, 0.0) - _at(other, scenario, 0.0)
    rate = (_at(one, scenario, 1.0) - _at(other, scenario, 1.0)) - fixed
    scale = max(1.0, abs(fixed), abs(_at(one, scenario, 1.0)))
    if abs(rate) <= _TINY * scale:
        if fixed < -_TINY * scale:
            return Amount(factor=0.0, reason="cheaper at every volume", indifferent=True)
        reason = "the volume changes nothing between the two, and it is not cheaper"
        return Amount(factor=None, reason=reason, indifferent=True)
    if fixed <= 0:
        if rate < 0:
            return Amount(factor=0.0, reason="cheaper at every volume")
        return Amount(
            factor=None, reason="each token costs more, so that it is cheaper at small volumes only"
        )
    if rate > 0:
        return Amount(factor=None, reason="it costs more without any volume, and each token costs more too")
    factor = fixed / -rate
    used = utilization_of(one, scenario, volume.scaled(factor))
    if used is not None and used > 1:
        return Amount(
            factor=None,
            utilization=used,
            reason=f"it would take {used:,.2f} times what it can answer with",
        )
    return Amount(factor=factor, utilization=used)


def overfull(scenario: Scenario) -> tuple[str, float] | None:
    """The first option that the volume is too much for at some time, and how many of it that takes."""
    if scenario.volume is None:
        return None
    for option in scenario.options:
        used = max(month_of(option, scenario, month).utilization for month in (1, scenario.months))
        if option.capacity_output_tokens_per_second is not None and used > 1 + _TINY:
            return option.name, used
    return None


def within(months: float | None, horizon: int) -> bool:
    """Whether a break-even comes before the end."""
    return months is not None and months <= horizon


def in_years(months: float | None) -> float | None:
    """Months as years."""
    return None if months is None else months / MONTHS
