"""A study of costs -> what a report says of money: flows, break-evens of the ways that count, and the tornado."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from selfhost.report.choice import Apis, Choice
from selfhost.report.types import Assumption, Bar, BreakEven, CashFlow, Cost, Kind, Number, Source, Tornado
from selfhost.throughput.types import Range

if TYPE_CHECKING:
    from selfhost.cost import study as studies
    from selfhost.cost.breakeven import Amount
    from selfhost.cost.types import Assumption as Assumed

    # By option and what it is against: the volume, and the copies that it takes where more than planned are counted.
    Volumes = Mapping[tuple[str, str], tuple[Amount, int | None]]
    # From a way and its rivals to its lead over the best of them, and to what moves that.
    Swings = Callable[[str, tuple[str, ...]], tuple[float, tuple[studies.Swing, ...]]]

_KINDS: dict[str, Kind] = {"buy": "buy", "rent": "rent", "api": "api"}


def source_of(text: str | None, date: str | None) -> Source | None:
    """A source as prices and assumptions name it: an address, a sentence, or nothing."""
    if text is None:
        return None
    address = next((word for word in text.split() if word.startswith(("https://", "http://"))), None)
    return Source(text=text, url=address, date=date)


def _setting(value: float, unit: str) -> str:
    """A value with its unit, as short as it goes: shares in per cent, multiples with ×."""
    if unit.startswith("ratio") or unit == "":
        return f"{value:.3g}" if value > 1 else f"{100 * value:.4g}%"
    if unit.startswith("times"):
        return f"{value:,.3g}×"
    amount = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
    return f"{amount} {unit}"


def _short(unit: str) -> str:
    """Of a price the currency alone."""
    return unit.split("/", 1)[0] if unit[:3].isupper() and "/" in unit else unit


def _ends(low: float, high: float, unit: str) -> tuple[str, str]:
    """Both ends, the unit at the second alone."""
    unit = _short(unit)
    first, last = _setting(low, unit), _setting(high, unit)
    return first.removesuffix(f" {unit}") if unit else first, last


def assumptions_of(found: tuple[Assumed, ...]) -> tuple[Assumption, ...]:
    """Every assumption of a study, with its bounds and its source."""
    listed = []
    for one in found:
        value = _setting(one.typical, one.unit)
        if one.varies:
            low, high = _ends(one.low, one.high, one.unit)
            value += f" ({low} … {high.removesuffix(f' {_short(one.unit)}')})"
        listed.append(Assumption(name=one.key, value=value, source=source_of(one.source, one.date)))
    return tuple(listed)


def cost_of(
    study: studies.Study,
    choice: Choice,
    *,
    apis: Apis | None = None,
    volumes: Volumes | None = None,
    swings: Swings | None = None,
) -> Cost:
    """What a report says of a study.

    Args:
        study: of the ways that are compared.
        choice: what the report recommends.
        apis, volumes, swings: as `build_report` takes them.
    """
    scenario = study.scenario
    volume = None if scenario.volume is None else scenario.volume.output_tokens
    return Cost(
        currency=scenario.currency,
        months=scenario.months,
        tokens_per_month=volume,
        flows=tuple(_flow(one, choice, apis, study.assumptions) for one in study.costed),
        break_evens=_break_evens(study, choice.option, volume, volumes or {}),
        tornado=_tornado(study, choice, swings),
    )


def _prices_of(name: str, assumed: tuple[Assumed, ...]) -> tuple[Source, ...]:
    """Sources of the prices that an option rests on most: of its tokens, its GPU-hours or its GPUs."""
    condition = name.removeprefix("buy ")
    keys = {
        f"GPU-hour, {name.removeprefix('rent ')}", f"GPU price, {condition}", f"server of 8 GPUs, {condition}",
    }  # fmt: skip
    found = [one for one in assumed if one.key in keys or one.key.startswith(f"{name}: ")]
    sources = (source_of(one.source, one.date) for one in found)
    return tuple(dict.fromkeys(one for one in sources if one is not None))


def _flow(one: studies.Costed, choice: Choice, apis: Apis | None, assumed: tuple[Assumed, ...]) -> CashFlow:
    option = one.option
    sources = _prices_of(option.name, assumed)
    total = (
        None
        if one.total is None
        else Range(low=one.total.low, typical=one.total.typical, high=one.total.high)
    )
    return CashFlow(
        name=option.name,
        kind=_KINDS.get(option.kind, "buy"),
        chosen=option.name == choice.option,
        foreign=apis is not None and option.kind == "api" and option.name not in apis.same,
        cumulative=tuple(accumulate(one.cash_flow)),
        total=Number(value=total, unit="money", sources=sources),
        net_present=Number(value=_exactly(one.present_value), unit="money"),
        per_million=Number(value=_exactly(one.per_million_output), unit="money", sources=sources),
        because="; ".join(option.unknown) or None,
        sources=sources,
    )


def _exactly(value: float | None) -> Range | None:
    return None if value is None else Range(low=value, typical=value, high=value)


def _break_evens(
    study: studies.Study, recommended: str | None, volume: float | None, volumes: Volumes
) -> tuple[BreakEven, ...]:
    """The pairs that decide something.

    Of every way to buy and of the cheapest rent against every API, of buying against that rent, and of what is
    recommended against all others but what is bought, whose own line says it. An API costs nothing at the start:
    it has nothing to win back.
    """
    kinds = {one.option.name: one.option.kind for one in study.costed}
    rents = [one for one in study.costed if one.option.kind == "rent" and one.total is not None]
    cheapest = (
        min(rents, key=lambda one: one.total.typical if one.total else 0.0).option.name if rents else None
    )
    found = []
    for pair in study.pairs:
        mine, theirs = kinds[pair.option], kinds[pair.against]
        own = theirs == "api" and (mine in ("buy", "other") or pair.option == cheapest)
        bought = mine == "buy" and pair.against == cheapest
        if mine == "api" or not (own or bought or (pair.option == recommended and theirs != "buy")):
            continue
        amount, copies = volumes.get((pair.option, pair.against), (pair.volume, None))
        factor = amount.factor
        found.append(
            BreakEven(
                option=pair.option,
                against=pair.against,
                months=pair.time.months,
                soonest=pair.soonest.months,
                latest=pair.latest.months,
                tokens_per_month=None if factor is None or volume is None else factor * volume,
                utilization=amount.utilization,
                copies=copies,
                because=pair.time.reason
                or _too_late(pair.time.months, study.scenario.months)
                or amount.reason
                or "",
            )
        )
    return tuple(found)


def _too_late(months: float | None, horizon: int) -> str | None:
    """Why a break-even counts for nothing; as `selfhost cost` says it."""
    return None if months is None or months <= horizon else f"not within {horizon} months"


def _tornado(study: studies.Study, choice: Choice, swings: Swings | None) -> Tornado | None:
    """Of the recommended way against the best comparable one of another kind, or of any where all are of one kind."""
    option, base, moved = study.winner, study.lead, study.swings
    if swings is not None and choice.option is not None:
        option = choice.option
        kinds = {one.option.name: one.option.kind for one in study.costed}
        others = tuple(name for name in choice.comparable if name != option)
        rivals = tuple(name for name in others if kinds[name] != kinds[option]) or others
        base, moved = swings(option, rivals) if rivals else (None, ())
    elif swings is not None:  # nothing is recommended, so nothing can be turned over
        return None
    if option is None or base is None or not moved:
        return None
    winners = [name for swing in moved for name in (swing.winner_at_low, swing.winner_at_high)]
    # Where the option leads, whoever beats it turns the decision; where it trails, its own win does.
    today = option if base >= 0 else max(set(winners) - {option}, key=winners.count, default=option)
    bars = tuple(
        Bar(
            name=swing.assumption.key,
            low_setting=_ends(swing.assumption.low, swing.assumption.high, swing.assumption.unit)[0],
            high_setting=_ends(swing.assumption.low, swing.assumption.high, swing.assumption.unit)[1],
            low=swing.at_low,
            high=swing.at_high,
            instead=next(
                (name for name in (swing.winner_at_low, swing.winner_at_high) if name != today), None
            ),
        )
        for swing in moved
    )
    return Tornado(option=option, base=base, bars=bars)
