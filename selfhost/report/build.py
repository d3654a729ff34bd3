"""A plan, its model, a load, prices and a study of costs -> Report: every number with its range and its sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfhost import __version__
from selfhost.errors import SelfhostError
from selfhost.report.advised import AdviceFile
from selfhost.report.choice import Apis, Choice, choose
from selfhost.report.priced import assumptions_of, cost_of
from selfhost.report.risks import risks_of
from selfhost.report.types import (
    Assumption,
    Bill,
    Cost,
    Curve,
    GpuOption,
    Number,
    Recommendation,
    Report,
    Risk,
    Source,
    Subject,
    Term,
)
from selfhost.throughput.types import Estimate, Range, Traffic

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.cost.study import Study
    from selfhost.engines import EngineVersion
    from selfhost.model.spec import ModelSpec
    from selfhost.plan import Plan
    from selfhost.ranking.costs import Pricing
    from selfhost.report.priced import Swings, Volumes
    from selfhost.workload import Split

_MOST_OPTIONS = 8  # kinds of GPU; a page is for a decision, `selfhost plan` lists them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one deployment does under the load, or why that is not known."""

    estimate: Estimate | None
    because: str


def build_report(
    plan: Plan,
    spec: ModelSpec | None,
    *,
    traffic: Traffic,
    created: str,
    pricing: Pricing | None = None,
    study: Study | None = None,
    advice: AdviceFile | None = None,
    apis: Apis | None = None,
    volumes: Volumes | None = None,
    swings: Swings | None = None,
    why_no_model: str = "the model's configuration is not at hand",
    more_risks: tuple[Risk, ...] = (),
) -> Report:
    """Put a report together.

    Args:
        plan: the decision.
        spec: its model, None where it cannot be read: then nothing is known of speed.
        traffic: the load on the whole deployment.
        created: UTC in ISO 8601.
        pricing: prices of the kinds of GPU, None for none.
        study: costs of the ways to serve the load, None for none.
        advice: of `selfhost advise`, None for none.
        apis: what is known of the APIs in the study; None takes each for the plan's own model.
        volumes: break-even volumes with as many copies as they take, by option and what it is against; None takes the
            study's, of the planned copies alone.
        swings: what moves the lead of a way over others; None takes the study's, of its cheapest way.
        why_no_model: one clause, said where `spec` is None.
        more_risks: that the caller knows of.
    """
    from selfhost.catalog.gpus import find_gpu
    from selfhost.engines import parse_engine

    gpu = find_gpu(plan.gpu.id)
    engine = parse_engine(f"{plan.engine.name}@{plan.engine.version}")
    look = _look(plan, spec, gpu, plan.split, engine, traffic, why_no_model)
    curve = _curve(plan, spec, gpu, engine, traffic, look)
    choice = choose(study, advice, apis)
    cost = None if study is None else cost_of(study, choice, apis=apis, volumes=volumes or {}, swings=swings)
    options = _options(plan, spec, engine, traffic, look, pricing, why_no_model)
    bill = _bill(plan, gpu)
    recommendation = _recommendation(plan, gpu, look, cost, choice, study, advice)
    return Report(
        subject=_subject(plan, traffic, created),
        recommendation=recommendation,
        costed=pricing is not None,
        bill=bill,
        options=options,
        refused=tuple(
            (_name(one.gpu_id), _why_refused(one.because, one.short_bytes)) for one in plan.refusals
        ),
        curve=curve,
        cost=cost,
        licence=plan.licence,
        risks=more_risks
        + risks_of(
            recommendation=recommendation,
            bill=bill,
            chosen=next((one for one in options if one.chosen), None),
            curve=curve,
            cost=cost,
            licence=plan.licence,
            gpus_per_copy=plan.split.gpus,
            replicas=plan.replicas,
            saturated=look.estimate is not None
            and look.estimate.saturated
            and traffic.request_rate is not None,
            warnings=() if advice is None else advice.warnings,
        ),
        assumptions=(*_assumed(traffic), *(() if study is None else assumptions_of(study.assumptions))),
        questions=() if advice is None else advice.questions,
    )


def _name(gpu_id: str) -> str:
    from selfhost.catalog.gpus import find_gpu

    return find_gpu(gpu_id).name


def _why_refused(because: str, short_bytes: int | None) -> str:
    from selfhost.units import gib

    return because if short_bytes is None else f"−{gib(short_bytes)} GiB"


def _look(
    plan: Plan,
    spec: ModelSpec | None,
    gpu: Gpu,
    split: Split,
    engine: EngineVersion,
    traffic: Traffic,
    why_no_model: str,
) -> Look:
    from selfhost.throughput.estimate import estimate

    if spec is None:
        return Look(estimate=None, because=why_no_model)
    try:
        found = estimate(spec, plan.workload, split, gpu, engine, traffic, replicas=plan.replicas)
    except SelfhostError as error:
        return Look(estimate=None, because=error.message.rstrip("."))
    return Look(estimate=found, because="")


def _rests(found: Estimate, number: str) -> tuple[tuple[Source, ...], str]:
    """Sources of a number of an estimate, and what it rests on."""
    for one in found.provenance:
        if one.number == number:
            texts = one.sources or (one.because,)
            return tuple(Source(text=text, url=_address(text), date=one.date) for text in texts), one.because
    return (), ""


def _address(text: str) -> str | None:
    return next((word for word in text.split() if word.startswith(("https://", "http://"))), None)


def _number(look: Look, name: str, unit: str) -> Number:
    if look.estimate is None:
        return Number(value=None, unit=unit, because=look.because)
    sources, because = _rests(look.estimate, name)
    return Number(value=getattr(look.estimate, name), unit=unit, sources=sources, because=because)


def _curve(
    plan: Plan, spec: ModelSpec | None, gpu: Gpu, engine: EngineVersion, traffic: Traffic, look: Look
) -> Curve:
    from selfhost.throughput.estimate import curve
    from selfhost.throughput.goals import knee

    if spec is None or look.estimate is None:
        return Curve(
            points=(), knee=None, admitted=None, asked=None, because=look.because, measured=False, sources=()
        )
    points = curve(spec, plan.workload, plan.split, gpu, engine, traffic, replicas=plan.replicas)
    sources, because = _rests(look.estimate, "output_tokens_per_second")
    kinds = {one.kind for one in look.estimate.provenance if one.number == "output_tokens_per_second"}
    return Curve(
        points=points,
        knee=knee(points[:-1]),
        admitted=look.estimate.concurrency_admitted,
        asked=traffic.concurrency,
        because=because,
        measured=kinds == {"measured"},
        sources=sources,
    )


def _options(
    plan: Plan,
    spec: ModelSpec | None,
    engine: EngineVersion,
    traffic: Traffic,
    look: Look,
    pricing: Pricing | None,
    why_no_model: str,
) -> tuple[GpuOption, ...]:
    from selfhost.catalog.gpus import find_gpu

    chosen = _option(plan, find_gpu(plan.gpu.id), plan.split, plan.memory.max_concurrency, look, pricing)
    found = [replace(chosen, chosen=True)]
    for other in plan.alternatives[: _MOST_OPTIONS - 1]:
        gpu = find_gpu(other.gpu_id)
        seen = _look(plan, spec, gpu, other.split, engine, traffic, why_no_model)
        found.append(_option(plan, gpu, other.split, other.max_concurrency, seen, pricing))
    return tuple(found)


def _option(
    plan: Plan, gpu: Gpu, split: Split, at_once: float | None, look: Look, pricing: Pricing | None
) -> GpuOption:
    unknown = Number(value=None, unit="money", because="no price is known")
    hour, purchase, per_million = unknown, unknown, unknown
    gpus = split.gpus * plan.replicas
    if pricing is not None:
        rent = pricing.prices.gpu_rental(gpu.id, pricing.tier, pricing.term)
        bought = pricing.prices.gpu_purchase(gpu.id)
        hour, purchase = _priced(pricing, rent, gpus), _priced(pricing, bought, gpus)
        if look.estimate is not None:
            cost = pricing.cost(gpu, gpus, look.estimate)
            per_million = Number(value=cost.per_million_output_tokens, unit="money", sources=hour.sources)
    room = None if at_once is None else at_once * split.data / plan.workload.concurrency
    if look.estimate is not None:  # as `selfhost plan` has it: the engine's own limit counts too
        room = look.estimate.concurrency_admitted / max(1.0, look.estimate.running)
    return GpuOption(
        gpu_id=gpu.id,
        name=gpu.name,
        count=gpus,
        room=room,
        chosen=False,
        speed=_number(look, "output_tokens_per_second", "number"),
        first_token=_number(look, "ttft_ms", "number"),
        hour=hour,
        purchase=purchase,
        per_million=per_million,
    )


def _priced(pricing: Pricing, figure: object, times: int) -> Number:
    from selfhost.catalog.price_types import Figure

    if not isinstance(figure, Figure):
        return Number(value=None, unit="money", because="no price is known")
    shown = pricing.prices.convert(figure, pricing.currency)
    text = shown.source or shown.key or shown.unit
    source = Source(text=text, url=_address(text), date=shown.date)
    value = Range(low=shown.low, typical=shown.typical, high=shown.high).scaled(times)
    return Number(value=value, unit="money", sources=(source,), because=shown.note)


def _bill(plan: Plan, gpu: Gpu) -> Bill:
    terms = tuple(
        Term(name=term.name, bytes=term.bytes, because=term.because, source=Source(text=term.source))
        for term in plan.memory.terms
    )
    return Bill(
        gpu=gpu.name,
        gpu_bytes=plan.memory.gpu_memory_bytes,
        terms=terms,
        short_bytes=plan.memory.short_bytes,
        certainty_bytes=plan.memory.certainty_bytes,
    )


def _recommendation(
    plan: Plan,
    gpu: Gpu,
    look: Look,
    cost: Cost | None,
    choice: Choice,
    study: Study | None,
    advice: AdviceFile | None,
) -> Recommendation:
    option = choice.option
    flow = None if cost is None else next((one for one in cost.flows if one.name == option), None)
    unknown = Number(value=None, unit="money")
    gpus = plan.split.gpus * plan.replicas
    taken = None if study is None or option is None else study.of(option).option.gpus
    return Recommendation(
        fits=bool(plan.memory.fits) or plan.memory.fits is None,
        gpus=gpus,
        gpu=gpu.name,
        taken=taken or gpus,
        option=option,
        kind=choice.kind,
        cheapest=choice.cheapest,
        cheaper=choice.cheaper,
        foreign=choice.foreign,
        speed=_number(look, "output_tokens_per_second", "number"),
        first_token=_number(look, "ttft_ms", "number"),
        per_token=_number(look, "tpot_ms", "number"),
        total=unknown if flow is None else flow.total,
        present=unknown if flow is None else flow.net_present,
        per_million=unknown if flow is None else flow.per_million,
        advised=None if advice is None else advice.advised,
    )


def _subject(plan: Plan, traffic: Traffic, created: str) -> Subject:
    return Subject(
        model=plan.model.id,
        revision=plan.model.revision,
        quantization=plan.workload.quantization or plan.model.quantization,
        parameters=plan.model.parameters,
        engine=f"{plan.engine.name} {plan.engine.version}",
        split=(plan.split.tensor, plan.split.pipeline, plan.split.data),
        replicas=plan.replicas,
        context_tokens=plan.memory.max_model_len,
        concurrency=plan.workload.concurrency * plan.replicas,
        prompt_tokens=traffic.prompt_tokens,
        output_tokens=traffic.output_tokens,
        request_rate=traffic.request_rate,
        created=created,
        planned=plan.provenance.created,
        version=__version__,
    )


def _assumed(traffic: Traffic) -> tuple[Assumption, ...]:
    load = f"{traffic.request_rate:g}/s" if traffic.concurrency is None else f"{traffic.concurrency:,}"
    return (
        Assumption(name="prompt_tokens", value=f"{traffic.prompt_tokens:,}"),
        Assumption(name="output_tokens", value=f"{traffic.output_tokens:,}"),
        Assumption(name="load", value=load),
    )
