"""A study of costs for people: what is cheapest, by how much, from where on it is not, and what that rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from selfhost.cli._cost_facts import Copies
from selfhost.cli._output import facts, headline, next_step, say, table
from selfhost.cost.types import MONTHS

if TYPE_CHECKING:
    from datetime import date

    from selfhost.cost.breakeven import Amount
    from selfhost.cost.published import Held
    from selfhost.cost.rules import Judged
    from selfhost.cost.study import Against, Costed, Study, Swing
    from selfhost.cost.types import Assumption

_MOST_TABLES = 4  # of break-evens; --json has all
_MOST_SWINGS = 8
_MOST_RULES = 3
_MOST_YEARLY, _MOST_YEARS = 6, 5
_SAME = 1e-9  # of a total, as arithmetic leaves it
_LATE = ", too late"
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def amount(value: float | None, digits: int | None = None) -> str:
    """Money for people: whole from a thousand on, and never fewer than three figures below it."""
    if value is None:
        return "unknown"
    size = abs(value)
    if digits is None and 0 < size < 0.001:
        return f"{value:.2g}"
    places = digits if digits is not None else 0 if size >= 1000 else 2 if size >= 0.1 or size == 0 else 4
    return f"{value:,.{places}f}"


def count(value: float) -> str:
    """A number of tokens: `1.2B`, `350M`."""
    for scale, letter in _SCALES:
        if value >= scale:
            return (
                f"{value / scale:,.3g}{letter}" if value < 1000 * scale else f"{value / scale:,.0f}{letter}"
            )
    return f"{value:,.3g}"


def show(
    found: Study,
    *,
    title: str,
    held: Sequence[Held],
    copies: Copies,
    rules: Sequence[Judged],
    notes: Sequence[str],
    onward: tuple[str, str],
    today: date,
) -> None:
    """Print everything.

    Args:
        found: the study.
        title: what is compared.
        held: published numbers, empty without.
        copies: break-even volumes with more copies.
        rules: of thumb; those that say otherwise are shown.
        notes: sentences for the user.
        onward: the next command, and why.
        today: by which prices are stale.
    """
    headline(_answer(found, copies))
    click.echo()
    _options(found)
    _breakevens(found, copies)
    _flips(found)
    _published(held)
    _rules(rules)
    _assumptions(found.assumptions, today)
    unknown = [
        f"{one.option.name} is unknown and left out: {'; '.join(one.option.unknown)}{_give(one)}."
        for one in found.costed
        if one.option.unknown
    ]
    own = [note for one in found.costed for note in one.option.notes]
    lines = [*unknown, *own, *notes]
    if lines:
        click.echo()
    for note in dict.fromkeys(lines):
        say(f"Note: {note}")
    next_step(*onward)


def _give(one: Costed) -> str:
    return " (--prices FILE can give it)" if one.option.kind in ("buy", "rent") else ""


def span(months: int) -> str:
    """`3 years`, `18 months`."""
    if months % MONTHS:
        return f"{months} month{'' if months == 1 else 's'}"
    years = months // MONTHS
    return f"{years} year{'' if years == 1 else 's'}"


def _answer(found: Study, copies: Copies) -> str:
    over = span(found.scenario.months)
    if found.winner is None:
        return f"No option can be priced over {over}: a price is unknown."
    best = found.of(found.winner)
    assert best.total is not None
    text = f"Cheapest over {over}: {found.winner}, {amount(best.total.typical)} {found.scenario.currency}"
    if best.per_million_tokens is not None:
        text += f" ({amount(best.per_million_tokens)} a million tokens)"
    others = [one for one in found.costed if one.total is not None and one.option.name != found.winner]
    if not others:
        return text + "."
    second = min(others, key=lambda one: one.total.typical if one.total else 0.0)
    assert second.total is not None
    same = abs(second.total.typical - best.total.typical) <= _SAME * abs(best.total.typical)
    text += f"; {second.option.name} costs {'the same' if same else amount(second.total.typical)}."
    return text + _other_way(found, copies, best)


def _other_way(found: Study, copies: Copies, best: Costed) -> str:
    """From which volume, or when, another kind of option is cheaper than the best one."""
    own = [one for one in found.costed if one.total is not None and one.option.kind != best.option.kind]
    volumes = []
    for one in own:
        pair = found.pair(one.option.name, best.option.name)
        shown, _ = copies.get((pair.option, pair.against), (pair.volume, None))
        if shown.factor and shown.factor > 1 and found.scenario.volume is not None:
            volumes.append((shown.factor, one.option.name))
    if volumes:
        factor, name = min(volumes)
        return f" From {_served(factor, found)} a month on {name} is cheaper."
    times = [
        (pair.time.months, one.option.name)
        for one in found.costed
        if one.total is not None and one.option.name != best.option.name
        for pair in [found.pair(one.option.name, best.option.name)]
        if pair.time.months is not None and pair.time.months > found.scenario.months
    ]
    if times:
        months, name = min(times)
        return f" {name} is cheaper after {months / MONTHS:,.2f} years only, not within {span(found.scenario.months)}."
    if best.option.kind == "api" and found.scenario.volume is not None and own:
        return " At no volume is another way cheaper."
    return ""


def _options(found: Study) -> None:
    currency = found.scenario.currency
    priced = sorted(found.costed, key=lambda each: each.total.typical if each.total else float("inf"))
    rows: list[tuple[str, ...]] = []
    for one in priced:
        bounds = one.total
        if bounds is None:
            rows.append((one.option.name, "unknown", "", "", ""))
            continue
        ends = "" if bounds.low == bounds.high else f"{_short(bounds.low)} to {_short(bounds.high)}"
        rows.append(
            (
                one.option.name,
                *map(amount, (bounds.typical,)),
                ends,
                *map(amount, (one.per_month, one.present_value)),
            )
        )
    heads = ("option", f"{currency} in all", "low to high", "a month", "worth now")
    table([(head, "left" if number == 0 else "right") for number, head in enumerate(heads)], rows, wrap=0)
    _units([one for one in priced if one.total is not None])
    _years([one for one in priced if one.total is not None][:_MOST_YEARLY])


def _units(costed: Sequence[Costed]) -> None:
    """What an hour and a million tokens cost, which prompts and answers share."""
    if not any(one.per_million_tokens is not None for one in costed):
        return
    click.echo()
    heads = ("at this volume", "an hour", "a Mtok", "Mtok in", "Mtok out", "used")
    rows = [
        (
            one.option.name,
            amount(one.per_hour),
            *("" if each is None else amount(each) for each in _tokens(one)),
            "" if one.utilization is None else f"{one.utilization:.0%}",
        )
        for one in costed
    ]
    table([(head, "left" if number == 0 else "right") for number, head in enumerate(heads)], rows, wrap=0)


def _tokens(one: Costed) -> tuple[float | None, float | None, float | None]:
    return one.per_million_tokens, one.per_million_input, one.per_million_output


def _years(costed: Sequence[Costed]) -> None:
    if not costed or len(costed[0].by_year) < 2:
        return
    click.echo()
    years = range(min(_MOST_YEARS, len(costed[0].by_year)))
    rows = [(one.option.name, *(amount(one.by_year[year].typical) for year in years)) for one in costed]
    heads = ("paid by the end of year", *(str(year + 1) for year in years))
    table([(head, "left" if number == 0 else "right") for number, head in enumerate(heads)], rows, wrap=0)


def _short(value: float) -> str:
    return ("-" if value < 0 else "") + (count(abs(value)) if abs(value) >= 1000 else f"{abs(value):,.0f}")


def _breakevens(found: Study, copies: Copies) -> None:
    pairs = [one for one in found.pairs if _worth_saying(one, found)]
    late = any(_when(pair, found).endswith(_LATE) for pair in pairs)
    for option in list(dict.fromkeys(pair.option for pair in pairs))[:_MOST_TABLES]:
        click.echo()
        rows = []
        for pair in pairs:
            if pair.option == option:
                shown, machines = copies.get((pair.option, pair.against), (pair.volume, None))
                rows.append((pair.against, _when(pair, found), _from(shown, machines, found)))
        say(f"{option} is cheaper")
        tokens = found.scenario.volume is not None and found.scenario.volume.tokens > 0
        heads = ("than", "after", f"from {'tokens' if tokens else 'requests'} a month")
        width = 3 if found.scenario.volume is not None else 2
        table([(head, "left") for head in heads[:width]], [row[:width] for row in rows], wrap=0)
    if pairs and late:
        say(f"Too late: not within {span(found.scenario.months)}.")
        if any(one.residual for one in found.costed):
            say(
                "After: when its cash is less for good, without what comes back at the end; volumes count that in."
            )


def _worth_saying(pair: Against, found: Study) -> bool:
    """What needs money first against what does not; between equals both ways are said by one row."""
    rank = {"buy": 0, "rent": 1, "other": 2, "api": 3}
    mine, theirs = found.of(pair.option), found.of(pair.against)
    first, second = rank[mine.option.kind], rank[theirs.option.kind]
    if first != second:
        return first < second
    return first == 2 and (mine.cash_flow[0], pair.option) > (theirs.cash_flow[0], pair.against)


def _when(pair: Against, found: Study) -> str:
    months = pair.time.months
    if months is None:
        until = pair.time.until_months
        return "never" if until is None else f"to month {until:,.1f} only"
    if months <= 0:
        return "at once"
    if months > found.scenario.months:
        return f"{months / MONTHS:,.2f} years{_LATE}"
    return f"{months:,.1f} months"


def _from(shown: Amount, machines: int | None, found: Study) -> str:
    if shown.indifferent:
        return "-"
    if shown.factor is None:
        return "never" if shown.utilization is None else f"never ({shown.utilization:.3g} of it)"
    if shown.factor == 0:
        return "at every volume"
    text = _served(shown.factor, found).rpartition(" ")[0]
    if shown.utilization is not None:
        text += f" ({shown.utilization:.0%} of {'it' if machines in (None, 1) else f'{machines} copies'})"
    return text


def _served(factor: float, found: Study) -> str:
    """So many times the volume, in tokens, or in requests where those alone are counted."""
    volume = found.scenario.volume
    assert volume is not None
    if volume.tokens:
        return f"{count(volume.tokens * factor)} tokens"
    return f"{count((volume.requests or 0.0) * factor)} requests"


def _flips(found: Study) -> None:
    if not found.swings:
        return
    flips = [one for one in found.swings if one.flips]
    click.echo()
    if flips:
        say(f"What flips it: {', '.join(one.assumption.key for one in flips[:4])}.")
    else:
        say("No assumption alone flips it.")
    table(
        (("assumption", "left"), ("low", "right"), ("high", "right"), ("saves at low", "right"),
         ("at high", "right"), ("then cheapest", "left")),
        [_swing_row(one, found) for one in found.swings[:_MOST_SWINGS]],
        wrap=0,
    )  # fmt: skip


def _swing_row(one: Swing, found: Study) -> tuple[str, ...]:
    others = [name for name in (one.winner_at_low, one.winner_at_high) if name != found.winner]
    return (
        one.assumption.key,
        _number(one.assumption.low),
        _number(one.assumption.high),
        _short(one.at_low),
        _short(one.at_high),
        others[0] if others else "the same",
    )


def _published(held: Sequence[Held]) -> None:
    if not held:
        return
    from selfhost.cost.published import said, shown

    click.echo()
    table(
        (("published", "left"), ("as", "right"), ("comes out", "right"), ("verdict", "left")),
        [(one.claim.what, said(one.claim), one.word or shown(one.computed), one.verdict) for one in held],
        wrap=0,
    )
    for one in held:
        if one.claim.lesson:
            say(f"{one.claim.what}: {one.claim.lesson}.")


def _rules(rules: Sequence[Judged]) -> None:
    otherwise = [one for one in rules if one.agrees is False]
    if not otherwise:
        return
    click.echo("\nPublished rules of thumb that say otherwise:")
    for one in otherwise[:_MOST_RULES]:
        say(f"{one.rule} ({_site(one.source)}): {one.because}.")


def _assumptions(assumptions: Sequence[Assumption], today: date) -> None:
    click.echo("\nRests on:")
    facts(
        {
            one.key: f"{_number(one.typical)} {one.unit}"
            + "".join(f"; {each}" for each in (one.date, _site(one.source)) if each)
            + "; stale" * one.is_stale(today)
            for one in assumptions
        }
    )
    if any(one.is_stale(today) for one in assumptions):
        say("Stale is what is older than its kind of price stays fresh (`selfhost catalog check`).")
    say("--json and --export-assumptions FILE have every bound and source; --assumptions FILE takes it back.")


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _site(source: str | None) -> str:
    """The site of a page, or the first word of what is no page."""
    if source is None:
        return ""
    _, scheme, rest = source.partition("://")
    return (rest.partition("/")[0].removeprefix("www.") if scheme else source.partition(":")[0])[:26]
