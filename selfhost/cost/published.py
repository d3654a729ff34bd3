"""Numbers that somebody published, held against what the scenario gives: reproduced, or named as an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from selfhost.cost.reading import Table, number_of
from selfhost.cost.study import Against, Bounds, Costed, Study
from selfhost.cost.types import MONTHS
from selfhost.errors import UsageError

Verdict = Literal["reproduced", "published error", "rounded", "published range holds"]
End = Literal["low", "typical", "high"]
TOLERANCE = 0.01  # what counts as the same number


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One published number.

    Args:
        what: in words.
        metric: a name of `METRICS`.
        option, against, line, year: what it is of; None where the metric has none.
        end: which end of the range.
        low, high: the published number, equal where it is one.
        word: published instead of a number: an option's name, or `never`.
        tolerance: of the number (0.01 is 1 %).
        lesson: what is wrong with it, None where nothing is.
    """

    what: str
    metric: str
    option: str | None
    against: str | None
    line: str | None
    year: int | None
    end: End
    low: float | None
    high: float | None
    word: str | None
    tolerance: float
    lesson: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim and what the scenario gives.

    Args:
        computed: None for never.
        word: of a metric that is answered by a name.
        verdict: whether they agree.
        because: a sentence.
    """

    claim: Claim
    computed: float | None
    word: str | None
    verdict: Verdict
    because: str


def claim_of(table: Table, options: tuple[str, ...]) -> Claim:
    """Read one `[[published]]` table.

    Raises:
        UsageError: names what is wrong.
    """
    what, metric = table.text("what"), table.text("metric")
    if what is None or metric is None:
        raise UsageError(f"{table.where} needs what and metric.")
    if metric not in METRICS and metric not in _WORDS:
        names = ", ".join([*METRICS, *_WORDS])
        raise UsageError(f"{table.where}: no metric {metric[:40]!r}.", hint=f"One of {names}.")
    value = table.take("value")
    low = high = None
    word = value if isinstance(value, str) else None
    if word is None:
        ends = value if isinstance(value, list) and len(value) == 2 else [value, value]
        low, high = (number_of(one, f"{table.where}: value", least=-1e18) for one in ends)
        if low > high:
            raise UsageError(f"{table.where}: value {low:g} to {high:g} is not in order from low to high.")
    option, against = table.text("option"), table.text("against")
    for name in (option, against):
        if name is not None and name not in options:
            raise UsageError(f"{table.where}: no option {name[:60]!r}.")
    found = Claim(
        what=what, metric=metric, option=option, against=against, line=table.text("line"),
        year=table.whole("year", least=1), end=_end(table), low=low, high=high, word=word,
        tolerance=table.number("tolerance", TOLERANCE, most=1.0) or TOLERANCE, lesson=table.text("lesson"),
    )  # fmt: skip
    table.end()
    return found


def _end(table: Table) -> End:
    value = table.one_of("end", ("low", "typical", "high"), "typical")
    return "low" if value == "low" else "high" if value == "high" else "typical"


def hold(claim: Claim, found: Study) -> Held:
    """Hold one claim against the result.

    Raises:
        UsageError: it names no option, or one whose price is unknown.
    """
    if claim.metric in _WORDS:
        word = _WORDS[claim.metric](found)
        same = word == claim.word
        return Held(
            claim=claim,
            computed=None,
            word=word,
            verdict="reproduced" if same else "published error",
            because=_because(claim, same=same, computed=str(word)),
        )
    computed = METRICS[claim.metric](found, claim)
    if claim.word is not None or computed is None:
        same = claim.word == "never" and computed is None
        return Held(
            claim=claim,
            computed=computed,
            word=None,
            verdict="reproduced" if same else "published error",
            because=_because(claim, same=same, computed=shown(computed)),
        )
    assert claim.low is not None
    assert claim.high is not None
    slack = claim.tolerance * max(abs(computed), 1e-12)
    same = claim.low - slack <= computed <= claim.high + slack
    verdict: Verdict = "published error"
    if same:
        verdict = "reproduced" if claim.low == claim.high else "published range holds"
        if claim.tolerance > TOLERANCE:
            verdict = "rounded"
    return Held(
        claim=claim,
        computed=computed,
        word=None,
        verdict=verdict,
        because=_because(claim, same=same, computed=shown(computed)),
    )


def shown(value: float | None) -> str:
    """A number for people: whole from a thousand on."""
    return "never" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"


def said(claim: Claim) -> str:
    """What was published, for people."""
    if claim.word is not None:
        return claim.word
    return shown(claim.low) if claim.low == claim.high else f"{shown(claim.low)} to {shown(claim.high)}"


def _because(claim: Claim, *, same: bool, computed: str) -> str:
    lesson = f": {claim.lesson}" if claim.lesson else ""
    if same:
        return f"{said(claim)} was published, {computed} comes out{lesson}"
    return f"{said(claim)} was published, and {computed} is right{lesson}"


def _mine(found: Study, claim: Claim) -> Costed:
    if claim.option is None:
        raise UsageError(f"{claim.what!r} needs an option.")
    costed = found.of(claim.option)
    if costed.total is None:
        raise UsageError(f"{claim.what!r}: a price of {claim.option!r} is unknown.")
    return costed


def _both(found: Study, claim: Claim) -> tuple[Costed, Costed]:
    if claim.option is None or claim.against is None or claim.option == claim.against:
        raise UsageError(f"{claim.what!r} needs an option and another one, against.")
    mine, theirs = _mine(found, claim), found.of(claim.against)
    if theirs.total is None:
        raise UsageError(f"{claim.what!r}: a price of {claim.against!r} is unknown.")
    return mine, theirs


def _pair(found: Study, claim: Claim) -> Against:
    mine, theirs = _both(found, claim)
    return found.pair(mine.option.name, theirs.option.name)


def _bounds(found: Study, claim: Claim) -> Bounds:
    mine = _mine(found, claim)
    assert mine.total is not None
    if claim.year is None:
        return mine.total
    if claim.year > len(mine.by_year):
        raise UsageError(f"{claim.what!r}: the horizon has no year {claim.year}.")
    return mine.by_year[claim.year - 1]


def _total(found: Study, claim: Claim) -> float:
    bounds = _bounds(found, claim)
    return {"low": bounds.low, "typical": bounds.typical, "high": bounds.high}[claim.end]


def _even(found: Study, claim: Claim) -> float:
    """What an alternative without a purchase would have to cost each month to come to the same."""
    months = found.scenario.months if claim.year is None else min(found.scenario.months, MONTHS * claim.year)
    return _total(found, claim) / months


def _line(found: Study, claim: Claim) -> float:
    lines = dict(_mine(found, claim).lines)
    if claim.line is None:
        raise UsageError(f"{claim.what!r} needs a line.")
    if claim.line not in lines:
        raise UsageError(f"{claim.what!r}: no line {str(claim.line)[:60]!r}.")
    return lines[claim.line]


def _months(found: Study, claim: Claim) -> float | None:
    pair = _pair(found, claim)
    return {"low": pair.soonest, "typical": pair.time, "high": pair.latest}[claim.end].months


def _double(found: Study, claim: Claim) -> float | None:
    """Break-even with the error of counting what was bought twice: as the sum, and as write-off off the saving."""
    mine, theirs = _both(found, claim)
    if mine.with_write_off is None or theirs.per_month is None or mine.paid_once is None:
        return None
    saving = theirs.per_month - mine.with_write_off
    return None if saving <= 0 else mine.paid_once / saving


def _volume(found: Study, claim: Claim, *, requests: bool) -> float | None:
    factor, volume = _pair(found, claim).volume.factor, found.scenario.volume
    if factor is None or volume is None:
        return None
    return factor * ((volume.requests or 0.0) if requests else volume.tokens)


def _share(claim: Claim, part: float, whole: float) -> float:
    if not whole:
        raise UsageError(f"{claim.what!r} is a share of what costs nothing.")
    return part / whole


def _ratio(found: Study, claim: Claim) -> float:
    _, theirs = _both(found, claim)
    assert theirs.total is not None
    return _share(claim, _total(found, claim), theirs.total.typical)


def _days(found: Study) -> float:
    return found.scenario.hours_per_month / 24.0


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


Metric = Callable[[Study, Claim], float | None]
METRICS: dict[str, Metric] = {
    "total": _total,
    "even_per_month": _even,
    "paid_once": lambda found, claim: _mine(found, claim).paid_once,
    "per_day": lambda found, claim: _times(_mine(found, claim).per_month, 1 / _days(found)),
    "per_month": lambda found, claim: _mine(found, claim).per_month,
    "per_year": lambda found, claim: _times(_mine(found, claim).per_month, MONTHS),
    "per_hour": lambda found, claim: _mine(found, claim).per_hour,
    "per_useful_hour": lambda found, claim: _mine(found, claim).per_useful_hour,
    "per_million_tokens": lambda found, claim: _mine(found, claim).per_million_tokens,
    "per_million_input": lambda found, claim: _mine(found, claim).per_million_input,
    "per_million_output": lambda found, claim: _mine(found, claim).per_million_output,
    "income_per_day": lambda found, claim: _times(
        _mine(found, claim).income, 1 / (_days(found) * found.scenario.months)
    ),
    "margin": lambda found, claim: _mine(found, claim).margin,
    "with_write_off": lambda found, claim: _mine(found, claim).with_write_off,
    "line": _line,
    "line_per_year": lambda found, claim: _line(found, claim) * MONTHS / found.scenario.months,
    "line_share": lambda found, claim: _share(claim, _line(found, claim), _total(found, claim)),
    "break_even_months": _months,
    "break_even_years": lambda found, claim: _times(_months(found, claim), 1 / MONTHS),
    "break_even_hours": lambda found, claim: _times(_months(found, claim), found.scenario.run_hours_per_month),
    "break_even_months_if_counted_twice": _double,
    "break_even_utilization": lambda found, claim: _pair(found, claim).volume.utilization,
    "break_even_tokens_per_month": lambda found, claim: _volume(found, claim, requests=False),
    "break_even_tokens_per_day": lambda found, claim: _times(
        _volume(found, claim, requests=False), 1 / _days(found)
    ),
    "break_even_requests_per_month": lambda found, claim: _volume(found, claim, requests=True),
    "break_even_requests_per_day": lambda found, claim: _times(
        _volume(found, claim, requests=True), 1 / _days(found)
    ),
    "saves": lambda found, claim: _pair(found, claim).saves,
    "npv": lambda found, claim: _pair(found, claim).saves_present_value,
    "ratio": _ratio,
}  # fmt: skip


def _cheapest_with_write_off(found: Study) -> str | None:
    costs = {
        one.option.name: one.per_month if one.with_write_off is None else one.with_write_off
        for one in found.costed
        if one.per_month is not None
    }
    return min(costs, key=lambda name: costs[name] or 0.0) if costs else None


_WORDS: dict[str, Callable[[Study], str | None]] = {
    "cheapest": lambda found: found.winner,
    "cheapest_per_month_with_write_off": _cheapest_with_write_off,
}
