"""Placements with speed and cost: the search that `selfhost plan --rank-by` asks for, its plan and its JSON."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from selfhost.cli._placements import Asked, as_facts
from selfhost.cli._rank_options import Wish
from selfhost.errors import UnsupportedError, UsageError
from selfhost.workload import Split

if TYPE_CHECKING:
    from selfhost.engines import EngineVersion
    from selfhost.model.spec import ModelSpec
    from selfhost.place import Placement, Placements, Refusal
    from selfhost.plan import Plan, PlannedCost, PlannedEstimate
    from selfhost.ranking import Found, Load, Missed, Option
    from selfhost.ranking.costs import Pricing


def searched(
    asked: Asked, wish: Wish, split: Split, *, fixed: bool, replicas: int | None, load: Load
) -> Found:
    """Every combination that was asked for.

    Args:
        asked: the model, the load on memory and the kinds of GPU.
        wish: what was typed of ranking.
        split: how the model is divided.
        fixed: whether that was said.
        replicas: how many were asked for, None for as few as it takes.
        load: the traffic and its goals.

    Raises:
        SelfhostError: a price file that cannot be read, or an unknown currency.
    """
    from selfhost.engines import engine_names, parse_engine
    from selfhost.ranking import Question, search, sensible_quantizations

    engines: tuple[EngineVersion, ...] = (asked.engine,)
    if wish.search_engines:
        named = asked.engine.engine
        engines += tuple(parse_engine(name) for name in engine_names() if name != named)
    formats: tuple[str | None, ...] = (None,)
    if wish.search_quant:
        if asked.workload.quantization is not None:
            raise UsageError("--quant names the format already.", hint="Leave --search-quant out.")
        formats = sensible_quantizations(asked.spec)
    return search(
        Question(
            spec=asked.spec,
            gpus=asked.gpus,
            engines=engines,
            quantizations=formats,
            workload=asked.workload,
            load=load,
            split=split if fixed else None,
            expert=split.expert,
            replicas=replicas,
            pricing=_pricing(wish),
        )
    )


def within(spec: ModelSpec, load: Load) -> None:
    """Refuse requests that the engine would: as with a `--context` beyond the model's.

    Raises:
        UnsupportedError: they are longer than the model's context.
    """
    prompt, answer = load.traffic.prompt_tokens, load.traffic.output_tokens
    longest = spec.facts.max_context_tokens
    if prompt + answer > longest:
        raise UnsupportedError(
            f"{spec.id}: prompts of {prompt:,} and answers of {answer:,} tokens are beyond the model's {longest:,}.",
            hint="Give fewer --prompt-tokens, or fewer --output-tokens.",
        )


def _pricing(wish: Wish) -> Pricing:
    from selfhost.catalog.prices import load_prices
    from selfhost.ranking.costs import Pricing

    return Pricing(
        load_prices(wish.assumptions),
        tier=wish.tier or "specialty",
        term=wish.term or "on-demand",
        currency=wish.currency or "USD",
    )


def ranked(found: Found, wish: Wish, *, kinds: int) -> tuple[Option, ...]:
    """The options in order: the best of each kind of GPU, or all of them where one kind was named."""
    from selfhost.ranking import order

    return order(found.options, wish.rank, each_gpu=kinds > 1)


def picked(options: tuple[Option, ...], pick: int | None, *, written: bool) -> int:
    """Row of the table that becomes the plan: the one that was named, else the first whose weights exist.

    Raises:
        UsageError: no such row.
        UnsupportedError: the row's weights have to be published first.
    """
    if pick is None:
        return next((number for number, option in enumerate(options, start=1) if option.published), 1)
    if pick > len(options):
        raise UsageError(f"--pick {pick}: the table has {len(options)} rows at most.")
    option = options[pick - 1]
    if written and not option.published:
        raise UnsupportedError(
            f"Row {pick} needs weights that are published in {option.quantization}, and this checkpoint is not.",
            hint="Name a repository that has them instead of this model.",
        )
    return pick


def planned_estimate(spec: ModelSpec, option: Option, load: Load) -> PlannedEstimate:
    """The speed of an option as a plan keeps it, with what each number rests on."""
    from selfhost.plan import PlannedEstimate
    from selfhost.throughput.estimate import estimate

    found = estimate(
        spec, option.workload, option.split, option.gpu, option.engine, load.traffic, replicas=option.replicas
    )
    return PlannedEstimate(
        traffic=load.traffic,
        ttft_goal_ms=load.ttft_goal_ms,
        tpot_goal_ms=load.tpot_goal_ms,
        ttft_ms=found.ttft_ms,
        tpot_ms=found.tpot_ms,
        output_tokens_per_second=found.output_tokens_per_second,
        requests_per_second=found.requests_per_second,
        concurrency_admitted=found.concurrency_admitted,
        binds=found.binds,
        queue=found.queue,
        notes=found.notes,
        provenance=found.provenance,
    )


def planned_cost(option: Option) -> PlannedCost | None:
    """The cost of an option as a plan keeps it."""
    from selfhost.plan import PlannedCost

    cost = option.cost
    return (
        None
        if cost is None
        else PlannedCost(**{field.name: getattr(cost, field.name) for field in fields(cost)})
    )


def plan_of_option(
    asked: Asked, options: tuple[Option, ...], found: Found, pick: int, load: Load, wish: Wish,
    name: str | None, image: str | None,
) -> Plan | None:  # fmt: skip
    """The plan of a row; None where its weights have to be published first."""
    from selfhost.cli._planning import now
    from selfhost.engines import parse_image
    from selfhost.plan import make_plan
    from selfhost.ranking import RANKINGS
    from selfhost.sizing import budget_for

    option = options[pick - 1]
    if not option.published:
        return None
    tensors = asked.raw.tensors
    own = option.engine.engine == asked.engine.engine
    return make_plan(
        spec=asked.spec,
        engine=option.engine,
        gpu=option.gpu,
        split=option.split,
        workload=option.workload,
        budget=budget_for(asked.spec, option.workload, option.split, option.gpu, option.engine),
        created=now(),
        stored_bytes=sum(tensor.bytes for tensor in tensors) if tensors else None,
        safetensors=asked.raw.origin == "catalogue" or bool(tensors),
        replicas=option.replicas,
        image=None if image is None or not own else parse_image(image),
        name=name,
        fitting=tuple(map(_placement, options)),
        refused=tuple(map(_refusal, found.missed)),
        licence=asked.licence,
        estimate=planned_estimate(asked.spec, option, load),
        cost=planned_cost(option),
        ranking=RANKINGS[wish.rank],
    )


def _placement(option: Option) -> Placement:
    from selfhost.place import Placement

    gpus = option.split.gpus
    return Placement(
        gpu_id=option.gpu.id,
        split=option.split,
        budget=option.budget,
        total_memory_bytes=option.gpu.reported_bytes * gpus,
        total_bandwidth_bytes_per_second=option.gpu.bandwidth_bytes_per_second * gpus,
    )


def _refusal(miss: Missed) -> Refusal:
    from selfhost.place import Refusal

    return Refusal(gpu_id=miss.gpu_id, split=miss.split, because=miss.because, short_bytes=miss.short_bytes)


def placements_of(options: tuple[Option, ...], found: Found) -> Placements:
    """The same as values that know no speed."""
    from selfhost.place import Placements

    return Placements(fitting=tuple(map(_placement, options)), refused=tuple(map(_refusal, found.missed)))


def ranked_facts(
    asked: Asked, options: tuple[Option, ...], found: Found, plan: Plan | None, pick: int, output: Path | None,
    load: Load, wish: Wish,
) -> dict[str, object]:  # fmt: skip
    """The object of `selfhost/placements/v1`, with what ranking adds to it."""
    from selfhost.ranking import RANKINGS, why_not_first

    facts = as_facts(asked, placements_of(options, found), plan, pick, output)
    rows = facts["placements"]
    assert isinstance(rows, list)
    for row, option in zip(rows, options, strict=True):
        speed = option.estimate
        row |= {
            "replicas": option.replicas,
            "engine": str(option.engine),
            "quantization": option.quantization or asked.spec.quantization,
            "published": option.published,
            "estimate": {
                "ttft_ms": asdict(speed.ttft_ms),
                "tpot_ms": asdict(speed.tpot_ms),
                "output_tokens_per_second": asdict(speed.output_tokens_per_second),
                "requests_per_second": speed.requests_per_second,
                "concurrency_admitted": speed.concurrency_admitted,
                "running": speed.running,
                "binds": speed.binds,
            },
            "cost": None
            if option.cost is None
            else {**asdict(option.cost), "sources": list(option.cost.sources)},
            "why_not_first": why_not_first(option, options[0], wish.rank),
        }
    return facts | {
        "fits": bool(options),
        "ranking": RANKINGS[wish.rank],
        "picked": pick if options else None,
        "rank_by": wish.rank,
        "tried": found.tried,
        "load": {
            **asdict(load.traffic),
            "ttft_goal_ms": load.ttft_goal_ms,
            "tpot_goal_ms": load.tpot_goal_ms,
        },
    }
