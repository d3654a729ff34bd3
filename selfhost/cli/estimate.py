"""Estimate latency and throughput of a deployment under a load, with what binds and how sure that is."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from selfhost.cli._load_options import speed_options
from selfhost.cli._measured import all_provenance, as_measurements, evidence_near, show_measurements
from selfhost.cli._options import (
    AT_LEAST,
    engine_option,
    gpu_memory_option,
    gpu_option,
    json_option,
    model_argument,
    split_options,
    workload_options,
)
from selfhost.cli._output import Align, emit_json, facts, headline, next_step, say, table
from selfhost.cli._rank_options import agrees
from selfhost.cli._ranked_table import per_second
from selfhost.cli._simulating import (
    Arriving,
    arrival_options,
    arriving_trace,
    as_simulation,
    show_simulation,
)
from selfhost.cli._sizing import again, as_sentence, choose_gpu, objection_to, understand
from selfhost.errors import UnsupportedError, UsageError
from selfhost.units import size_words
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion
    from selfhost.model.spec import ModelSpec
    from selfhost.throughput.evidence import Evidence
    from selfhost.throughput.goals import Met
    from selfhost.throughput.runs import Asked
    from selfhost.throughput.simulated import Simulated
    from selfhost.throughput.types import Estimate, Point, Provenance, Range, StepClock

_CURVE: tuple[tuple[str, Align], ...] = (
    ("at once", "right"), ("TTFT ms", "right"), ("TPOT ms", "right"), ("tokens/s", "right"), ("what binds", "left"),
)  # fmt: skip


@click.command()
@model_argument
@gpu_option(multiple=False, help_text="Kind of GPU.")
@gpu_memory_option("Memory that the engine sees, for a shared or a part of a GPU.")
@split_options
@click.option("--replicas", type=AT_LEAST[1], default=1, metavar="N", help="Copies of it all.  [default: 1]")
@speed_options()
@click.option(
    "--provider", type=click.Choice(["roofline", "silicon", "measured"]), default="roofline",
    help="Step times by the roofline or by tables of measured kernels; or a published run's numbers.  "
    "[default: roofline]",
)  # fmt: skip
@arrival_options
@workload_options
@engine_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    model: str,
    gpu: str | None,
    gpu_memory: int | None,
    split: Split,
    replicas: int,
    prompt_tokens: int,
    output_tokens: int,
    request_rate: float | None,
    prefix_hit_ratio: float,
    acceptance: float | None,
    ttft_goal: float | None,
    tpot_goal: float | None,
    provider: str,
    arriving: Arriving,
    workload: Workload,
    engine: str,
    as_json: bool,
) -> int:
    """Estimate the speed of MODEL on GPUs under --concurrency clients, or --request-rate arrivals a second.

    Everything is of the whole deployment: --dp copies and --replicas share the load. Each number is a range, with what
    it rests on. With --ttft-goal or --tpot-goal it also says how many requests at once meet them. --trace or --arrivals
    simulates requests one by one, for percentiles. Exit code 4: not one request fits.
    """
    from selfhost.engines import parse_engine
    from selfhost.ranking.types import Load
    from selfhost.throughput.estimate import Deployed
    from selfhost.throughput.from_runs import from_measurements
    from selfhost.throughput.goals import meeting
    from selfhost.throughput.runs import Asked
    from selfhost.throughput.simulated import simulate_deployment, traffic_of
    from selfhost.throughput.types import Traffic

    if gpu is None:
        raise UsageError("Speed is of a GPU.", hint="Name one with --gpu; `selfhost gpus` lists them.")
    clients = context.get_parameter_source("concurrency") is click.core.ParameterSource.COMMANDLINE
    simulates = arriving.trace is not None or arriving.arrivals is not None
    _one_load(clients=clients, rate=request_rate, simulated=simulates, provider=provider)
    trace = arriving_trace(context, arriving, request_rate, prompt_tokens, output_tokens)
    traffic = Traffic(
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        concurrency=workload.concurrency if request_rate is None else None,
        request_rate=request_rate,
        prefix_hit_ratio=prefix_hit_ratio,
        acceptance=acceptance,
    )
    if trace is not None and arriving.trace is not None:
        traffic = traffic_of(trace, prefix_hit_ratio=prefix_hit_ratio, acceptance=acceptance)
    version, card, spec = parse_engine(engine), choose_gpu(gpu, gpu_memory), understand(model)
    assert card is not None
    Load(traffic=traffic, ttft_goal_ms=ttft_goal, tpot_goal_ms=tpot_goal)  # refuses goals that are none
    agrees(traffic, workload)
    against = objection_to(spec, version, card, split, workload)
    if against is not None:
        raise UnsupportedError(as_sentence(f"{spec.id} on {card.name}: {against.because}"), hint=against.hint)
    clock, measured = _clock(provider, model, spec, workload, split, card, version)
    deployed = Deployed(spec, workload, split, card, version, traffic, clock=clock, measured=measured)
    found = deployed.under(traffic, replicas=replicas)
    asked = Asked(
        spec=spec, workload=workload, split=split, gpu=card, engine=version, traffic=traffic, replicas=replicas
    )  # fmt: skip
    near, modelled = evidence_near(asked), found
    if provider == "measured":
        found = from_measurements(asked, modelled, near)
    points = deployed.curve(traffic, replicas=replicas)
    at = partial(deployed.at, traffic, replicas=replicas)
    met = meeting(points[:-1], ttft_ms=ttft_goal, tpot_ms=tpot_goal, at=at)
    simulated = None
    if trace is not None:
        simulated = simulate_deployment(
            spec, workload, split, card, version, trace, traffic, replicas=replicas, clock=clock,
            balance=arriving.balance, ttft_goal_ms=ttft_goal, tpot_goal_ms=tpot_goal,
        )  # fmt: skip
    if as_json:
        told = {**as_facts(asked, found, points, met), "simulation": as_simulation(simulated)}
        rests = all_provenance(found, modelled, told)
        emit_json("estimate", {**told, "provenance": rests, "measurements": as_measurements(near)})
        return 0
    words = _again(model, gpu, gpu_memory, engine, asked)
    _show(words, asked, found, points, met, simulated, near)
    return 0


def _one_load(*, clients: bool, rate: float | None, simulated: bool, provider: str) -> None:
    """Refuse loads that contradict each other."""
    if clients and rate is not None:
        raise UsageError("--concurrency and --request-rate are two kinds of load.", hint="Leave one out.")
    if simulated and provider == "measured":
        raise UsageError(
            "A simulation takes times of single steps, which no published run has.",
            hint="Leave out --provider measured, or the trace.",
        )


def _again(model: str, gpu: str, gpu_memory: int | None, engine: str, asked: Asked) -> str:
    """The words of `selfhost cost` for the same deployment and lengths."""
    from selfhost.engines import parse_engine

    traffic = asked.traffic
    own = {
        "--gpu": gpu,
        "--gpu-memory": size_words(gpu_memory) if gpu_memory is not None else None,
        "--engine": engine if asked.engine != parse_engine("vllm") else None,
        "--replicas": str(asked.replicas) if asked.replicas > 1 else None,
        "--prompt-tokens": str(traffic.prompt_tokens),
        "--output-tokens": str(traffic.output_tokens),
        "--cached-share": f"{traffic.prefix_hit_ratio:g}" if traffic.prefix_hit_ratio else None,
    }
    given = tuple(word for flag, value in own.items() if value is not None for word in (flag, value))
    return again(model, replace(asked.workload, concurrency=1), asked.split, more=given)


def _clock(
    provider: str,
    model: str,
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
) -> tuple[StepClock | None, Provenance | None]:
    """Step times from elsewhere than the roofline, and where those are from."""
    if provider != "silicon":
        return None, None
    from selfhost.hub import load_model
    from selfhost.silicon import kernel_clock

    return kernel_clock(load_model(model).config, spec, workload, split, gpu, engine)


def as_facts(asked: Asked, found: Estimate, points: tuple[Point, ...], met: Met | None) -> dict[str, object]:
    """The object of `selfhost/estimate/v1`, without what its numbers rest on."""
    from selfhost.throughput.goals import knee
    from selfhost.throughput.limits import admitted_range, limits_of

    traffic, admitted = asked.traffic, admitted_range(asked)
    return {
        "model": asked.spec.id,
        "gpu": asked.gpu.id,
        "gpus": found.gpus,
        "split": asdict(asked.split),
        "replicas": asked.replicas,
        "engine": {"name": asked.engine.engine, "version": asked.engine.text},
        "traffic": asdict(traffic),
        "ttft_ms": asdict(found.ttft_ms),
        "tpot_ms": asdict(found.tpot_ms),
        "output_tokens_per_second": asdict(found.output_tokens_per_second),
        "output_tokens_per_second_per_gpu": asdict(found.output_tokens_per_second.scaled(1 / found.gpus)),
        "requests_per_second": found.requests_per_second,
        "requests_per_second_range": asdict(found.output_tokens_per_second.scaled(1 / traffic.output_tokens)),
        "concurrency_admitted": found.concurrency_admitted,
        "concurrency_admitted_range": {end: int(value) for end, value in asdict(admitted).items()},
        "running": found.running,
        "binds": found.binds,
        "binds_each": limits_of(asked, found),
        "saturated": found.saturated,
        "queue": found.queue,
        "curve": [asdict(point) for point in points],
        "knee_concurrency": knee(points[:-1]),
        "goals": None if met is None else asdict(met),
        "notes": list(found.notes),
    }


def _span(found: Range, *, digits: int = 0) -> str:
    if found.low == found.high:
        return f"{found.typical:,.{digits}f}"
    return f"{found.typical:,.{digits}f}  ({found.low:,.{digits}f} to {found.high:,.{digits}f})"


def _show(
    words: str,
    asked: Asked,
    found: Estimate,
    points: tuple[Point, ...],
    met: Met | None,
    simulated: Simulated | None,
    near: tuple[Evidence, ...],
) -> None:
    from selfhost.throughput.goals import knee
    from selfhost.throughput.limits import admitted_range, limits_of

    traffic, limits = asked.traffic, limits_of(asked, found)
    load = (
        f"{traffic.concurrency:,} at once"
        if traffic.concurrency is not None
        else per_second(traffic.request_rate or 0.0)
    )
    speed = found.output_tokens_per_second.typical
    verb = "More arrives than is served: " if found.saturated and traffic.request_rate is not None else ""
    headline(
        f"{verb}{found.gpus:,} × {asked.gpu.name} {'gives' if found.gpus == 1 else 'give'} {asked.spec.id} about "
        f"{speed:,.0f} tokens/s for {load}.",
        good=None if not verb else False,
    )
    click.echo()
    facts(
        {
            "time to first token, ms": _span(found.ttft_ms),
            "time per output token, ms": _span(found.tpot_ms, digits=1),
            "output tokens/s": _span(found.output_tokens_per_second),
            "each GPU, tokens/s": _span(found.output_tokens_per_second.scaled(1 / found.gpus)),
            "requests/s": _span(found.output_tokens_per_second.scaled(1 / traffic.output_tokens), digits=2),
            "admitted at once": _span(admitted_range(asked)),
            "what binds": f"{found.binds}; the first token: {limits['ttft_ms']}; each further one: "
            f"{limits['tpot_ms']}; admission: {limits['concurrency_admitted']}",
        }
    )
    click.echo()
    best = knee(points[:-1])
    table(
        (
            ("at once", "right"),
            ("TTFT ms", "right"),
            ("TPOT ms", "right"),
            ("tokens/s", "right"),
            ("what binds", "left"),
        ),
        [
            (
                f"{point.concurrency:,}",
                f"{point.ttft_ms.typical:,.0f}",
                f"{point.tpot_ms.typical:,.1f}",
                f"{point.output_tokens_per_second.typical:,.0f}",
                point.binds + ("  < knee" if point.concurrency == best else ""),
            )
            for point in points
        ],
    )
    click.echo()
    if simulated is not None:
        show_simulation(simulated)
    if met is not None:
        say(met.sentence)
    for note in found.notes:
        say(f"Note: {note}")
    for because in dict.fromkeys(one.because for one in found.provenance if one.number != "ttft_ms"):
        say(f"Rests on {because}.")
    measured = any(one.kind == "measured" for one in found.provenance)
    show_measurements(near, taken=measured)
    next_step(f"selfhost cost {words} --request-rate {found.requests_per_second:.3g}", "what that costs")
