"""API prices of our own: dated, sourced, always there; read from prices.toml."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any

from selfhost.api_prices.types import ApiModel, ApiPrice, Rates, Tier, Window

ORIGIN = "catalogue"


@cache
def own_models() -> dict[tuple[str, str], ApiModel]:
    """Every model of the catalogue by provider and id, in lower case."""
    found = {}
    for provider, model, row in _tables():
        found[provider, model.lower()] = ApiModel(
            provider=provider,
            model=model,
            name=row["name"],
            kind=row["kind"],
            weights=row.get("weights"),
            context_tokens=row.get("context"),
            origin=ORIGIN,
            unpriced=row.get("unpriced"),
        )
    return found


@cache
def own_prices() -> dict[tuple[str, str], ApiPrice]:
    """Every price of the catalogue by provider and id, in lower case; models without a known price are left out."""
    return {
        (provider, model.lower()): _price(provider, model, row)
        for provider, model, row in _tables()
        if "unpriced" not in row
    }


def own_price(provider: str, model: str, when: date) -> ApiPrice | None:
    """The price of a model on a day: announced changes (`later`) hold from their day on.

    Args:
        provider, model: in lower case.
        when: the day, in UTC.
    """
    price = own_prices().get((provider, model))
    for start, changed in _later().get((provider, model), ()):
        if when >= start:
            price = changed
    return price


@cache
def _later() -> dict[tuple[str, str], tuple[tuple[date, ApiPrice], ...]]:
    return {
        (provider, model.lower()): tuple(
            (date.fromisoformat(change["from"]), _price(provider, model, {**row, **change}))
            for change in row["later"]
        )
        for provider, model, row in _tables()
        if "later" in row
    }


@cache
def _tables() -> tuple[tuple[str, str, Mapping[str, Any]], ...]:
    import tomllib
    from pkgutil import get_data

    tables = tomllib.loads(
        (get_data("selfhost.api_prices", "prices.toml") or b"").decode()
    )  # also out of selfhost.pyz
    return tuple(
        (provider, model, row) for provider, models in tables.items() for model, row in models.items()
    )


def _price(provider: str, model: str, row: Mapping[str, Any]) -> ApiPrice:
    batch = row.get("batch")
    return ApiPrice(
        provider=provider,
        model=model,
        currency=row.get("currency", "USD"),
        rates=_rates(row),
        tiers=_tiers(row),
        windows=tuple(
            Window(
                start=one["start"] * 2,
                end=one["end"] * 2,
                rates=_rates(one),
                weekdays=one.get("weekdays", False),
            )
            for one in row.get("windows", ())
        ),
        batch=None if batch is None else _rates(batch),
        batch_tiers=() if batch is None else _tiers(batch),
        date=row["date"],
        source=row["source"],
        confidence=row["confidence"],
        origin=ORIGIN,
        note=row.get("note"),
    )


def _tiers(row: Mapping[str, Any]) -> tuple[Tier, ...]:
    return tuple(Tier(above_tokens=one["above"], rates=_rates(one)) for one in row.get("tiers", ()))


def _rates(row: Mapping[str, Any]) -> Rates:
    cached, written = row.get("cached"), row.get("write")
    return Rates(
        input=float(row["input"]),
        output=float(row["output"]),
        cached_input=None if cached is None else float(cached),
        cache_write=None if written is None else float(written),
    )
