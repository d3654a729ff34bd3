"""Cash by month, break-evens and what flips a choice: the arithmetic, against itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.cost.breakeven import break_even_time, break_even_volume
from selfhost.cost.flows import cash_flow, flow, present_value, residual, total, totals_by_year
from selfhost.cost.study import study
from selfhost.cost.types import Assumption, Line, Option, Scenario, Unit, Volume
from selfhost.errors import UsageError

AMOUNTS = st.floats(0.0, 1e6)
MONTHS = st.integers(1, 60)
QUICK = settings(max_examples=40, deadline=None)


def option(name: str, *lines: Line, capacity: float | None = None) -> Option:
    return Option(name=name, kind="other", lines=lines, capacity_output_tokens_per_second=capacity)


def line(unit: Unit, amount: float, **more: object) -> Line:
    first = {"from_month": 0} if unit == "once" else {}
    return Line(name=unit, unit=unit, amount=amount, **(first | more))  # type: ignore[arg-type]


def scenario(*options: Option, months: int = 36, **more: object) -> Scenario:
    return Scenario(options=options, months=months, currency="USD", **more)  # type: ignore[arg-type]


@st.composite
def options(draw: st.DrawFn, name: str = "a") -> Option:
    lines = [line("once", draw(AMOUNTS)), line("month", draw(AMOUNTS)), line("year", draw(AMOUNTS))]
    lines.append(line("hour", draw(st.floats(0, 100))))
    lines.append(line("million tokens", draw(st.floats(0, 100))))
    first = draw(st.integers(1, 40))
    lines.append(line("month", draw(AMOUNTS), from_month=first, until_month=first + draw(st.integers(0, 30))))
    if draw(st.booleans()):
        lines.append(line("residual share", draw(st.floats(0, 1))))
    return option(name, *lines)


VOLUME = Volume(input_tokens=3e8, output_tokens=1e8)


@QUICK
@given(options(), MONTHS)
def test_without_a_rate_the_present_value_is_the_sum(one: Option, months: int) -> None:
    case = scenario(one, months=months, volume=VOLUME)
    flows = cash_flow(one, case)
    back = residual(one, months)
    assert present_value(flows, 0.0, back) == pytest.approx(total(one, case))
    assert len(flows) == months + 1


@QUICK
@given(options(), MONTHS, st.floats(0.001, 1.0))
def test_money_that_is_paid_later_is_worth_less(one: Option, months: int, rate: float) -> None:
    flows = cash_flow(one, scenario(one, months=months, volume=VOLUME))
    assert present_value(flows, rate) <= math.fsum(flows) * (1 + 1e-12)
    assert present_value(flows, rate) >= math.fsum(flows) / (1 + rate) ** (months / 12) * (1 - 1e-12)


def test_a_year_discounted_by_the_month_is_the_year_discounted_once() -> None:
    flows = (0.0,) * 12 + (100.0,)
    assert present_value(flows, 0.08) == pytest.approx(100 / 1.08)


@QUICK
@given(options(), MONTHS)
def test_totals_by_year_end_in_the_total(one: Option, months: int) -> None:
    case = scenario(one, months=months, volume=VOLUME)
    flows = cash_flow(one, case)
    by_year = totals_by_year(flows)
    assert by_year[-1] == pytest.approx(math.fsum(flows))
    assert len(by_year) == math.ceil(months / 12)
    assert list(by_year) == sorted(by_year)


@QUICK
@given(options(), options("b"), st.integers(1, 36))
def test_a_break_even_in_time_is_where_the_totals_meet(one: Option, other: Option, months: int) -> None:
    case = scenario(one, other, months=months, volume=VOLUME)
    found = break_even_time(one, other, case)
    if not found.months or found.months > 590:
        assert found.months is not None or found.reason
        return

    def gap(upto: int) -> float:
        return math.fsum(flow(one, case, month) - flow(other, case, month) for month in range(upto + 1))

    whole = math.floor(found.months)
    part = (found.months - whole) * (flow(one, case, whole + 1) - flow(other, case, whole + 1))
    scale = math.fsum(abs(flow(each, case, month)) for each in (one, other) for month in range(whole + 2))
    assert gap(whole) + part == pytest.approx(0.0, abs=1e-7 * max(1.0, scale))
    later = max(whole + 1, 80)
    assert gap(later) <= 1e-7 * max(1.0, scale, abs(gap(later)))


@QUICK
@given(options(), options("b"))
def test_a_break_even_in_volume_is_where_the_totals_meet(one: Option, other: Option) -> None:
    case = scenario(one, other, volume=VOLUME)
    found = break_even_volume(one, other, case)
    if not found.factor or found.factor > 1e6:
        assert found.factor is not None or found.reason
        return
    at = replace(case, volume=VOLUME.scaled(found.factor))
    assert total(one, at) == pytest.approx(total(other, at), rel=1e-6)
    above = replace(case, volume=VOLUME.scaled(found.factor * 1.1))
    assert total(one, above) < total(other, above)


@QUICK
@given(options(), st.floats(0.01, 100), st.floats(1, 10))
def test_more_volume_never_costs_less(one: Option, factor: float, more: float) -> None:
    case = scenario(one, volume=VOLUME.scaled(factor))
    larger = scenario(one, volume=VOLUME.scaled(factor * more))
    assert total(one, larger) >= total(one, case) * (1 - 1e-12)


@QUICK
@given(st.floats(1, 1e6), st.floats(1, 1e5), st.floats(1, 1e5))
def test_one_way_round_is_the_other_way_reversed(upfront: float, mine: float, theirs: float) -> None:
    own, rent = (
        option("own", line("once", upfront), line("month", mine)),
        option("rent", line("month", theirs)),
    )
    case = scenario(own, rent)
    there, back = break_even_time(own, rent, case), break_even_time(rent, own, case)
    if theirs - mine > 1e-6 * (theirs + upfront):  # below it, tens of thousands of years are called never
        assert there.months == pytest.approx(upfront / (theirs - mine))
        assert back.months is None
        assert back.until_months == pytest.approx(there.months)
    if mine > theirs * (1 + 1e-6):
        assert there.months is None
        assert there.reason
        assert back.months == 0.0


def test_never_has_a_reason() -> None:
    own = option("own", line("once", 100.0), line("month", 1.0))
    same = option("same", line("month", 1.0))
    dear = option("dear", line("month", 2.0))
    cheap = option("cheap", line("month", 0.5))
    case = scenario(own, same, dear, cheap)
    assert (
        break_even_time(own, same, case).reason == "dearer at the start, and each later month costs no less"
    )
    assert break_even_time(own, cheap, case).reason == "dearer at the start, and each later month costs more"
    assert break_even_time(dear, same, case).reason == "the same at the start, and each month costs more"
    assert break_even_time(own, dear, case).months == 100.0
    assert break_even_volume(own, dear, case).reason == "no volume is given"


def test_a_box_that_would_have_to_do_more_than_it_can_never_breaks_even() -> None:
    box = option("box", line("once", 2726.24), capacity=31.0)
    api = option("api", line("million tokens", 0.17, tokens="output"))
    seconds = 8766 * 3600 / 12
    case = scenario(
        box, api, months=60, volume=Volume(output_tokens=31 * seconds), hours_per_month=730.5, run_hours_per_month=730.5
    )  # fmt: skip
    found = break_even_volume(box, api, case)
    assert found.factor is None
    assert found.utilization == pytest.approx(3.279, rel=1e-3)
    assert found.reason is not None


def build(values: Mapping[str, float]) -> Scenario:
    own = option("own", line("once", values["price"]), line("month", values["upkeep"]))
    return scenario(own, option("rent", line("hour", values["rate"])), discount_rate=values["discount"])


def assumption(key: str, low: float, typical: float, high: float) -> Assumption:
    return Assumption(key=key, low=low, typical=typical, high=high, unit="USD")


FACTS = (
    assumption("price", 20_000.0, 30_000.0, 50_000.0),
    assumption("upkeep", 100.0, 100.0, 100.0),
    assumption("rate", 1.2, 1.4, 1.6),
    assumption("discount", 0.0, 0.08, 0.1),
)


def test_a_tornado_says_what_flips_the_choice() -> None:
    found = study(FACTS, build)
    assert found.winner == "own"
    assert [swing.assumption.key for swing in found.swings] == ["price", "rate"]
    price, rate = found.swings
    assert price.flips
    assert (price.winner_at_low, price.winner_at_high) == ("own", "rent")
    assert price.width == pytest.approx(30_000.0)
    assert rate.at_low == pytest.approx(36 * (730 * 1.2 - 100) - 30_000)
    assert rate.flips
    bounds = found.of("own").total
    assert bounds is not None
    assert (bounds.low, bounds.typical, bounds.high) == pytest.approx((23_600.0, 33_600.0, 53_600.0))


def test_bounds_of_a_break_even_are_those_of_all_that_varies() -> None:
    pair = study(FACTS, build).pair("own", "rent")
    assert pair.soonest.months == pytest.approx(20_000 / (730 * 1.6 - 100))
    assert pair.latest.months == pytest.approx(50_000 / (730 * 1.2 - 100))
    assert pair.time.months == pytest.approx(30_000 / (730 * 1.4 - 100))
    assert pair.discounted.months is None
    assert pair.discounted.reason == "not within 36 months with money at its value today"
    cheap = (*FACTS[:3], assumption("discount", 0.0, 0.02, 0.1))
    later = study(cheap, build).pair("own", "rent").discounted.months
    assert later is not None
    assert 32 < later < 36


@QUICK
@given(st.floats(0.01, 1000))
def test_another_currency_scales_money_and_nothing_else(rate: float) -> None:
    def scaled(values: Mapping[str, float]) -> Scenario:
        return build({key: value * (1.0 if key == "discount" else rate) for key, value in values.items()})

    plain, other = study(FACTS, build), study(FACTS, scaled)
    assert other.winner == plain.winner
    for one, two in zip(plain.costed, other.costed, strict=True):
        assert one.total is not None
        assert two.total is not None
        assert two.total.typical == pytest.approx(one.total.typical * rate)
        assert two.cash_flow == pytest.approx(tuple(amount * rate for amount in one.cash_flow))
    for first, second in zip(plain.pairs, other.pairs, strict=True):
        assert second.time.months == pytest.approx(first.time.months)
        assert second.saves_present_value == pytest.approx(first.saves_present_value * rate)


def test_an_option_without_a_price_has_no_total_and_is_left_out() -> None:
    missing = Option(name="buy", kind="buy", lines=(), unknown=("no price",))
    case = scenario(missing, option("rent", line("month", 5.0)))
    found = study((), lambda _: case)
    assert found.winner == "rent"
    assert found.of("buy").total is None
    assert found.pairs == ()


def test_a_volume_that_grows_is_paid_for_as_it_grows() -> None:
    api = option("api", line("million tokens", 1.0))
    case = scenario(api, months=24, volume=Volume(output_tokens=1e6), growth_per_year=1.0)
    flows = cash_flow(api, case)
    assert flows[1] == pytest.approx(1.0)
    assert flows[13] == pytest.approx(2.0)


def test_names_are_unique() -> None:
    twice = scenario(option("a", line("month", 1.0)), option("a", line("month", 2.0)))
    with pytest.raises(UsageError, match="Two options are called 'a'"):
        study((), lambda _: twice)
