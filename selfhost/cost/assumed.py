"""A deployment and the price catalogue -> every assumption that its cost rests on, in bounds and with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfhost.cost.machines import BOARD_GPUS, ITSELF, Machine
from selfhost.cost.types import Assumption

if TYPE_CHECKING:
    from selfhost.catalog.price_types import Condition, Figure, Term, Tier
    from selfhost.catalog.prices import Prices

SERVER = f"server of {BOARD_GPUS} GPUs, new"  # name of the assumption


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An API to compare with, at its prices for a million tokens.

    Args:
        name: `provider/model`.
        hosted_open: whether it serves open weights.
        cached: price of cached prompt tokens, None where they cost the same as others.
        source, date: of the prices.
        note: for the user, None for nothing.
        unpriced: why no price is known; None where one is.
        fresh_until: last day, YYYY-MM-DD, on which the prices are fresh; None for no such day.
    """

    name: str
    hosted_open: bool
    currency: str
    input: float
    cached: float | None
    output: float
    source: str | None
    date: str | None
    note: str | None = None
    unpriced: str | None = None
    fresh_until: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What is compared: conditions to buy in, tiers and terms to rent by, APIs."""

    buy: tuple[Condition, ...]
    rent: tuple[tuple[Tier, Term], ...]
    apis: tuple[Offer, ...]


_OF_BOXES = (
    Assumption(
        key="machine around the GPUs",
        low=0.0,
        typical=0.0,
        high=0.0,
        unit="per machine",
        source="It is sold as a whole machine.",
    ),
    Assumption(
        key="power besides the GPUs",
        low=0.03,
        typical=0.06,
        high=0.1,
        unit="kW",
        source="Ours: between the 140 W of the chip and the 240 W of the supply (NVIDIA DGX Spark data sheet, 2025).",
    ),
)

# What no catalogue has. Every one is ours, and says why; a file of assumptions replaces it.
_OURS = (
    Assumption(
        key="volume", low=0.5, typical=1.0, high=2.0, unit="times what was asked", joint=False,
        source="Ours: half and double, as a forecast is rarely closer.",
    ),
    Assumption(
        key="API price level", low=0.5, typical=1.0, high=1.25, unit="times the list price",
        source="Ours: prices that are halved within the horizon, or raised by a quarter.",
    ),
    Assumption(
        key="rental price level", low=0.6, typical=1.0, high=1.2, unit="times the price today",
        source="Ours: AWS cut p5.48xlarge from 98.32 to 55.04 USD an hour between 2025-05 and 2026-09.",
    ),
    Assumption(
        key="GPU power at full load", low=0.6, typical=0.8, high=1.0, unit="ratio of TDP",
        source="Ours: decoding is bound by memory and stays below the limit, prompts reach it.",
    ),
    Assumption(
        key="GPU power when idle", low=0.1, typical=0.15, high=0.25, unit="ratio of TDP",
        source="Ours: an empty H100 draws 73 of 700 W (our recording, 2026-11); with weights it is more.",
    ),
    Assumption(
        key="maintenance", low=0.02, typical=0.05, high=0.1, unit="ratio of the purchase a year",
        source="Ours: spare parts and a support contract.",
    ),
    Assumption(
        key="staff for rented GPUs", low=0.3, typical=0.5, high=0.8, unit="ratio of owned nodes'",
        source="Ours: the service remains, racks, drivers and repairs go.",
    ),
    Assumption(
        key="staff for an API", low=0.0, typical=0.0, high=0.1, unit="FTE",
        source="Ours: integration is the same work either way and is left out of every option.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """All assumptions by key, and what is missing.

    Args:
        assumptions: in the order they are shown in.
        unknown: what an option lacks: `buy:new`, `rent:TIER:TERM`, or `buy` for what all owned machines need.
    """

    assumptions: tuple[Assumption, ...]
    unknown: Mapping[str, tuple[str, ...]]

    def __contains__(self, key: str) -> bool:
        return any(one.key == key for one in self.assumptions)


def assumed(
    prices: Prices,
    machine: Machine,
    ways: Ways,
    *,
    capacity: tuple[float, float, float],
    speed_source: tuple[str, str],
    months: int,
    country: str,
    currency: str,
    hosted: str = "colocation",
) -> Assumed:
    """Look everything up.

    Args:
        prices: the catalogue and the user's rows.
        machine: of one copy.
        ways: what is compared.
        capacity: low, typical and high output tokens a second of one copy at full load.
        speed_source: where that comes from, and its date.
        months: horizon.
        country: of the machines, two letters.
        currency: of the result.
        hosted: `colocation`, or `office` for a room of one's own.
    """
    found = _Found(prices, currency)
    low, typical, high = capacity
    found.add(
        Assumption(
            key="speed at full load", low=low, typical=typical, high=high, unit="output tokens/s of one copy",
            source=speed_source[0], date=speed_source[1],
        )
    )  # fmt: skip
    for one in _OURS:
        owned = one.key in ("GPU power at full load", "GPU power when idle", "maintenance")
        needed = (
            bool(ways.buy) if owned
            else bool(ways.apis) if "API" in one.key
            else bool(ways.rent) if "rent" in one.key
            else True
        )  # fmt: skip
        if needed:
            found.add(one)
    if ways.buy or ways.rent:
        found.figure("staff", prices.staff(country), "staff", f"staff in {country}", by_all=True)
        found.figure("staff share of a node", prices.staff_share("node"), "staff", "staff share", by_all=True)
    if ways.buy:
        _owned(found, prices, machine, ways, months, country, hosted)
    for tier, term in ways.rent:
        name = f"rent:{tier}:{term}"
        what = f"no {tier} price for {machine.gpu_name} by the term {term}"
        found.figure(f"GPU-hour, {tier} {term}", prices.gpu_rental(machine.gpu_id, tier, term), name, what)
    for offer in ways.apis:
        _api(found, offer)
    found.figure("discount rate", prices.discount("company"), "", "")
    if "discount rate" not in found.keys:
        found.add(
            Assumption(
                key="discount rate", low=0.04, typical=0.08, high=0.12, unit="ratio a year",
                source="Ours: about the cost of capital of companies.",
            )
        )  # fmt: skip
    return found.done()


def _owned(
    found: _Found, prices: Prices, machine: Machine, ways: Ways, months: int, country: str, hosted: str
) -> None:
    for condition in ways.buy:
        if condition == "new" and (server := server_price(prices, machine)) is not None:
            found.figure(SERVER, server, "", "")
            continue
        what = f"no {condition} purchase price for {machine.gpu_name}"
        found.figure(
            f"GPU price, {condition}",
            prices.gpu_purchase(machine.gpu_id, condition),
            f"buy:{condition}",
            what,
        )
    if machine.host == ITSELF:
        for one in _OF_BOXES:
            found.add(one)
    elif machine.host is not None:
        found.figure("machine around the GPUs", prices.host(machine.host), "buy", "price of a workstation")
        found.figure(
            "power besides the GPUs", prices.node_power("workstation"), "buy", "power of a workstation"
        )
    else:
        if SERVER not in found.keys or "used" in ways.buy:
            found.figure("server around the GPUs", prices.server_overhead(), "buy", "price of a server")
        found.figure("power besides the GPUs", prices.node_power("datacenter"), "buy", "power of a server")
    found.figure("network between nodes", prices.network_overhead(), "buy", "price of a network")
    found.figure("electricity", prices.electricity(country), "buy", f"electricity price in {country}")
    found.figure("PUE", prices.pue(hosted), "buy", "PUE")
    if hosted == "colocation":
        found.figure("colocation", prices.colocation(country), "buy", f"colocation price in {country}")
    worth = prices.residual(months)
    if worth is not None:
        found.figure("residual value", worth, "", "")
    else:
        found.add(
            Assumption(
                key="residual value", low=0.0, typical=0.0, high=0.1, unit="ratio of the purchase price",
                source="Ours: nothing is known of hardware that old, so it is taken to fetch nothing.",
            )
        )  # fmt: skip


def server_price(prices: Prices, machine: Machine) -> Figure | None:
    """Price of a whole server of a board, where one was published and the user has no price of a GPU of their own."""
    if machine.board != BOARD_GPUS:
        return None
    server, each = prices.server_purchase(machine.gpu_id, BOARD_GPUS), prices.gpu_purchase(machine.gpu_id)
    if each is not None and each.confidence == "yours" and (server is None or server.confidence != "yours"):
        return None
    return server


def _api(found: _Found, offer: Offer) -> None:
    if offer.unpriced is not None:
        return
    for part in ("input", "cached", "output"):
        price = {"input": offer.input, "cached": offer.cached, "output": offer.output}[part]
        if price is None:
            continue
        found.add(
            Assumption(
                key=f"{offer.name}: {part}", low=price, typical=price, high=price,
                unit=f"{offer.currency}/million tokens", currency=offer.currency, source=offer.source,
                date=offer.date, note=offer.note, fresh_until=offer.fresh_until,
            )
        )  # fmt: skip


class _Found:
    """Collects assumptions, the exchange rates they need, and what is missing."""

    def __init__(self, prices: Prices, currency: str) -> None:
        self.prices = prices
        self.currency = currency
        self.list: list[Assumption] = []
        self.keys: set[str] = set()
        self.missing: dict[str, list[str]] = {}

    def add(self, one: Assumption) -> None:
        if one.key in self.keys:
            return
        self.keys.add(one.key)
        self.list.append(one)
        if one.currency is not None and one.currency != self.currency:
            self.rate(one.currency)

    def rate(self, currency: str) -> None:
        rate = self.prices.fx(currency, self.currency)
        self.add(
            Assumption(
                key=rate_key(currency, self.currency), low=rate.low, typical=rate.typical, high=rate.high,
                unit=f"{self.currency}/{currency}", source=_source(rate), date=rate.date or None,
                fresh_until=_fresh_until(rate),
            )
        )  # fmt: skip

    def figure(self, key: str, figure: Figure | None, of: str, what: str, *, by_all: bool = False) -> None:
        if figure is None:
            if of:
                for each in ("buy", "rent") if by_all else (of,):
                    self.missing.setdefault(each, []).append(what)
            return
        self.add(
            Assumption(
                key=key, low=figure.low, typical=figure.typical, high=figure.high, unit=figure.unit,
                currency=figure.currency, source=_source(figure), date=figure.date or None, note=_caveat(figure),
                fresh_until=_fresh_until(figure),
            )
        )  # fmt: skip

    def done(self) -> Assumed:
        return Assumed(
            assumptions=tuple(self.list), unknown={key: tuple(value) for key, value in self.missing.items()}
        )


def _fresh_until(figure: Figure) -> str | None:
    until = figure.fresh_until
    return None if until is None else until.isoformat()


def _source(figure: Figure) -> str:
    return figure.source or f"Our price catalogue: {figure.key}, whose observations name no page"


def _caveat(figure: Figure) -> str | None:
    return (
        " ".join(filter(None, (figure.note, "Low confidence." if figure.confidence == "low" else None)))
        or None
    )


def rate_key(source: str, target: str) -> str:
    """Name of the assumption of an exchange rate."""
    return f"exchange rate {source} to {target}"


def overridden(found: Sequence[Assumption], own: Sequence[Assumption]) -> tuple[Assumption, ...]:
    """The assumptions with those of a file in their place.

    A file may be older than the command line: what this comparison does not need is left out in silence only where
    it is of an API or a way that is not asked for, so unknown names are for the caller to refuse.
    """
    by_key = {one.key: one for one in own}
    return tuple(
        replace(
            one,
            low=given.low,
            typical=given.typical,
            high=given.high,
            unit=given.unit or one.unit,
            currency=given.currency if one.currency is not None else None,
            source=given.source,
            date=given.date,
            note=given.note,
            fresh_until=one.fresh_until if (given.date, given.source) == (one.date, one.source) else None,
        )
        if (given := by_key.get(one.key)) is not None
        else one
        for one in found
    )
