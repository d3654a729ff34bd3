"""Prices of everything a deployment takes, each within bounds, dated and sourced; a user's file goes before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path

from selfhost.catalog.price_types import (
    CURRENCIES,
    KINDS,
    Condition,
    Figure,
    Observation,
    PriceError,
    Term,
    Tier,
    first_day,
)

__all__ = ["CURRENCIES", "KINDS", "Figure", "Observation", "PriceError", "Prices", "Stale", "load_prices"]


WORLD = "001"  # UN M.49


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A row that is older than its kind stays fresh."""

    figure: Figure
    age_days: int
    fresh_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The catalogue with a user's prices before it. What it does not know is None, never 0."""

    figures: Mapping[str, Figure]

    def rows(self) -> tuple[Figure, ...]:
        """Every row, sorted by its key."""
        return tuple(self.figures[key] for key in sorted(self.figures))

    def _row(self, kind: str, *keys: str) -> Figure | None:
        return self.figures.get(".".join((kind, *keys)))

    def gpu_purchase(self, gpu_id: str, condition: Condition = "new") -> Figure | None:
        """Price of one GPU, as the card or module alone."""
        return self._row("gpu_purchase", _whole(gpu_id), condition)

    def server_purchase(self, gpu_id: str, gpus: int) -> Figure | None:
        """Price of a whole server with so many GPUs in it, where one was published."""
        return self._row("server_purchase", _whole(gpu_id), str(gpus))

    def gpu_rental(self, gpu_id: str, tier: Tier, term: Term = "on-demand") -> Figure | None:
        """Price of one GPU for an hour, with its share of the machine around it."""
        return self._row("gpu_rental", _whole(gpu_id), tier, term)

    def server_overhead(self, kind: str = "datacenter") -> Figure | None:
        """What the server around the GPUs costs, as a share of the GPUs' price.

        Args:
            kind: `datacenter` (chassis, CPUs, memory, storage, network cards of an 8-GPU server).
        """
        return self._row("server_overhead", kind)

    def host(self, kind: str = "workstation") -> Figure | None:
        """Price of a machine without its GPUs: `workstation` for one to four cards, `refurbished` server."""
        return self._row("host", kind)

    def network_overhead(self, kind: str = "cluster") -> Figure | None:
        """What switches, transceivers and cables between several servers cost, as a share of the servers' price."""
        return self._row("network_overhead", kind)

    def node_power(self, kind: str = "datacenter") -> Figure | None:
        """Power in kW that a machine draws besides its GPUs: `datacenter` or `workstation`."""
        return self._row("node_power", kind)

    def electricity(self, country: str) -> Figure | None:
        """Price of a kWh for companies, without value-added tax where the statistics leave it out.

        Args:
            country: ISO 3166-1 alpha-2, in either case.
        """
        return self._row("electricity", country.upper())

    def carbon(self, country: str) -> Figure | None:
        """Grams of CO2 equivalent per kWh of a country's electricity."""
        return self._row("carbon", country.upper())

    def colocation(self, country: str) -> Figure | None:
        """Price of a kW for a month in a data centre; the world's average where a country has none of its own."""
        return self._row("colocation", country.upper()) or self._row("colocation", WORLD)

    def staff(self, country: str) -> Figure | None:
        """What one engineer who runs it costs a year."""
        return self._row("staff", country.upper())

    def staff_share(self, kind: str = "node") -> Figure | None:
        """Share of an engineer's time that it takes: of one `node`."""
        return self._row("staff_share", kind)

    def pue(self, kind: str = "colocation") -> Figure | None:
        """All power over that of the machines: `hyperscale`, `colocation`, `older` or `office`."""
        return self._row("pue", kind)

    def discount(self, kind: str = "company") -> Figure | None:
        """Yearly discount rate of a `company`."""
        return self._row("discount", kind)

    def residual(self, months: int) -> Figure | None:
        """Share of the purchase price that hardware still fetches after so many months, straight between two rows.

        None beyond the last row: nothing is known of it.
        """
        if months == 0:
            return _plain("residual", 1.0, "Nothing is lost on the first day.")
        points = sorted(
            (int(key.rpartition(".")[2]), self.figures[key])
            for key in self.figures
            if key.startswith("residual.")
        )
        before = (0, _plain("residual", 1.0, None))
        for at, figure in points:
            if at == months:
                return figure
            if at > months > 0:
                share = (months - before[0]) / (at - before[0])
                return replace(
                    figure,
                    low=before[1].low + share * (figure.low - before[1].low),
                    typical=before[1].typical + share * (figure.typical - before[1].typical),
                    high=before[1].high + share * (figure.high - before[1].high),
                    note=f"Straight between {before[0]} and {at} months.",
                )
            before = (at, figure)
        return None

    def fx(self, source: str, target: str) -> Figure:
        """How many of `target` one of `source` buys.

        Raises:
            PriceError: one of them is not USD, CNY or EUR.
        """
        source, target = currency_of(source), currency_of(target)
        if source == target:
            return _plain("ratio", 1.0, None)
        direct, inverse = self._row("fx", source, target), self._row("fx", target, source)
        if inverse is not None and (direct is None or _yours(inverse) > _yours(direct)):
            direct = replace(
                inverse, low=1 / inverse.high, typical=1 / inverse.typical, high=1 / inverse.low, seen=()
            )
        # A user's own rates hold for every pair that they say something of, also by way of USD.
        if direct is not None and ("USD" in (source, target) or _yours(direct) or not self._own_dollars()):
            return direct
        first, second = self.fx(source, "USD"), self.fx("USD", target)
        older = min(first, second, key=lambda one: first_day(one.date) if one.date else date.max)
        return replace(
            older,
            low=first.low * second.low,
            typical=first.typical * second.typical,
            high=first.high * second.high,
            note="By way of USD.",
            seen=(),
        )

    def _own_dollars(self) -> bool:
        """Whether the user gave a rate to or from USD."""
        return any(
            one is not None and _yours(one)
            for other in CURRENCIES
            for one in (self._row("fx", "USD", other), self._row("fx", other, "USD"))
        )

    def convert(self, figure: Figure, currency: str) -> Figure:
        """A price in another currency at the typical rate; what has no currency stays as it is.

        Raises:
            PriceError: the currency is not USD, CNY or EUR.
        """
        currency = currency_of(currency)
        if figure.currency is None or figure.currency == currency:
            return figure
        rate = self.fx(figure.currency, currency).typical
        return replace(
            figure,
            low=figure.low * rate,
            typical=figure.typical * rate,
            high=figure.high * rate,
            currency=currency,
            unit=figure.unit.replace(figure.currency, currency, 1),
            note=" ".join(filter(None, (figure.note, f"Converted from {figure.currency} at {rate:.4g}."))),
        )

    def stale(self, as_of: date) -> tuple[Stale, ...]:
        """Rows older than their kind stays fresh, oldest first; a user's own prices never are.

        Args:
            as_of: day to count from.
        """
        found = []
        for figure in self.rows():
            if figure.confidence == "yours":
                continue
            fresh = KINDS[figure.key.partition(".")[0]].fresh_days
            age = (as_of - first_day(figure.date)).days
            if age > fresh:
                found.append(Stale(figure=figure, age_days=age, fresh_days=fresh))
        return tuple(sorted(found, key=lambda one: (-one.age_days, one.figure.key)))


def currency_of(name: str) -> str:
    """The code of a currency in capitals.

    Raises:
        PriceError: it is not USD, CNY or EUR.
    """
    code = {"RMB": "CNY"}.get(name.strip().upper(), name.strip().upper())
    if code not in CURRENCIES:
        raise PriceError(
            f"The currency {name[:40]!r} is not known.", hint=f"Use one of {', '.join(CURRENCIES)}."
        )
    return code


def load_prices(overrides: Path | None = None) -> Prices:
    """The catalogue, and a user's YAML, TOML or JSON file before it.

    Args:
        overrides: tables as in the catalogue, such as `gpu_purchase: {h100-sxm-80gb: {new: 27000}}`; a price is a
            number or a table of `typical` with `low`, `high`, `currency`, `date`, `source` and `note`.

    Raises:
        PriceError: the file cannot be read, or has an unknown key, an impossible price or an unknown currency.
    """
    if overrides is None:
        return _catalogue()
    from selfhost.catalog.price_overrides import read_overrides

    return Prices(figures=_Before(first=read_overrides(overrides), then=_catalogue().figures))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before(Mapping[str, Figure]):
    """One set of rows before another, whose tables stay unread until they are asked for."""

    first: Mapping[str, Figure]
    then: Mapping[str, Figure]

    def __getitem__(self, key: str) -> Figure:
        return self.first[key] if key in self.first else self.then[key]

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self.first), **dict.fromkeys(self.then)})

    def __len__(self) -> int:
        return len(set(self.first) | set(self.then))


@cache
def _catalogue() -> Prices:
    from selfhost.catalog.price_rows import Rows

    return Prices(figures=Rows())


def _yours(figure: Figure) -> bool:
    return figure.confidence == "yours"


def _whole(gpu_id: str) -> str:
    return gpu_id.lower()


def _plain(unit: str, value: float, note: str | None) -> Figure:
    return Figure(
        low=value, typical=value, high=value, unit=unit, currency=None, date="2026-01-01", source=None,
        confidence="high", note=note,
    )  # fmt: skip
