"""A model on GPUs, a volume and ways to serve it -> assumptions and what builds their cost."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfhost.cost.types import HOURS_PER_MONTH, SECONDS_PER_HOUR, Volume
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.catalog.price_types import Condition, Term, Tier
    from selfhost.catalog.prices import Prices
    from selfhost.cost.assumed import Assumed, Ways
    from selfhost.cost.deployment import Deployment
    from selfhost.engines import EngineVersion
    from selfhost.model.spec import ModelSpec
    from selfhost.plan import Plan
    from selfhost.throughput.types import Estimate, Traffic
    from selfhost.workload import Split, Workload

_NUMBER = re.compile(r"\s*([0-9][0-9_,]{0,30}(?:\.[0-9]{1,30})?(?:[eE]\+?[0-9]{1,2})?)\s*([kKmMbBgGtT]?)\s*")
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


class Decimal(click.ParamType):  # type: ignore[type-arg]
    """A number more than 0, with k, M, B and T for powers of a thousand: what people are billed for."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _NUMBER.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a number more than 0; write 2000000, 2M or 1.5B.", param, ctx)
        number = float(match[1].replace(",", "").replace("_", "")) * _SCALE[match[2].lower()]
        if number <= 0:
            self.fail("the volume is zero, which costs the same as doing nothing.", param, ctx)
        if number > 1e18:
            self.fail(f"{value} is more than anybody serves.", param, ctx)
        return number


DECIMAL = Decimal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is asked, as it was typed: at most one of the four, and the lengths of a request."""

    prompt_tokens: int
    output_tokens: int
    tokens_per_month: float | None
    requests_per_month: float | None
    request_rate: float | None
    utilization: float | None
    cached_share: float

    def requests(self, capacity: float) -> float:
        """Requests in a month.

        Args:
            capacity: output tokens a second that all copies answer with at full load.

        Raises:
            UsageError: none or several of the four were given.
        """
        given = [
            self.tokens_per_month,
            self.requests_per_month,
            self.request_rate,
            self.utilization,
        ]
        if sum(one is not None for one in given) != 1:
            several = any(one is not None for one in given)
            raise UsageError(
                "The volume was given twice." if several else "Cost is of a volume.",
                hint="Give one of --tokens-per-month, --requests-per-month, --request-rate and --utilization.",
            )
        month = HOURS_PER_MONTH * SECONDS_PER_HOUR
        if self.tokens_per_month is not None:
            return self.tokens_per_month / (self.prompt_tokens + self.output_tokens)
        if self.requests_per_month is not None:
            return self.requests_per_month
        if self.request_rate is not None:
            return self.request_rate * month
        assert self.utilization is not None
        return self.utilization * capacity * month / self.output_tokens

    def volume(self, capacity: float) -> Volume:
        """Tokens of a month."""
        requests = self.requests(capacity)
        return Volume(
            input_tokens=requests * self.prompt_tokens,
            output_tokens=requests * self.output_tokens,
            cached_share=self.cached_share,
            requests=requests,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The deployment whose cost is asked: what runs where, and the requests at once that goals allow."""

    spec: ModelSpec
    gpu: Gpu
    engine: EngineVersion
    split: Split
    workload: Workload
    concurrency: int | None
    ttft_goal: float | None
    tpot_goal: float | None

    def speed(self, load: Load) -> tuple[Estimate, float]:
        """Speed of one copy at full load, and the share of its time that prompts take."""
        from selfhost.throughput.estimate import Deployed
        from selfhost.throughput.goals import meeting
        from selfhost.throughput.types import Traffic

        traffic = Traffic(
            prompt_tokens=load.prompt_tokens,
            output_tokens=load.output_tokens,
            concurrency=1,
            prefix_hit_ratio=load.cached_share,
        )
        deployed = Deployed(self.spec, self.workload, self.split, self.gpu, self.engine, traffic)
        most = deployed.admitted.requests * self.split.data
        if self.ttft_goal is not None or self.tpot_goal is not None:
            points, at = deployed.curve(traffic), partial(deployed.at, traffic)
            met = meeting(points, ttft_ms=self.ttft_goal, tpot_ms=self.tpot_goal, at=at)
            if met is None or met.concurrency < 1:
                raise UsageError(
                    "No load meets the goals." if met is None else met.sentence,
                    hint="Take faster GPUs, more of them to a copy, or other goals.",
                )
            most = min(most, met.concurrency)
        if self.concurrency is not None:
            most = min(most, self.concurrency)
        full = replace(traffic, concurrency=max(1, most))
        return deployed.under(full), self._share(full)

    def _share(self, traffic: Traffic) -> float:
        """Share of the GPUs' time that prompts take.

        A prompt's part of steps full of prompts, against an answer's part of the steps in which all decode together: in
        a step with both the same time is nobody's alone.
        """
        from selfhost.throughput.estimate import admission, clock_of

        clock, _ = clock_of(self.spec, self.workload, self.split, self.gpu, self.engine)
        chunk = admission(self.spec, self.workload, self.split, self.gpu, self.engine, traffic).chunk_tokens
        cached = traffic.prompt_tokens * traffic.prefix_hit_ratio if self.workload.prefix_caching else 0.0
        left, before, prompt = max(1.0, traffic.prompt_tokens - cached), cached, 0.0
        while left > 0:
            step = min(left, chunk)
            prompt += clock.step_seconds(0.0, 0.0, chunk, before) * step / chunk
            left, before = left - step, before + step
        at_once = max(1.0, (traffic.concurrency or 1) / self.split.data)
        context = traffic.prompt_tokens + traffic.output_tokens / 2
        answer = traffic.output_tokens * clock.step_seconds(at_once, context) / at_once
        return prompt / (prompt + answer)


def ways_of(
    buy: Sequence[str],
    rent: Sequence[str],
    apis: Sequence[str],
    model: str,
    *,
    prompt_tokens: int,
    batch_share: float,
) -> Ways:
    """What is compared: all that is named, or the usual ways where nothing is.

    Raises:
        UsageError: an unknown tier, term or API.
    """
    from selfhost.catalog.price_types import TERMS, TIERS
    from selfhost.cli._cost_apis import offers
    from selfhost.cost.assumed import Ways

    named = bool(buy or rent or apis)
    conditions: list[Condition] = ["used" if one == "used" else "new" for one in buy] if named else ["new"]
    pairs: list[tuple[Tier, Term]] = (
        [] if named else [("specialty", "on-demand"), ("hyperscaler", "on-demand")]
    )
    for one in rent:
        if one == "all":
            pairs += [(tier, term) for tier in TIERS for term in TERMS]  # type: ignore[misc]
            continue
        tier, _, term = one.partition(":")
        term = term or "on-demand"
        if tier not in TIERS or term not in TERMS:
            raise UsageError(
                f"--rent {one[:60]!r} is no tier and term.",
                hint=f"TIER is one of {', '.join(TIERS)}, TERM one of {', '.join(TERMS)}, or `all`.",
            )
        pairs.append((tier, term))  # type: ignore[arg-type]
    return Ways(
        buy=tuple(dict.fromkeys(conditions)),
        rent=tuple(dict.fromkeys(pairs)),
        apis=offers(
            tuple(apis), model, usual=not named, prompt_tokens=prompt_tokens, batch_share=batch_share
        ),
    )


def without_unpriced(ways: Ways, prices: Prices, gpu_id: str, rent: Sequence[str]) -> Ways:
    """Of `--rent all`, the tiers and terms that somebody has a price for."""
    if "all" not in rent:
        return ways
    named = {tuple(f"{one}:on-demand".split(":")[:2]) for one in rent if one != "all"}
    priced = [
        pair for pair in ways.rent if pair in named or prices.gpu_rental(gpu_id, pair[0], pair[1]) is not None
    ]
    return replace(ways, rent=tuple(priced) or ways.rent)


def deployment_of(
    served: Served, load: Load, ways: Ways, prices: Prices, *, copies: int | None, months: int, country: str,
    currency: str, hosted: str,
) -> tuple[Assumed, Deployment]:  # fmt: skip
    """Everything that the cost rests on.

    Raises:
        UsageError: the volume is more than the copies that were asked for can answer with.
    """
    from selfhost.cost.assumed import assumed
    from selfhost.cost.deployment import Deployment
    from selfhost.cost.machines import Machine, board_of, host_of

    gpu, split = served.gpu, served.split
    found, share = served.speed(load)
    each = found.output_tokens_per_second
    volume = load.volume(each.typical * (copies or 1))
    _enough(volume, each.typical, copies)
    machine = Machine(
        gpu_id=gpu.id,
        gpu_name=gpu.name,
        tdp_watts=gpu.tdp_watts,
        gpus=split.gpus,
        board=board_of(gpu.form_factor),
        host=host_of(gpu.kind, gpu.form_factor, split.gpus * (copies or _copies(volume, each.typical))),
    )
    because = next(one for one in found.provenance if one.number == "output_tokens_per_second")
    facts = assumed(
        prices, machine, ways,
        capacity=(each.low, each.typical, each.high),
        speed_source=(f"selfhost estimate: {because.because}", because.date),
        months=months, country=country, currency=currency, hosted=hosted,
    )  # fmt: skip
    currencies: Mapping[str, str] = {
        one.key: one.currency for one in facts.assumptions if one.currency is not None
    }
    return facts, Deployment(
        machine=machine, copies=copies or 1, volume=volume, ways=ways, months=months, currency=currency,
        currencies=currencies, unknown=facts.unknown, input_share=share,
    )  # fmt: skip


def _filled(volume: Volume, each: float) -> float:
    """How many copies a volume keeps busy."""
    return volume.output_tokens / (each * SECONDS_PER_HOUR * HOURS_PER_MONTH)


def _copies(volume: Volume, each: float) -> int:
    return max(1, math.ceil(_filled(volume, each) - 1e-9))


def _enough(volume: Volume, each: float, copies: int | None) -> None:
    needed = _filled(volume, each)
    if copies is None or needed <= copies * (1 + 1e-9):
        return
    raise UsageError(
        f"The volume is {needed / copies:,.2f} times what {copies} {'copy' if copies == 1 else 'copies'} of the "
        f"deployment can answer with ({each * copies:,.0f} output tokens/s at full load).",
        hint=f"Take --replicas {_copies(volume, each)}, or leave it out to have as many as it takes.",
    )


def read_plan_file(path: Path) -> tuple[ModelSpec, Gpu, EngineVersion, Split, Workload, int]:
    """What a plan.json says is deployed.

    Raises:
        SelfhostError: it is no plan, or its model or GPU is not known here.
    """
    from selfhost.catalog.gpus import find_gpu
    from selfhost.engines import parse_engine
    from selfhost.plan import read_plan

    plan = read_plan(path)
    spec = model_of(plan)
    engine = parse_engine(f"{plan.engine.name}@{plan.engine.version}")
    return spec, find_gpu(plan.gpu.id), engine, plan.split, plan.workload, plan.replicas


def model_of(plan: Plan) -> ModelSpec:
    """The model of a plan, read again.

    Raises:
        SelfhostError: it cannot be found, read or understood.
    """
    from selfhost.cli._sizing import understand
    from selfhost.errors import OfflineError

    model = plan.model
    if model.origin in ("directory", "gguf"):
        return understand(model.source)
    if model.origin == "catalogue":
        return understand(f"catalog:{model.id}")
    try:
        return understand(model.id if model.revision is None else f"{model.id}@{model.revision}")
    except OfflineError:
        return understand(f"catalog:{model.id}")
