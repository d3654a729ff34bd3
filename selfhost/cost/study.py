"""Assumptions and a scenario -> what each option costs, how they compare, and what would flip the choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from selfhost.cost import flows
from selfhost.cost.breakeven import Amount, Time, break_even_time, break_even_volume, discounted_time
from selfhost.cost.shares import by_line, per_million
from selfhost.cost.types import MONTHS, Assumption, Build, Option, Scenario
from selfhost.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A result with every assumption at its typical value, and with all of them at their kind or unkind end."""

    low: float
    typical: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costed:
    """What one option costs. Everything is None where a price is unknown.

    Args:
        option: with typical values.
        total: over the horizon, less what comes back.
        by_year: by the end of each year, without what comes back.
        cash_flow: by month, month 0 being the day of the decision; money that goes out is positive.
        paid_once: of it, for things that are bought.
        residual: what comes back at the end.
        present_value: of all of it on the day of the decision.
        income: money that comes in, over the horizon.
        margin: (income - cost) / cost; None without income.
        per_hour: of the calendar. per_useful_hour: of work at full load.
        per_million_tokens, per_million_input, per_million_output: None without such tokens.
        utilization: mean over the horizon; None without a capacity.
        with_write_off: a month's running costs and the write-off; None where no time for it is given.
        lines: what each line adds up to, by name.
    """

    option: Option
    total: Bounds | None = None
    by_year: tuple[Bounds, ...] = ()
    cash_flow: tuple[float, ...] = ()
    paid_once: float | None = None
    residual: float | None = None
    present_value: float | None = None
    income: float | None = None
    margin: float | None = None
    per_month: float | None = None
    per_hour: float | None = None
    per_useful_hour: float | None = None
    per_million_tokens: float | None = None
    per_million_input: float | None = None
    per_million_output: float | None = None
    utilization: float | None = None
    with_write_off: float | None = None
    lines: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """One option against another.

    Args:
        option, against: their names.
        saves: over the horizon; negative where it costs more. saves_present_value: NPV of choosing it.
        time: when it has become cheaper for good, not discounted. soonest, latest: with all that varies in its favour
            and against it. discounted: the same as `time` with money at its value today.
        volume: from which volume on it costs less over the horizon.
    """

    option: str
    against: str
    saves: float
    saves_present_value: float
    time: Time
    soonest: Time
    latest: Time
    discounted: Time
    volume: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """What one assumption does to the choice, all others being typical.

    Args:
        assumption: that is varied.
        at_low, at_high: what the option that is best now saves over the best one of another kind (own, rented, API; of
            any other one where all are of a kind) at its ends; negative where it is not the best there.
        winner_at_low, winner_at_high: the best option there.
        flips: whether one of them is another than now.
    """

    assumption: Assumption
    at_low: float
    at_high: float
    winner_at_low: str
    winner_at_high: str
    flips: bool

    @property
    def width(self) -> float:
        """By how much the saving moves."""
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The whole result.

    Args:
        scenario: with typical values.
        assumptions: all that it rests on.
        costed: in the order of the scenario.
        winner: cheapest over the horizon, None where no option has a total.
        lead: what the winner saves over the best option of another kind; the middle of every swing. None alone.
        pairs: every option with a total against every other.
        swings: widest first.
    """

    scenario: Scenario
    assumptions: tuple[Assumption, ...]
    costed: tuple[Costed, ...]
    winner: str | None
    lead: float | None
    pairs: tuple[Against, ...]
    swings: tuple[Swing, ...]

    def of(self, name: str) -> Costed:
        """The result of an option."""
        return next(one for one in self.costed if one.option.name == name)

    def pair(self, option: str, against: str) -> Against:
        """One option against another."""
        return next(one for one in self.pairs if (one.option, one.against) == (option, against))


def study(assumptions: Sequence[Assumption], build: Build) -> Study:
    """Work everything out.

    Args:
        assumptions: what varies, and what does not.
        build: from a value for each to the scenario.

    Raises:
        UsageError: two options or two assumptions have the same name.
    """
    typical = {one.key: one.typical for one in assumptions}
    scenario = build(typical)
    _unique([option.name for option in scenario.options], "options")
    _unique([one.key for one in assumptions], "assumptions")
    known = [option.name for option in scenario.options if not option.unknown]
    varied = {
        one.key: (
            _totals(build({**typical, one.key: one.low})),
            _totals(build({**typical, one.key: one.high})),
        )
        for one in assumptions
        if one.varies
    }
    ends = _Ends(assumptions, typical, varied)
    totals = _totals(scenario)
    winner = min(known, key=totals.__getitem__) if known else None
    return Study(
        scenario=scenario,
        assumptions=tuple(assumptions),
        costed=tuple(_costed(option, scenario, build, ends) for option in scenario.options),
        winner=winner,
        lead=None if winner is None or len(known) < 2 else _lead(totals, winner, _rivals(scenario, winner)),
        pairs=tuple(
            _against(one, other, scenario, build, ends) for one in known for other in known if one != other
        ),
        swings=()
        if winner is None or len(known) < 2
        else _swings(assumptions, winner, _rivals(scenario, winner), varied),
    )


def _unique(names: list[str], what: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two {what} are called {twice!r}.", hint="Give each a name of its own.")


def _totals(scenario: Scenario) -> dict[str, float]:
    return {option.name: flows.total(option, scenario) for option in scenario.options if not option.unknown}


def _named(scenario: Scenario, name: str) -> Option:
    return next(option for option in scenario.options if option.name == name)


class _Ends:
    """Which end of each assumption is kind to an option, or to one against another."""

    def __init__(
        self,
        assumptions: Sequence[Assumption],
        typical: Mapping[str, float],
        varied: Mapping[str, tuple[dict[str, float], dict[str, float]]],
    ) -> None:
        self.typical = dict(typical)
        self.by_key = {one.key: one for one in assumptions if one.varies and one.joint}
        self.varied = varied

    def values(self, name: str, against: str | None = None, *, kind: bool) -> dict[str, float]:
        """Every assumption at the end that makes the option cheapest (`kind`) or dearest."""
        found = dict(self.typical)
        for key, assumption in self.by_key.items():
            low, high = self.varied[key]
            moved = low[name] - high[name] - (0.0 if against is None else low[against] - high[against])
            if moved:
                found[key] = assumption.low if (moved < 0) == kind else assumption.high
        return found


def _costed(option: Option, scenario: Scenario, build: Build, ends: _Ends) -> Costed:
    if option.unknown:
        return Costed(option=option)
    cash, back = flows.cash_flow(option, scenario), flows.residual(option, scenario.months)
    cases = [build(ends.values(option.name, kind=kind)) for kind in (True, False)]
    least, most = (flows.cash_flow(_named(case, option.name), case) for case in cases)
    total = math.fsum(cash) - back
    earning = replace(option, lines=tuple(line for line in option.lines if line.income))
    income = -math.fsum(flows.cash_flow(earning, scenario)) or None
    outgoing = total + (income or 0.0)
    months, volume = scenario.months, scenario.volume
    served = math.fsum(
        flows.month_of(option, scenario, month).volume.tokens for month in range(1, months + 1)
    )
    used = flows.utilization_of(option, scenario, volume)
    if used is not None and volume is not None and volume.tokens:
        used *= served / (volume.tokens * months)
    once = flows.paid_once(option, months)
    hours = scenario.run_hours_per_month * months
    blended, into, out = per_million(option, scenario, outgoing)
    return Costed(
        option=option,
        total=Bounds(
            low=math.fsum(least) - flows.residual(_named(cases[0], option.name), months),
            typical=total,
            high=math.fsum(most) - flows.residual(_named(cases[1], option.name), months),
        ),
        by_year=tuple(
            Bounds(low=low, typical=mid, high=high)
            for low, mid, high in zip(
                *(flows.totals_by_year(each) for each in (least, cash, most)), strict=True
            )
        ),
        cash_flow=cash,
        paid_once=once,
        residual=back,
        present_value=flows.present_value(cash, scenario.discount_rate, back),
        income=income,
        margin=None if income is None or outgoing <= 0 else (income - outgoing) / outgoing,
        per_month=total / months,
        per_hour=total / (scenario.hours_per_month * months),
        per_useful_hour=None if not used or not hours else total / (hours * used),
        per_million_tokens=blended,
        per_million_input=into,
        per_million_output=out,
        utilization=used,
        with_write_off=(
            None
            if option.write_off_years is None
            else once / (option.write_off_years * MONTHS) + (math.fsum(cash) - once) / months
        ),
        lines=tuple(by_line(option, scenario).items()),
    )


def _against(one: str, other: str, scenario: Scenario, build: Build, ends: _Ends) -> Against:
    mine, theirs = _named(scenario, one), _named(scenario, other)
    best = build(ends.values(one, other, kind=True))
    worst = build(ends.values(one, other, kind=False))
    worths = [
        flows.present_value(
            flows.cash_flow(option, scenario), scenario.discount_rate, flows.residual(option, scenario.months)
        )
        for option in (mine, theirs)
    ]
    time = break_even_time(mine, theirs, scenario)
    return Against(
        option=one,
        against=other,
        saves=flows.total(theirs, scenario) - flows.total(mine, scenario),
        saves_present_value=worths[1] - worths[0],
        time=time,
        soonest=break_even_time(_named(best, one), _named(best, other), best),
        latest=break_even_time(_named(worst, one), _named(worst, other), worst),
        discounted=discounted_time(mine, theirs, scenario) if scenario.discount_rate else time,
        volume=break_even_volume(mine, theirs, scenario),
    )


def _lead(totals: Mapping[str, float], winner: str, rivals: frozenset[str]) -> float:
    return min(totals[name] for name in rivals) - totals[winner]


def _rivals(scenario: Scenario, winner: str) -> frozenset[str]:
    """What the choice is against: options of another kind, or all others where there are none."""
    best = _named(scenario, winner)
    known = [option for option in scenario.options if not option.unknown and option.name != winner]
    return frozenset(
        option.name
        for option in known
        if option.kind != best.kind or all(one.kind == best.kind for one in known)
    )


def swings_of(
    assumptions: Sequence[Assumption], build: Build, option: str, rivals: Sequence[str]
) -> tuple[float, tuple[Swing, ...]]:
    """What one option saves over the best of others, and what each assumption does to that.

    Args:
        assumptions: what varies, and what does not.
        build: from a value for each to the scenario.
        option: whose lead it is, the cheapest or not.
        rivals: names of at least one other option; options in neither are left out.
    """
    kept = {option, *rivals}

    def totals(values: Mapping[str, float]) -> dict[str, float]:
        return {name: total for name, total in _totals(build(values)).items() if name in kept}

    typical = {one.key: one.typical for one in assumptions}
    varied = {
        one.key: (totals({**typical, one.key: one.low}), totals({**typical, one.key: one.high}))
        for one in assumptions
        if one.varies
    }
    against = frozenset(rivals)
    return _lead(totals(typical), option, against), _swings(assumptions, option, against, varied)


def _swings(
    assumptions: Sequence[Assumption],
    winner: str,
    rivals: frozenset[str],
    varied: Mapping[str, tuple[dict[str, float], dict[str, float]]],
) -> tuple[Swing, ...]:
    found = []
    for one in assumptions:
        if not one.varies:
            continue
        leads, winners = [], []
        for totals in varied[one.key]:
            leads.append(_lead(totals, winner, rivals))
            best = min(totals, key=totals.__getitem__)
            winners.append(winner if totals[winner] <= totals[best] else best)
        if leads[0] == leads[1]:
            continue
        found.append(
            Swing(
                assumption=one,
                at_low=leads[0],
                at_high=leads[1],
                winner_at_low=winners[0],
                winner_at_high=winners[1],
                flips=winners != [winner, winner],
            )
        )
    return tuple(sorted(found, key=lambda swing: (-swing.width, swing.assumption.key)))
