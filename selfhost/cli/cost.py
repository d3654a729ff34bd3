"""Compare what buying, renting and APIs cost for a volume: totals, payback, break-even, and what flips the choice."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._cost_deployment import Load
from selfhost.cli._load_options import (
    SHARE,
    goal_options,
    length_options,
    place_options,
    volume_options,
    way_options,
)
from selfhost.cli._options import (
    AT_LEAST,
    NamedPath,
    engine_option,
    gpu_memory_option,
    gpu_option,
    json_option,
    split_options,
    workload_options,
)
from selfhost.cli._output import emit_json
from selfhost.cli._sizing import as_sentence, choose_gpu, objection_to, split_words, understand
from selfhost.errors import UnsupportedError, UsageError
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from datetime import date

    from selfhost.cli._cost_deployment import Served
    from selfhost.cost.assumed import Ways
    from selfhost.cost.deployment import Deployment
    from selfhost.cost.study import Study

_FILE = NamedPath(path_type=Path)


@click.command()
@click.argument("model", required=False, metavar="[MODEL|PLAN.json]")
@click.option(
    "--scenario", type=_FILE, metavar="FILE", help="Compare the options of a TOML, YAML or JSON file instead."
)
@gpu_option(multiple=False, help_text="Kind of GPU that a copy runs on.")
@gpu_memory_option("Memory that the engine sees, for a shared or a part of a GPU.")
@split_options
@click.option(
    "--replicas", type=AT_LEAST[1], metavar="N", help="Copies of it all; as many as it takes if absent."
)
@length_options()
@volume_options()
@click.option(
    "--batch-share", type=SHARE, default=0.0, metavar="R",
    help="Share of the traffic that an API may answer within a day.  [default: 0]",
)  # fmt: skip
@goal_options(of="Full load")
@click.option("--buy", is_flag=True, help="Compare with buying the GPUs new.")
@click.option("--buy-used", is_flag=True, help="Compare with buying them used.")
@way_options
@place_options()
@click.option(
    "--assumptions", type=_FILE, metavar="FILE", help="Own assumptions before those that are exported."
)
@click.option(
    "--export-assumptions", type=_FILE, metavar="FILE", help="Write all assumptions as .toml or .json."
)
@workload_options
@engine_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    model: str | None,
    scenario: Path | None,
    gpu: str | None,
    gpu_memory: int | None,
    split: Split,
    replicas: int | None,
    prompt_tokens: int,
    output_tokens: int,
    tokens_per_month: float | None,
    requests_per_month: float | None,
    request_rate: float | None,
    utilization: float | None,
    cached_share: float,
    ttft_goal: float | None,
    tpot_goal: float | None,
    batch_share: float,
    buy: bool,
    buy_used: bool,
    rent: tuple[str, ...],
    api: tuple[str, ...],
    country: str,
    currency: str,
    years: int,
    hosted: str,
    prices: Path | None,
    assumptions: Path | None,
    export_assumptions: Path | None,
    workload: Workload,
    engine: str,
    as_json: bool,
) -> int:
    """Compare what it costs to serve a volume with MODEL on own GPUs, on rented ones, and by an API.

    Speed comes from `selfhost estimate`, prices from the catalogue, each within bounds. Without --buy, --rent and --api
    the usual ways are compared. Modules that are sold on boards are bought whole. --scenario FILE compares options of
    named amounts instead: docs/cost.md has its keys and the formulas.
    """
    if scenario is not None:
        hint = "Say it in the file, or leave --scenario out."
        _refuse_beside(context, _WITH_SCENARIO, "--scenario", hint)
        return _scenario(scenario, assumptions, export_assumptions, as_json=as_json)
    from selfhost.catalog.prices import load_prices
    from selfhost.cli._cost_deployment import deployment_of, ways_of, without_unpriced

    served, copies = _served(context, model, gpu, gpu_memory, split, workload, engine, ttft_goal, tpot_goal)
    load = Load(
        prompt_tokens=prompt_tokens, output_tokens=output_tokens, tokens_per_month=tokens_per_month,
        requests_per_month=requests_per_month, request_rate=request_rate, utilization=utilization,
        cached_share=cached_share,
    )  # fmt: skip
    known = load_prices(prices)
    bought = ("new",) * buy + ("used",) * buy_used
    asked = ways_of(bought, rent, api, served.spec.id, prompt_tokens=prompt_tokens, batch_share=batch_share)
    ways = without_unpriced(asked, known, served.gpu.id, rent)
    facts, deployment = deployment_of(
        served, load, ways, known, copies=replicas or copies, months=12 * years, country=country, currency=currency,
        hosted=hosted,
    )  # fmt: skip
    from selfhost.cli._cost_files import apply, read_assumptions, write_assumptions
    from selfhost.cost.study import study

    rows = facts.assumptions
    if assumptions is not None:
        rows = apply(rows, read_assumptions(assumptions), assumptions)
    found = study(rows, deployment.build)
    if export_assumptions is not None:
        write_assumptions(export_assumptions, rows)
    plan = model if model is not None and model.endswith(".json") else None
    _show_deployment(served, ways, deployment, found, plan=plan, as_json=as_json)
    return 0


_WITH_SCENARIO = frozenset({"scenario", "assumptions", "export_assumptions", "as_json"})


# What a plan leaves open; all else is decided in it.
_WITH_PLAN = _WITH_SCENARIO | {
    "model", "replicas", "prompt_tokens", "output_tokens", "tokens_per_month", "requests_per_month", "request_rate",
    "utilization", "cached_share", "batch_share", "ttft_goal", "tpot_goal", "buy", "buy_used", "rent", "api", "country",
    "currency", "years", "hosted", "prices", "concurrency",
}  # fmt: skip


def _refuse_beside(context: click.Context, taken: frozenset[str], what: str, hint: str) -> None:
    """Refuse what was typed and would be dropped in silence."""
    from click.core import ParameterSource

    for one in context.command.params:
        if one.name in taken:
            continue
        if context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE:
            name = one.opts[0] if isinstance(one, click.Option) else "MODEL"
            raise UsageError(f"{name} has no effect with {what}.", hint=hint)


def _scenario(path: Path, assumptions: Path | None, export: Path | None, *, as_json: bool) -> int:
    from selfhost.cli._cost_facts import as_facts
    from selfhost.cli._cost_files import apply, read_assumptions, read_tables, write_assumptions
    from selfhost.cli._cost_output import show
    from selfhost.cost.published import hold
    from selfhost.cost.scenario import scenario_of
    from selfhost.cost.study import study

    file = scenario_of(read_tables(path))
    rows = file.assumptions
    if assumptions is not None:
        rows = apply(rows, read_assumptions(assumptions), assumptions)
    found = study(rows, file.build)
    _not_overfull(found)
    held = [hold(claim, found) for claim in file.claims]
    if export is not None:  # nothing is written of what is refused
        write_assumptions(export, rows)
    notes = [
        note for note in (file.note, file.source and f"{file.source} ({file.date or 'no date'})") if note
    ]
    if as_json:
        about = dict.fromkeys(("model", "gpu", "gpus_in_use", "split", "copies", "engine", "hosted_open"))
        emit_json(
            "cost",
            as_facts(
                found,
                title=file.title,
                about=about,
                held=held,
                copies={},
                rules=(),
                notes=notes,
                today=_today(),
            ),
        )
    else:
        show(
            found, title=file.title, held=held, copies={}, rules=(), notes=notes, today=_today(),
            onward=("selfhost cost MODEL --gpu ID …", "the same for a model on GPUs, with their prices"),
        )  # fmt: skip
    return 0


def _today() -> date:
    from datetime import date

    from selfhost.cli._planning import now

    return date.fromisoformat(now()[:10])


def _not_overfull(found: Study) -> None:
    from math import ceil

    from selfhost.cost.breakeven import overfull

    full = overfull(found.scenario)
    if full is not None:
        raise UsageError(
            f"The volume is {full[1]:,.2f} times what option {full[0]!r} can answer with.",
            hint=f"Give it {ceil(full[1])} times the capacity, and the lines of as many machines.",
        )


def _served(
    context: click.Context, model: str | None, gpu: str | None, gpu_memory: int | None, split: Split,
    workload: Workload, engine: str, ttft_goal: float | None, tpot_goal: float | None,
) -> tuple[Served, int | None]:  # fmt: skip
    from selfhost.cli._cost_deployment import Served, read_plan_file
    from selfhost.engines import parse_engine

    if model is None:
        raise UsageError(
            "Name a MODEL, a plan.json or a --scenario.",
            hint="selfhost cost Qwen/Qwen3-32B --gpu h100-sxm-80gb …",
        )
    typed = context.get_parameter_source("concurrency") is click.core.ParameterSource.COMMANDLINE
    copies = None
    if model.endswith(".json"):
        _refuse_beside(context, _WITH_PLAN, "a plan", "Leave it out, or name the model instead of the plan.")
        spec, card, version, split, workload, copies = read_plan_file(Path(model))
    else:
        if gpu is None:
            raise UsageError("Own cost is of a GPU.", hint="Name one with --gpu; `selfhost gpus` lists them.")
        found = choose_gpu(gpu, gpu_memory)
        assert found is not None
        spec, card, version = understand(model), found, parse_engine(engine)
    against = objection_to(spec, version, card, split, workload)
    if against is not None:
        raise UnsupportedError(as_sentence(f"{spec.id} on {card.name}: {against.because}"), hint=against.hint)
    served = Served(
        spec=spec, gpu=card, engine=version, split=split, workload=workload,
        concurrency=workload.concurrency if typed else None, ttft_goal=ttft_goal, tpot_goal=tpot_goal,
    )  # fmt: skip
    return served, copies


def _show_deployment(
    served: Served, ways: Ways, deployment: Deployment, found: Study, *, plan: str | None, as_json: bool
) -> None:
    from selfhost.cli._cost_facts import as_facts
    from selfhost.cli._cost_output import count, show
    from selfhost.cost.rules import rules_of

    values = {one.key: one.typical for one in found.assumptions}
    apis = {offer.name for offer in ways.apis}
    copies = {
        (pair.option, pair.against): deployment.break_even(pair.option, pair.against, values)
        for pair in found.pairs
        if pair.option not in apis and (pair.against in apis or pair.option.startswith("buy"))
    }
    rules = rules_of(found, parameters=served.spec.parameters, break_evens=copies)
    many = max(deployment.copies, deployment.needed(values, deployment.volume))
    title = f"{many} × {served.spec.id} on {split_words(served.gpu.name, served.split)}"
    volume = deployment.volume
    copy = f"{many} {'copy' if many == 1 else 'copies'} of {split_words(served.gpu.name, served.split)}"
    tokens = f"{count(volume.input_tokens)} prompt and {count(volume.output_tokens)} answer tokens"
    notes = [
        f"{tokens} a month on {copy}; a month has 730 hours.",
        "Cost of own GPUs is laid on prompts and answers by the GPU time that each takes.",
    ]
    if as_json:
        about: dict[str, object] = {
            "model": served.spec.id,
            "gpu": served.gpu.id,
            "gpus_in_use": served.split.gpus * many,
            "split": asdict(served.split),
            "copies": many,
            "engine": {"name": served.engine.engine, "version": served.engine.text},
            "hosted_open": [offer.name for offer in ways.apis if offer.hosted_open],
        }
        emit_json(
            "cost",
            as_facts(
                found,
                title=title,
                about=about,
                held=(),
                copies=copies,
                rules=rules,
                notes=notes,
                today=_today(),
            ),
        )
        return
    show(
        found, title=title, held=(), copies=copies, rules=rules, notes=notes, today=_today(),
        onward=_onward(served, plan),
    )  # fmt: skip


def _onward(served: Served, plan: str | None) -> tuple[str, str]:
    """The command that leads on to a page, and why: a report is of a plan."""
    import shlex

    if plan is not None:
        return f"selfhost report {shlex.quote(plan)} -o report.html", "the same as a page for a meeting"
    command = f"selfhost plan {shlex.quote(served.spec.id)} --gpu {served.gpu.id} -o plan.json"
    return command, "a plan, of which `selfhost report` makes a page for a meeting"
