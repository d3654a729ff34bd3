"""A study of costs -> what a report says of money: flows, break-evens of the ways that count, and the tornado."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from selfhost.report.types import Assumption, Bar, BreakEven, CashFlow, Cost, Kind, Number, Source, Tornado
from selfhost.throughput.types import Range

if TYPE_CHECKING:
    from selfhost.cost import study as studies
    from selfhost.cost.types import Assumption as Assumed

_KINDS: dict[str, Kind] = {"buy": "buy", "rent": "rent", "api": "api"}
_OURS = "Ours:"


def source_of(text: str | None, date: str | None) -> Source | None:
    """A source as prices and assumptions name it: an address, a sentence, or nothing."""
    if text is None:
        return None
    address = next((word for word in text.split() if word.startswith(("https://", "http://"))), None)
    return Source(text=text, url=address, date=date)


def _setting(value: float, unit: str) -> str:
    """A value with its unit, as short as it goes: shares in per cent, multiples with ×."""
    if unit.startswith("ratio") or unit == "":
        return f"{value:.3g}" if value > 1 else f"{value:.3%}".replace(".000%", "%").replace("00%", "%")
    if unit.startswith("times"):
        return f"{value:,.3g}×"
    amount = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
    return f"{amount} {unit}"


def _ends(low: float, high: float, unit: str) -> tuple[str, str]:
    """Both ends, the unit at the second alone."""
    unit = unit.split("/", 1)[0] if unit[:3].isupper() and "/" in unit else unit
    first, last = _setting(low, unit), _setting(high, unit)
    return first.removesuffix(f" {unit}") if unit else first, last


def assumptions_of(found: tuple[Assumed, ...]) -> tuple[Assumption, ...]:
    """Every assumption of a study, with its bounds and its source."""
    listed = []
    for one in found:
        value = _setting(one.typical, one.unit)
        if one.varies:
            value += " ({} … {})".format(*_ends(one.low, one.high, one.unit))
        listed.append(Assumption(name=one.key, value=value, source=source_of(one.source, one.date)))
    return tuple(listed)


def cost_of(study: studies.Study, *, recommended: str | None) -> Cost:
    """What a report says of a study.

    Args:
        study: of the ways that are compared.
        recommended: name of the option that the report recommends, None for none.
    """
    scenario = study.scenario
    volume = None if scenario.volume is None else scenario.volume.output_tokens
    return Cost(
        currency=scenario.currency,
        months=scenario.months,
        tokens_per_month=volume,
        flows=tuple(_flow(one, recommended) for one in study.costed),
        break_evens=_break_evens(study, recommended, volume),
        tornado=_tornado(study),
    )


def _flow(one: studies.Costed, recommended: str | None) -> CashFlow:
    option = one.option
    total = (
        None
        if one.total is None
        else Range(low=one.total.low, typical=one.total.typical, high=one.total.high)
    )
    return CashFlow(
        name=option.name,
        kind=_KINDS.get(option.kind, "buy"),
        chosen=option.name == recommended,
        cumulative=tuple(accumulate(one.cash_flow)),
        total=Number(value=total, unit="money"),
        net_present=Number(value=_exactly(one.present_value), unit="money"),
        per_million=Number(value=_exactly(one.per_million_output), unit="money"),
        because="; ".join(option.unknown) or None,
        sources=(),
    )


def _exactly(value: float | None) -> Range | None:
    return None if value is None else Range(low=value, typical=value, high=value)


def _break_evens(
    study: studies.Study, recommended: str | None, volume: float | None
) -> tuple[BreakEven, ...]:
    """The pairs that decide something.

    Of every way to buy and of the cheapest rent against every API, of buying against that rent, and of what is
    recommended against all others. An API costs nothing at the start: it has nothing to win back.
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
        if mine == "api" or not (own or bought or pair.option == recommended):
            continue
        factor = pair.volume.factor
        found.append(
            BreakEven(
                option=pair.option,
                against=pair.against,
                months=pair.time.months,
                soonest=pair.soonest.months,
                latest=pair.latest.months,
                tokens_per_month=None if factor is None or volume is None else factor * volume,
                utilization=pair.volume.utilization,
                because=pair.time.reason or pair.volume.reason or "",
            )
        )
    return tuple(found)


def _tornado(study: studies.Study) -> Tornado | None:
    if study.winner is None or study.lead is None or not study.swings:
        return None
    bars = tuple(
        Bar(
            name=swing.assumption.key,
            low_setting=_ends(swing.assumption.low, swing.assumption.high, swing.assumption.unit)[0],
            high_setting=_ends(swing.assumption.low, swing.assumption.high, swing.assumption.unit)[1],
            low=swing.at_low,
            high=swing.at_high,
            instead=next(
                (name for name in (swing.winner_at_low, swing.winner_at_high) if name != study.winner), None
            ),
        )
        for swing in study.swings
    )
    return Tornado(option=study.winner, base=study.lead, bars=bars)
