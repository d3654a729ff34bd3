"""From a path to what follows: a load, models that suit and may be used, GPUs, speed, cost, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from selfhost.advise.decide import facts_of, wished
from selfhost.advise.facts import currency_said
from selfhost.advise.machines import AT_ONCE, DAYS_PER_MONTH, Wanted, hardware_for
from selfhost.advise.match import Facts, holds
from selfhost.advise.offers import closed_offers, hosted_offers
from selfhost.advise.onward_lines import lines_of
from selfhost.advise.onward_types import Api, Candidate, Demand, Hardware, Money, Onward
from selfhost.advise.tables import onward as rows
from selfhost.advise.tables import word
from selfhost.advise.types import Advice, Answers, Language
from selfhost.advise.wishes import Wish, wish_of
from selfhost.errors import SelfhostError
from selfhost.licence.types import USES, Use

if TYPE_CHECKING:
    from selfhost.catalog.prices import Prices
    from selfhost.model.spec import ModelSpec

SECONDS_PER_DAY = 86_400
OWN = (
    "open-private",
    "open-cloud",
    "hybrid",
    "closed-private",
)  # of the last, an open model as the yardstick
_BOUGHT = ("open-private", "closed-private")


def go_on(
    answers: Answers,
    advice: Advice,
    *,
    language: Language,
    load: Callable[[str], ModelSpec],
    prices: Prices,
    when: datetime,
    advice_file: str | None = None,
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
    """
    facts = facts_of(answers, lambda amount, source: amount * prices.fx(source, "CNY").typical)
    demand = demand_of(answers, facts)
    use: Use = next((one for one in USES if one == answers.choice("use")), "commercial")
    country = answers.choice("country")
    currency = currency_said(answers)
    if currency is None:  # amounts without one are read in CNY, as the rules have them
        currency = "CNY" if {"upfront_budget", "monthly_spend"} & answers.values.keys() else "USD"
    models = candidates(facts, wished(answers), use=use, language=language)
    apis = _apis(advice, demand, models, facts, country, when)
    wanted = Wanted(
        demand=demand,
        country=country,
        capital=advice.path in _BOUGHT,
        currency=currency,
        latency_ms=answers.number("latency_ms"),
        prices=prices,
    )
    hardware, cost = _machines(models, wanted, load)
    onward = Onward(
        demand=demand,
        models=models,
        hardware=hardware,
        cost=cost,
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
    bills = [one.per_month * prices.fx(one.currency, currency).typical for one in onward.apis]
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
) -> tuple[Hardware | None, Money | None]:
    """GPUs for the first model that can be sized and placed."""
    for model in models:
        try:
            found = hardware_for(load(model.id), wanted)
        except SelfhostError:  # one model that cannot be sized is no reason to have none
            continue
        if found is not None:
            return replace(found[0], model=model.id), found[1]
    return None, None


def _apis(
    advice: Advice, demand: Demand, models: tuple[Candidate, ...], facts: Facts, country: str, when: datetime
) -> tuple[Api, ...]:
    """Offers of APIs on the paths that use one."""
    if advice.path == "hosted-open":
        return hosted_offers(demand, models, country=country, when=when)
    if advice.path in ("closed-cloud", "hybrid"):
        return closed_offers(demand, country=country, frontier=facts["frontier"] == "yes", when=when)
    return ()


def commands_for(
    advice: Advice,
    demand: Demand,
    models: tuple[Candidate, ...],
    hardware: Hardware | None,
    apis: tuple[Api, ...],
    *,
    use: Use,
    currency: str,
    country: str,
    language: Language,
    advice_file: str | None,
) -> tuple[str, ...]:
    """What to type next on that path."""
    if not models:
        return ("selfhost models",)
    name = models[0].id if hardware is None else hardware.model
    model = next(one for one in models if one.id == name)
    terms = ["--accept-licence", str(model.licence)] if model.permission == "conditional" else []
    lengths = ["--prompt-tokens", str(demand.prompt_tokens), "--output-tokens", str(demand.output_tokens)]
    gpu = [] if hardware is None else ["--gpu", hardware.gpu]
    gpu += ["--quant", hardware.quantization] if hardware is not None and hardware.quantization else []
    ranked = ["--rank-by", "capital" if advice.path in _BOUGHT else "cost", "--use", use, *terms]
    plan = [
        "selfhost",
        "plan",
        name,
        *gpu,
        *lengths,
        "--request-rate",
        _rate(demand),
        *ranked,
        "-o",
        "plan.json",
    ]
    requests = f"{demand.requests_per_day * DAYS_PER_MONTH:.0f}"
    month = ["--requests-per-month", requests, "--currency", currency]
    offers = [text for one in apis for text in ("--api", f"{one.provider}/{one.model}")]
    ways = ["--buy"] if advice.path in _BOUGHT else []
    where = [] if country == "unknown" else ["--country", country]
    # A plan is of one deployment; where the load takes several, so many copies are priced.
    several = hardware is not None and demand.peak_requests_per_second > AT_ONCE
    copies = ["--replicas", str(hardware.replicas)] if hardware is not None and several else []
    cost = [
        "selfhost",
        "cost",
        "plan.json",
        *copies,
        *lengths,
        *month,
        *where,
        *ways,
        "--rent",
        "specialty",
        *offers,
    ]
    advised = [] if advice_file is None else ["--advice", advice_file]
    spoken = [] if language == "en" else ["--lang", language]
    report = [
        "selfhost",
        "report",
        "plan.json",
        *advised,
        *month,
        *where,
        *offers,
        *spoken,
        "-o",
        "report.html",
    ]
    return (shlex.join(plan), shlex.join(cost), shlex.join(report))


def _rate(demand: Demand) -> str:
    """Requests a second of one deployment, three digits of it."""
    return f"{float(f'{max(0.001, min(AT_ONCE, demand.peak_requests_per_second)):.3g}'):g}"
