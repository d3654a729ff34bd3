"""From a path to what follows: a load, models that suit and may be used, GPUs, speed, cost, and what to type next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from selfhost.advise.commands import BOUGHT, commands_for, parts_of
from selfhost.advise.decide import facts_of, wished
from selfhost.advise.facts import currency_said
from selfhost.advise.machines import DAYS_PER_MONTH, Found, Wanted, hardware_for
from selfhost.advise.match import Facts, holds
from selfhost.advise.offers import closed_offers, hosted_offers
from selfhost.advise.onward_lines import lines_of
from selfhost.advise.onward_types import Api, Candidate, Demand, Onward, Total
from selfhost.advise.tables import onward as rows
from selfhost.advise.tables import word
from selfhost.advise.types import Advice, Answers, Language
from selfhost.advise.wishes import Wish, wish_of
from selfhost.errors import SelfhostError
from selfhost.licence.types import USES, Use

if TYPE_CHECKING:
    from selfhost.catalog.prices import Prices
    from selfhost.model.spec import ModelSpec

Bill = Callable[["ModelSpec", Found, Wanted], tuple[Total, ...]]
SECONDS_PER_DAY = 86_400
CALLED = ("closed-cloud", "hosted-open", "hybrid")
_BESIDE = 2  # Ours: hosts, and closed models, beside GPUs: enough to see whether an API costs less
OWN = (
    "open-private",
    "open-cloud",
    "hybrid",
    "closed-private",
)  # of the last, an open model as the yardstick


def go_on(
    answers: Answers,
    advice: Advice,
    *,
    language: Language,
    load: Callable[[str], ModelSpec],
    prices: Prices,
    when: datetime,
    advice_file: str | None = None,
    bill: Bill | None = None,
) -> Onward:
    """What the recommended path goes on with.

    Args:
        answers: what was said.
        advice: what was advised.
        language: of all texts.
        load: the model of a bundled repository.
        prices: the catalogue of prices.
        when: as of which time APIs are priced.
        advice_file: where the advice is written, for the report; None where it is not.
        bill: what the GPUs cost with everything in; None leaves that out.
    """
    facts = facts_of(answers, lambda amount, source: amount * prices.fx(source, "CNY").typical)
    demand = demand_of(answers, facts)
    use: Use = next((one for one in USES if one == answers.choice("use")), "commercial")
    country = answers.choice("country")
    currency = currency_said(answers)
    if currency is None:  # amounts without one are read in CNY, as the rules have them
        currency = "CNY" if {"upfront_budget", "monthly_spend"} & answers.values.keys() else "USD"
    models = candidates(facts, wished(answers), use=use, language=language)
    apis = _apis(advice, demand, models, facts, country, when, prices)
    if advice.path == "hosted-open":  # what somebody does run comes before what suits and nobody is known to
        models = _hosted_first(apis, models, use, language)
    wanted = Wanted(
        demand=demand,
        country=country,
        capital=advice.path in BOUGHT,
        currency=currency,
        latency_ms=answers.number("latency_ms"),
        prices=prices,
    )
    found = _machines(models, wanted, load)
    longest = None if found is not None else _longest(models, load)
    hardware = None if found is None else found.hardware
    onward = Onward(
        demand=demand,
        models=models,
        hardware=hardware,
        cost=None if found is None else found.cost,
        totals=() if bill is None or found is None else bill(load(found.hardware.model), found, wanted),
        parts=parts_of(hardware),
        longest_tokens=longest,
        apis=apis,
        commands=commands_for(
            advice,
            demand,
            models,
            hardware,
            apis,
            use=use,
            currency=currency,
            country=country,
            language=language,
            advice_file=advice_file,
        ),
    )
    onward = _within_budget(onward, advice, answers, prices, currency)
    return replace(onward, lines=lines_of(onward, advice.path, answers.number("latency_ms"), language))


def _within_budget(onward: Onward, advice: Advice, answers: Answers, prices: Prices, currency: str) -> Onward:
    """Whether what the path costs stays within what was answered."""
    upfront, monthly = answers.number("upfront_budget"), answers.number("monthly_spend")
    cost = onward.cost
    capital = None if cost is None or cost.capital is None else cost.capital.typical
    used = onward.apis if advice.path in CALLED else ()
    bills = [one.per_month * prices.fx(one.currency, currency).typical for one in used]
    if advice.path == "open-cloud" and cost is not None and cost.per_month is not None:
        bills = [cost.per_month.typical]
    return replace(
        onward,
        within_upfront_budget=None
        if advice.path != "open-private" or upfront is None or capital is None
        else capital <= upfront,
        within_monthly_spend=None if monthly is None or not bills else min(bills) <= monthly,
    )


def demand_of(answers: Answers, facts: Facts) -> Demand:
    """The load that was said, and what has to be assumed of it."""
    table = rows()["load"]
    assumed = []
    requests = answers.number("requests_per_day")
    if requests is None:
        by_scale = table["requests_per_day"].get(answers.choice("scale"))
        requests = float(by_scale or table["by_stage"][str(facts["stage"])])
        assumed.append("requests_per_day")
    tokens = {}
    for key in ("prompt_tokens", "output_tokens"):
        said = answers.number(key)
        tokens[key] = max(1, round(said if said is not None else table[key]))
        assumed += [key] if said is None else []
    return Demand(
        requests_per_day=requests,
        prompt_tokens=tokens["prompt_tokens"],
        output_tokens=tokens["output_tokens"],
        peak_requests_per_second=requests / SECONDS_PER_DAY * table["peak"][answers.choice("load")],
        tokens_per_month=requests * DAYS_PER_MONTH * (tokens["prompt_tokens"] + tokens["output_tokens"]),
        assumed=tuple(assumed),
    )


def candidates(facts: Facts, wish: Wish | None, *, use: Use, language: Language) -> tuple[Candidate, ...]:
    """Models of the size that suits whose licence permits the use, the one that was named first."""
    from selfhost.catalog.models import find

    suits = next(row for row in rows()["suits"] if holds(row["when"], facts))
    found = []
    if wish is not None and wish.permission in ("yes", "conditional") and facts["model_fit"] != "oversized":
        bundled = find(wish.name) if wish.name else None
        if bundled is not None:
            found.append(_candidate(wish_of(bundled.id, use=use), word("why-own-wish", language)))
    for name in rows()["sizes"][suits["size"]]:
        one = wish_of(name, use=use)
        if one.permission == "yes" and all(one.name != had.id for had in found):
            found.append(_candidate(one, word(suits["because"], language)))
    return tuple(found)


def _hosted_first(
    apis: tuple[Api, ...], models: tuple[Candidate, ...], use: Use, language: Language
) -> tuple[Candidate, ...]:
    """The model that was named, those behind the offers, the cheapest host's first, then the others."""
    known = {model.id.lower(): model for model in models}
    named = word("why-own-wish", language)
    first = {model.id: model for model in models if model.because == named}
    for name in dict.fromkeys(one.weights for one in apis if one.weights is not None):
        one = known.get(name.lower()) or _candidate(wish_of(name, use=use), word("why-hosted", language))
        if one.permission in ("yes", "conditional"):
            first[one.id] = one
    return (*first.values(), *(model for model in models if model.id not in first))


def _candidate(wish: Wish, because: str) -> Candidate:
    return Candidate(
        id=wish.name,
        parameters_b=None if wish.parameters_b is None else round(wish.parameters_b, 2),
        licence=wish.licence,
        permission=wish.permission,
        openness=wish.openness,
        obligations=wish.obligations,
        because=because,
    )


def _machines(
    models: tuple[Candidate, ...], wanted: Wanted, load: Callable[[str], ModelSpec]
) -> Found | None:
    """GPUs for the first model that can be sized and placed."""
    for model in models:
        try:
            found = hardware_for(load(model.id), wanted)
        except SelfhostError:  # one model that cannot be sized is no reason to have none
            continue
        if found is not None:
            return replace(found, hardware=replace(found.hardware, model=model.id))
    return None


def _longest(models: tuple[Candidate, ...], load: Callable[[str], ModelSpec]) -> int | None:
    """Longest request that any of the models takes."""
    found = []
    for model in models:
        try:
            found.append(load(model.id).facts.max_context_tokens)
        except SelfhostError:
            continue
    return max(found, default=None)


def _apis(
    advice: Advice,
    demand: Demand,
    models: tuple[Candidate, ...],
    facts: Facts,
    country: str,
    when: datetime,
    prices: Prices,
) -> tuple[Api, ...]:
    """Offers of APIs on the paths that use one; beside GPUs where the data may leave, as rule 4 has totals compared."""
    if advice.path == "hosted-open":
        return hosted_offers(demand, models, country=country, when=when, prices=prices)
    if advice.path in ("closed-cloud", "hybrid", "closed-private"):  # of the last as a yardstick
        return closed_offers(demand, country=country, frontier=facts["frontier"] == "yes", when=when)
    if facts["private"] == "yes":
        return ()
    same = [] if not models else hosted_offers(demand, models[:1], country=country, when=when, prices=prices)
    hosts = [one for one in same if (one.weights or "").lower() == models[0].id.lower()]
    closed = closed_offers(demand, country=country, frontier=False, when=when)
    return (*hosts[:_BESIDE], *closed[:_BESIDE])
