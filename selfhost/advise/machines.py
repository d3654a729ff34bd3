"""The GPUs that carry a demand for the least money, with their speed and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfhost.advise.onward_types import Demand, Hardware, Money, Span
from selfhost.advise.tables import onward

if TYPE_CHECKING:
    from selfhost.catalog.prices import Prices
    from selfhost.model.spec import ModelSpec
    from selfhost.ranking import Option
    from selfhost.ranking.costs import Pricing
    from selfhost.throughput.types import Estimate

HOURS_PER_MONTH = 730  # 8,760 hours a year over 12, as in `selfhost cost`
DAYS_PER_MONTH = HOURS_PER_MONTH / 24
# Ours: requests a second that are placed as one deployment; more than that are so many deployments of the same kind.
AT_ONCE = 50.0
# The licence of NVIDIA's GeForce driver keeps it out of datacentres (nvidia.com/en-us/drivers/geforce-license). Ours:
# no more such cards than a workstation or two hold.
MOST_CONSUMER_CARDS = 8
# Ours: where nothing is as fast as it should be, the cheapest within twice the fastest: milliseconds are not worth many
# times the money where the goal is missed all the same.
NEARLY = 2.0
_SMALLEST = 0.5  # where that load fits nowhere, less would not either


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What GPUs are wanted for.

    Args:
        country: decides which kinds are tried.
        capital: least to buy, else least rent for a million tokens.
        currency: USD, CNY or EUR.
        latency_ms: longest typical time to the first token, None for any; nearly the fastest where nothing meets it.
    """

    demand: Demand
    country: str
    capital: bool
    currency: str
    latency_ms: float | None
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The GPUs that were found, and one copy of the deployment on them."""

    hardware: Hardware
    cost: Money
    option: Option


def hardware_for(spec: ModelSpec, wanted: Wanted) -> Found | None:
    """The GPUs that carry a demand for the least money, None where none of the kinds that are tried does."""
    peak = wanted.demand.peak_requests_per_second
    rate = min(peak, AT_ONCE)
    while (option := _least(spec, wanted, rate)) is None:
        rate /= 4
        if rate < _SMALLEST:
            return None
    replicas = _replicas(option, peak / rate)
    return _priced(option, replicas, _speed(spec, option, replicas, wanted.demand), wanted)


def _replicas(option: Option, times: float) -> int:
    """Copies that carry so many times the rate that an option was found for."""
    return max(option.replicas, math.ceil(option.replicas * times - 1e-9))


def _least(spec: ModelSpec, wanted: Wanted, rate: float) -> Option | None:
    """The best option for one deployment."""
    from selfhost.catalog.gpus import find_gpu
    from selfhost.engines import parse_engine
    from selfhost.ranking import Load, Question, order, search
    from selfhost.throughput.types import Traffic
    from selfhost.workload import Workload

    kinds, demand = onward()["gpus"].get(wanted.country, onward()["gpus"]["usual"]), wanted.demand
    lengths = {"prompt_tokens": demand.prompt_tokens, "output_tokens": demand.output_tokens}
    found = search(
        Question(
            spec=spec,
            gpus=tuple(find_gpu(name) for name in kinds),
            engines=(parse_engine("vllm"),),
            quantizations=(None,) if spec.quantization else (None, "fp8"),
            workload=Workload(max_model_len=demand.prompt_tokens + demand.output_tokens),
            load=Load(traffic=Traffic(**lengths, request_rate=rate)),
            pricing=_pricing(wanted),
        )
    ).options
    found = tuple(one for one in found if one.published)  # what can be run without a further repository
    times = demand.peak_requests_per_second / rate
    found = tuple(
        one
        for one in found
        if one.gpu.kind != "consumer" or one.split.gpus * _replicas(one, times) <= MOST_CONSUMER_CARDS
    )
    goal = wanted.latency_ms
    if goal is not None:
        quick = [one for one in found if one.estimate.ttft_ms.typical <= goal]
        if not quick and found:
            fastest = min(one.estimate.ttft_ms.typical for one in found)
            quick = [one for one in found if one.estimate.ttft_ms.typical <= NEARLY * fastest]
        found = tuple(quick)
    by_rent = order(found, "cost", each_gpu=True)
    by_price = order(found, "capital", each_gpu=True) if wanted.capital else ()
    known = [one for one in by_price if one.cost is not None and one.cost.capital is not None]
    return next(iter([*known, *by_rent]), None)


def _pricing(wanted: Wanted) -> Pricing:
    from selfhost.ranking.costs import Pricing

    return Pricing(wanted.prices, tier="specialty", term="on-demand", currency=wanted.currency)


def _speed(spec: ModelSpec, option: Option, replicas: int, demand: Demand) -> Estimate:
    """Speed of all copies in the busiest hour, with what it rests on."""
    from selfhost.throughput.estimate import estimate
    from selfhost.throughput.types import Traffic

    traffic = Traffic(
        prompt_tokens=demand.prompt_tokens,
        output_tokens=demand.output_tokens,
        request_rate=demand.peak_requests_per_second,
    )
    return estimate(
        spec, option.workload, option.split, option.gpu, option.engine, traffic, replicas=replicas
    )


def _priced(option: Option, replicas: int, speed: Estimate, wanted: Wanted) -> Found:
    demand = wanted.demand
    gpus = option.split.gpus * replicas
    cost = _pricing(wanted).cost(option.gpu, gpus, speed)
    rent = None if cost.per_hour is None else _span(cost.per_hour, HOURS_PER_MONTH)
    tokens = demand.requests_per_day * DAYS_PER_MONTH * demand.output_tokens / 1e6
    hardware = Hardware(
        model="",
        gpu=option.gpu.id,
        gpu_name=option.gpu.name,
        gpus=gpus,
        replicas=replicas,
        engine=str(option.engine),
        quantization=option.quantization,
        ttft_ms=_span(speed.ttft_ms, 1),
        tpot_ms=_span(speed.tpot_ms, 1),
        output_tokens_per_second=_span(speed.output_tokens_per_second, 1),
        speed_from=tuple(dict.fromkeys(one.kind for one in speed.provenance)),
        meets_latency=None if wanted.latency_ms is None else speed.ttft_ms.typical <= wanted.latency_ms,
    )
    money = Money(
        currency=wanted.currency,
        tier=cost.tier,
        term=cost.term,
        per_month=rent,
        per_million_output_tokens=None if rent is None else _span(rent, 1 / tokens),
        capital=None if cost.capital is None else _span(cost.capital, 1),
        capital_because=cost.capital_because,
        sources=cost.sources,
        date=cost.date,
    )
    return Found(hardware=hardware, cost=money, option=option)


def _span(found: Any, factor: float) -> Span:
    return Span(
        low=round(found.low * factor, 4),
        typical=round(found.typical * factor, 4),
        high=round(found.high * factor, 4),
    )
