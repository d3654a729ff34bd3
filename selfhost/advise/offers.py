"""APIs for a demand: closed ones by provider, hosts of the open models that suit, and what a month costs there."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from selfhost.advise.machines import DAYS_PER_MONTH
from selfhost.advise.onward_types import Api, Candidate, Demand
from selfhost.advise.tables import onward
from selfhost.api_prices import ApiModel, api_models, cost_of, price_of

_SHOWN = 4


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
    demand: Demand, models: tuple[Candidate, ...], *, country: str, when: datetime
) -> tuple[Api, ...]:
    """Hosts of the models that suit; where none is known, the cheapest hosts of other open models.

    Args:
        country: in China the hosts there, elsewhere the others.
        when: as of which time.
    """
    there = onward()["apis"]["hosted_CN"]
    hosted = [
        one for one in _own() if one.kind == "hosted-open" and (one.provider in there) == (country == "CN")
    ]
    wanted = [model.id.lower() for model in models]
    same = _priced([one for one in hosted if (one.weights or "").lower() in wanted], demand, when)
    found = same or _priced(hosted, demand, when)
    return tuple(sorted(found, key=lambda one: one.per_month)[:_SHOWN])


def _own() -> tuple[ApiModel, ...]:
    """The catalogue's own rows: current models, where the package of prices has every one that ever was."""
    return tuple(one for one in api_models() if one.origin == "catalogue")


def _priced(models: Iterable[ApiModel], demand: Demand, when: datetime) -> list[Api]:
    """Their prices of the demand; what has no known price is left out."""
    requests = demand.requests_per_day * DAYS_PER_MONTH
    found = []
    for one in models:
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
                currency=price.currency,
                input=rates.input,
                output=rates.output,
                per_month=round(month, 2),
                date=price.date,
                source=price.source,
            )
        )
    return found
