"""APIs for a demand: closed ones by provider, hosts of the open models that suit, and what a month costs there."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from selfhost.advise.machines import DAYS_PER_MONTH
from selfhost.advise.onward_types import Api, Candidate, Demand
from selfhost.advise.tables import onward
from selfhost.api_prices import ApiModel, api_models, cost_of, price_of

if TYPE_CHECKING:
    from selfhost.catalog.prices import Prices

_SHOWN = 4
_LONGEST = 1 << 20  # Ours: of a model whose longest request is not known; what long ones take


def closed_offers(demand: Demand, *, country: str, frontier: bool, when: datetime) -> tuple[Api, ...]:
    """A closed model of each provider: the dearest where reasoning is what counts, else the cheapest for the demand.

    Args:
        country: in China domestic providers come first (rule 24).
        frontier: the task depends on frontier reasoning.
        when: as of which time.
    """
    rows = onward()["apis"]
    providers = rows.get(f"closed_{country}", rows["closed"])
    found = []
    for provider in providers:
        own = [one for one in _own() if one.provider == provider and one.kind == "closed"]
        priced = _priced(own, demand, when)
        if priced:
            pick = max if frontier else min
            found.append(pick(priced, key=lambda one: one.per_month))
    return tuple(found[:_SHOWN])


def hosted_offers(
    demand: Demand, models: tuple[Candidate, ...], *, country: str, when: datetime, prices: Prices
) -> tuple[Api, ...]:
    """Hosts of the models that suit; where none is known, the cheapest hosts of other open models that are current.

    Args:
        country: in China the hosts there, elsewhere the others.
        when: as of which time.
        prices: whose rates of exchange make bills in several currencies comparable.
    """
    from selfhost.catalog.models import find

    there = onward()["apis"]["hosted_CN"]
    hosted = [
        one for one in _own() if one.kind == "hosted-open" and (one.provider in there) == (country == "CN")
    ]
    wanted = [model.id.lower() for model in models]
    same = _priced([one for one in hosted if (one.weights or "").lower() in wanted], demand, when)
    bundled = [(one, None if one.weights is None else find(one.weights)) for one in hosted]
    current = [one for one, model in bundled if model is not None and model.entry.status == "current"]
    found = same or _priced(current, demand, when) or _priced(hosted, demand, when)
    return tuple(
        sorted(found, key=lambda one: one.per_month * prices.fx(one.currency, "USD").typical)[:_SHOWN]
    )


def _own() -> tuple[ApiModel, ...]:
    """The catalogue's own rows: current models, where the package of prices has every one that ever was."""
    return tuple(one for one in api_models() if one.origin == "catalogue")


def _priced(models: Iterable[ApiModel], demand: Demand, when: datetime) -> list[Api]:
    """Their prices of the demand; what has no known price, or takes no requests of that length, is left out."""
    requests = demand.requests_per_day * DAYS_PER_MONTH
    longest = demand.prompt_tokens + demand.output_tokens
    found = []
    for one in models:
        if (one.context_tokens or _LONGEST) < longest:
            continue
        price = price_of(one.provider, one.model, when=when) if one.unpriced is None else None
        if price is None:
            continue
        rates = price.at(when, prompt_tokens=demand.prompt_tokens)
        month = cost_of(
            price,
            input_tokens=requests * demand.prompt_tokens,
            output_tokens=requests * demand.output_tokens,
            prompt_tokens=demand.prompt_tokens,
        )
        found.append(
            Api(
                provider=one.provider,
                model=one.model,
                kind=one.kind,
                weights=one.weights,
                currency=price.currency,
                input=rates.input,
                output=rates.output,
                per_month=float(f"{month:.6g}"),
                date=price.date,
                source=price.source,
            )
        )
    return found
