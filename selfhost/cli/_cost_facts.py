"""The object of `selfhost/cost/v1`: a study of costs as plain values, money to the hundredth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from selfhost.cost.breakeven import in_years, within
from selfhost.cost.types import MONTHS

if TYPE_CHECKING:
    from datetime import date

    from selfhost.cost.breakeven import Amount
    from selfhost.cost.published import Held
    from selfhost.cost.rules import Judged
    from selfhost.cost.study import Against, Bounds, Costed, Study, Swing
    from selfhost.cost.types import Assumption, Scenario

Copies = Mapping[tuple[str, str], tuple["Amount", int | None]]


def money(value: float | None) -> float | None:
    """Rounded to the hundredth: the smallest coin of USD, CNY and EUR."""
    return None if value is None else round(value, 2) + 0.0


def rate(value: float | None) -> float | None:
    """A price of one thing, or a ratio, to six decimals."""
    return None if value is None else round(value, 6) + 0.0


def as_facts(
    found: Study,
    *,
    title: str,
    about: Mapping[str, object],
    held: Sequence[Held],
    copies: Copies,
    rules: Sequence[Judged],
    notes: Sequence[str],
    today: date,
) -> dict[str, object]:
    """Everything that was worked out.

    Args:
        found: the study.
        title: of the scenario, or what is deployed.
        about: what is deployed, fields that are null for a scenario.
        held: published numbers.
        copies: break-even volumes with more copies of a deployment.
        rules: of thumb.
        notes: sentences for the user.
        today: by which prices are stale.
    """
    scenario = found.scenario
    return {
        "title": title,
        **about,
        "currency": scenario.currency,
        "months": scenario.months,
        "hours_per_month": rate(scenario.hours_per_month),
        "run_hours_per_month": rate(scenario.run_hours_per_month),
        "discount_rate": scenario.discount_rate,
        "volume": _volume(scenario),
        "cheapest": found.winner,
        "options": [_option(one, found) for one in found.costed],
        "comparisons": [_pair(one, scenario, copies) for one in found.pairs],
        "tornado": [_swing(one) for one in found.swings],
        "published": [_held(one) for one in held],
        "rules": [asdict(one) for one in rules],
        "assumptions": [assumption(one, today) for one in found.assumptions],
        "notes": list(notes),
    }


def _volume(scenario: Scenario) -> dict[str, object] | None:
    volume = scenario.volume
    if volume is None:
        return None
    return {
        "input_tokens_per_month": money(volume.input_tokens),
        "output_tokens_per_month": money(volume.output_tokens),
        "tokens_per_month": money(volume.tokens),
        "cached_share": volume.cached_share,
        "requests_per_month": money(volume.requests),
        "growth_per_year": scenario.growth_per_year,
    }


def _bounds(one: Bounds | None) -> dict[str, object] | None:
    return (
        None
        if one is None
        else {"low": money(one.low), "typical": money(one.typical), "high": money(one.high)}
    )


def _option(one: Costed, found: Study) -> dict[str, object]:
    option = one.option
    return {
        "name": option.name,
        "kind": option.kind,
        "known": not option.unknown,
        "unknown": list(option.unknown),
        "gpus": option.gpus,
        "total": _bounds(one.total),
        "by_year": [
            {"year": year, "months": min(year * MONTHS, found.scenario.months), **(_bounds(each) or {})}
            for year, each in enumerate(one.by_year, 1)
        ],
        "cash_flow": [money(each) for each in one.cash_flow],
        "paid_once": money(one.paid_once),
        "residual": money(one.residual),
        "present_value": money(one.present_value),
        "per_month": money(one.per_month),
        "per_month_with_write_off": money(one.with_write_off),
        "per_hour": rate(one.per_hour),
        "per_useful_hour": rate(one.per_useful_hour),
        "per_million_tokens": rate(one.per_million_tokens),
        "per_million_input_tokens": rate(one.per_million_input),
        "per_million_output_tokens": rate(one.per_million_output),
        "input_share": rate(option.input_share),
        "utilization": rate(one.utilization),
        "capacity_output_tokens_per_second": rate(option.capacity_output_tokens_per_second),
        "income": money(one.income),
        "margin": rate(one.margin),
        "lines": [{"name": name, "amount": money(amount)} for name, amount in one.lines],
        "notes": list(option.notes),
    }


def _pair(one: Against, scenario: Scenario, copies: Copies) -> dict[str, object]:
    months = one.time.months
    amount, count = copies.get((one.option, one.against), (one.volume, None))
    volume, factor = scenario.volume, amount.factor
    tokens = None if factor is None or volume is None else volume.tokens * factor
    requests = (
        None if factor is None or volume is None or volume.requests is None else volume.requests * factor
    )
    used = amount.utilization
    return {
        "option": one.option,
        "against": one.against,
        "saves": money(one.saves),
        "npv": money(one.saves_present_value),
        "payback": {
            "months": rate(months),
            "years": rate(in_years(months)),
            "hours": rate(None if months is None else months * scenario.run_hours_per_month),
            "within_horizon": within(months, scenario.months),
            "until_months": rate(one.time.until_months),
            "soonest_months": rate(one.soonest.months),
            "latest_months": rate(one.latest.months),
            "discounted_months": rate(one.discounted.months),
            "reason": one.time.reason or _too_late(months, scenario.months),
        },
        "break_even": {
            "tokens_per_month": money(tokens),
            "requests_per_month": money(requests),
            "utilization": None if factor is None else rate(used),
            "utilization_needed": rate(used),
            "copies": count,
            "reason": amount.reason,
        },
    }


def _too_late(months: float | None, horizon: int) -> str | None:
    if months is None or within(months, horizon):
        return None
    return f"not within {horizon / MONTHS:g} years: after {months / MONTHS:,.2f}"


def _swing(one: Swing) -> dict[str, object]:
    return {
        "assumption": one.assumption.key,
        "low": one.assumption.low,
        "high": one.assumption.high,
        "unit": one.assumption.unit,
        "saves_at_low": money(one.at_low),
        "saves_at_high": money(one.at_high),
        "swing": money(one.width),
        "cheapest_at_low": one.winner_at_low,
        "cheapest_at_high": one.winner_at_high,
        "flips": one.flips,
    }


def _held(one: Held) -> dict[str, object]:
    claim = one.claim
    published = claim.word if claim.word is not None else [claim.low, claim.high]
    return {
        "what": claim.what,
        "metric": claim.metric,
        "published": published,
        "computed": one.word if one.word is not None else rate(one.computed),
        "verdict": one.verdict,
        "because": one.because,
    }


def assumption(one: Assumption, today: date) -> dict[str, object]:
    """One assumption with its bounds and its source."""
    return {
        "name": one.key,
        "low": one.low,
        "typical": one.typical,
        "high": one.high,
        "unit": one.unit,
        "currency": one.currency,
        "source": one.source,
        "date": one.date,
        "note": one.note,
        "stale": one.is_stale(today),
    }
