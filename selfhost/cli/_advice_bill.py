"""What the GPUs of an advice cost with people, power and maintenance: the study that `selfhost cost` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfhost.advise.machines import Found, Wanted
    from selfhost.advise.onward_types import Total
    from selfhost.model.spec import ModelSpec

_YEARS = 3  # as rule 61 wants it counted, and `selfhost cost` by itself


def bill(spec: ModelSpec, found: Found, wanted: Wanted) -> tuple[Total, ...]:
    """Buying, where the path does, and renting, as the command that the advice names has them.

    Args:
        spec: the model.
        found: copies of it on GPUs.
        wanted: load, country and currency.
    """
    from selfhost.advise.commands import requests_per_month
    from selfhost.advise.onward_types import Span, Total
    from selfhost.cli._cost_deployment import Load, Served, deployment_of, ways_of
    from selfhost.cli._cost_facts import money, rate
    from selfhost.cost.study import study
    from selfhost.cost.types import MONTHS

    option, demand = found.option, wanted.demand
    served = Served(
        spec=spec, gpu=option.gpu, engine=option.engine, split=option.split, workload=option.workload,
        concurrency=None, ttft_goal=None, tpot_goal=None,
    )  # fmt: skip
    load = Load(
        prompt_tokens=demand.prompt_tokens, output_tokens=demand.output_tokens, tokens_per_month=None,
        requests_per_month=requests_per_month(demand), request_rate=None, utilization=None, cached_share=0.0,
    )  # fmt: skip
    ways = ways_of(
        ("new",) if wanted.capital else (), ("specialty",), (), spec.id, prompt_tokens=demand.prompt_tokens,
        batch_share=0.0,
    )  # fmt: skip
    facts, deployment = deployment_of(
        served, load, ways, wanted.prices, copies=found.hardware.replicas, months=MONTHS * _YEARS,
        country="US" if wanted.country == "unknown" else wanted.country, currency=wanted.currency, hosted="colocation",
    )  # fmt: skip
    return tuple(
        Total(
            option=one.option.name,
            paid_once=money(one.paid_once),
            per_month=money(one.per_month),
            per_million_output_tokens=rate(one.per_million_output),
            three_years=None
            if one.total is None
            else Span(
                low=round(one.total.low, 2),
                typical=round(one.total.typical, 2),
                high=round(one.total.high, 2),
            ),
            unknown=one.option.unknown,
        )
        for one in study(facts.assumptions, deployment.build).costed
    )
