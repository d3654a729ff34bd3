"""Facts of a report -> what may go wrong with it, each by a rule that says when it applies."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.licence import Verdict
from selfhost.place import NODE_GPUS
from selfhost.report.types import Bill, Cost, Curve, GpuOption, Recommendation, Risk
from selfhost.units import GIB

# Ours: a price whose published bounds lie this far apart is a reason to ask for a quote.
_WIDE = 1.5
_NAMED = 3  # assumptions that turn the decision over; more would hide the first


def _gib(size: int) -> str:
    return f"{size / GIB:,.2f}"


def risks_of(
    *,
    recommendation: Recommendation,
    bill: Bill,
    chosen: GpuOption | None,
    curve: Curve,
    cost: Cost | None,
    licence: Verdict | None,
    gpus_per_copy: int,
    replicas: int,
    saturated: bool,
    warnings: tuple[str, ...],
) -> tuple[Risk, ...]:
    """Every risk that applies, in the order of the parts of the report.

    Args:
        recommendation, bill, curve, cost, licence: parts of the report.
        chosen: the option of the plan, None where it is not listed.
        gpus_per_copy, replicas: of the plan.
        saturated: more arrives than is served.
        warnings: pitfalls that the advice raised, in its own words.
    """
    found = [*_of_memory(bill), *_of_speed(recommendation, curve, saturated=saturated)]
    found += _of_money(recommendation, chosen, cost)
    found += _of_licence(licence)
    if recommendation.kind == "api":
        found += [Risk(key="api_changes"), Risk(key="api_data")]
    else:
        if gpus_per_copy > NODE_GPUS:
            found.append(Risk(key="nodes"))
        if replicas == 1:
            found.append(Risk(key="single"))
        found.append(Risk(key="private_is_not_safe"))
    found += [Risk(key="said", values=(("text", text),)) for text in warnings]
    found.append(Risk(key="quality"))
    return tuple(found)


def _of_memory(bill: Bill) -> Iterator[Risk]:
    if bill.short_bytes:
        yield Risk(key="does_not_fit", values=(("gib", _gib(bill.short_bytes)),), severe=True)
    free = next((term.bytes for term in bill.terms if term.name == "free"), None)
    if bill.certainty_bytes is None:
        yield Risk(key="uncertain_memory")
    elif free is not None and 0 <= free < bill.certainty_bytes:
        yield Risk(key="tight", values=(("free", _gib(free)), ("certainty", _gib(bill.certainty_bytes))))


def _of_speed(recommendation: Recommendation, curve: Curve, *, saturated: bool) -> Iterator[Risk]:
    if saturated:
        yield Risk(key="saturated", severe=True)
    speed = recommendation.speed.value
    if speed is None:
        yield Risk(key="speed_unknown")
    elif not curve.measured:
        yield Risk(
            key="speed_estimated", values=(("low", f"{speed.low:,.0f}"), ("high", f"{speed.high:,.0f}"))
        )


def _of_money(recommendation: Recommendation, chosen: GpuOption | None, cost: Cost | None) -> Iterator[Risk]:
    if cost is None:
        return
    unknown = [flow.name for flow in cost.flows if not flow.cumulative]
    if unknown:
        yield Risk(key="price_unknown", values=(("list", ", ".join(unknown)),))
    price = chosen.purchase if chosen is not None and recommendation.kind == "buy" else None
    if (
        chosen is not None
        and price is not None
        and price.value
        and price.value.high > _WIDE * price.value.low
    ):
        values = (
            ("gpu", chosen.name),
            ("low", f"{price.value.low:,.0f}"),
            ("high", f"{price.value.high:,.0f}"),
        )
        yield Risk(key="price_spread", values=(*values, ("currency", cost.currency)))
    if cost.tornado is not None:
        for bar in [one for one in cost.tornado.bars if one.instead][:_NAMED]:
            yield Risk(key="flips", values=(("name", bar.name), ("instead", bar.instead or "")))


def _of_licence(licence: Verdict | None) -> Iterator[Risk]:
    if licence is None or licence.permission == "unknown":
        yield Risk(key="licence_unknown")
    elif licence.permission == "no":
        yield Risk(key="licence_no", severe=True)
    elif licence.permission == "conditional":
        yield Risk(key="licence_conditional")
