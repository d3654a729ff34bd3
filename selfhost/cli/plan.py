"""Choose GPUs for a model and a load, and write the choice as plan.json."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._licence import licence_options
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
from selfhost.cli._output import emit_json
from selfhost.cli._placements import Asked, as_facts, show, show_next, show_nothing
from selfhost.cli._planning import explain_if_impossible, judged, placed, plan_of
from selfhost.cli._rank_options import Wish, rank_options
from selfhost.cli._sizing import again, choose_gpu
from selfhost.errors import UsageError
from selfhost.place import NODE_GPUS
from selfhost.units import size_words
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.licence import Use


@click.command()
@model_argument
@gpu_option(multiple=True, help_text="Kind of GPU to consider; repeat for several, leave out for all.")
@gpu_memory_option("Memory that the engine sees of the one --gpu, for a shared or a part of it.")
@split_options
@workload_options
@engine_option
@click.option(
    "--pick", type=AT_LEAST[1], default=1, metavar="N", help="Row of the table to write.  [default: 1]"
)
@click.option("--replicas", type=AT_LEAST[1], default=1, metavar="N", help="Copies to deploy.  [default: 1]")
@click.option(
    "--image",
    metavar="IMAGE",
    help="Image instead of the published one: own, from a mirror, or with its digest.",
)
@click.option("--name", metavar="NAME", help="Name of the deployment, made from the model's if absent.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
    help="Write the choice as plan.json; - prints it and nothing else.",
)  # fmt: skip
@rank_options
@licence_options
@json_option
@click.pass_context
def command(
    context: click.Context,
    model: str,
    gpu: tuple[str, ...],
    gpu_memory: int | None,
    split: Split,
    workload: Workload,
    engine: str,
    pick: int,
    replicas: int,
    image: str | None,
    name: str | None,
    output: Path | None,
    use: Use | None,
    wish: Wish,
    accept_licence: tuple[str, ...],
    as_json: bool,
) -> int:
    """Choose GPUs that carry MODEL under a load, fewest first, and say why the others do not.

    Without --tp, --pp or --dp the fewest GPUs of each kind are searched for. The choice is written with -o as a
    plan.json, which `selfhost render` takes. With --use a model whose licence does not permit that use is refused.

    With --rank-by, or any option of speed or cost, every number of GPUs is tried, with replicas where the load wants
    them: --concurrency, --request-rate and --replicas are then of the whole deployment, and --concurrency counts
    requests of the --context that was named, else of --prompt-tokens and --output-tokens.
    Exit code 4: nothing fits.
    """
    from selfhost.catalog.gpus import searched
    from selfhost.engines import parse_engine
    from selfhost.hub import load_model
    from selfhost.model.parse import parse_model
    from selfhost.plan.check import MOST_REPLICAS

    printed = output is not None and str(output) == "-"
    if printed and as_json:
        raise UsageError("--json prints the plan already.", hint="Leave -o - out.")
    if gpu_memory is not None and len(gpu) != 1:
        raise UsageError("--gpu-memory goes with exactly one --gpu.", hint="Name the GPU whose memory it is.")
    if replicas > MOST_REPLICAS:  # as a plan.json holds no more
        raise UsageError(f"--replicas must be between 1 and {MOST_REPLICAS:,}, not {replicas:,}.")
    named = {card.id: card for one in gpu if (card := choose_gpu(one, gpu_memory)) is not None}
    cards = tuple(named.values()) or searched()
    raw = load_model(model)
    asked = Asked(
        raw=raw,
        spec=parse_model(raw),
        engine=parse_engine(engine),
        gpus=cards,
        workload=workload,
        licence=judged(raw, use, accept_licence),
    )
    fixed = any(_was_typed(context, field) for field in ("tensor", "pipeline", "data"))
    if wish.asked:
        return _by_worth(context, asked, wish, split, fixed=fixed, output=output, as_json=as_json)
    placements, objections = placed(asked, split, fixed=fixed)
    if not placements.fitting:
        explain_if_impossible(asked, placements, objections)
    if placements.fitting and pick > len(placements.fitting):
        raise UsageError(f"--pick {pick}: the table has {len(placements.fitting)} rows at most.")
    plan = plan_of(asked, placements, pick, replicas, name, image) if placements.fitting else None
    if plan is not None and output is not None:
        from selfhost.plan import to_json, write_plan

        if printed:
            click.echo(to_json(plan), nl=False)
            return 0
        write_plan(plan, output)
    if as_json:
        emit_json("placements", as_facts(asked, placements, plan, pick, output))
    elif plan is None:
        show_nothing(asked, placements)
    else:
        show(asked, placements, plan, pick)
        words = again(model, workload, split if fixed else None, more=_typed(context))
        words += " --ep" if split.expert and not fixed else ""
        show_next(words, pick, output, several=placements.fitting[pick - 1].multi_node)
    return 0 if plan is not None else 4


def _by_worth(
    context: click.Context, asked: Asked, wish: Wish, split: Split, *, fixed: bool, output: Path | None, as_json: bool
) -> int:  # fmt: skip
    """The same with speed and cost: every combination, ranked by what was asked for."""
    from selfhost.cli import _ranked, _ranked_table

    given = context.params
    load = wish.load(asked.workload, clients=_was_typed(context, "concurrency"))
    _ranked.within(asked.spec, load)
    typed_load = asked.workload
    if not _was_typed(context, "max_model_len"):
        # One request of the model's own context has to fit; how many of the load's do, its lengths decide.
        asked = replace(asked, workload=replace(asked.workload, concurrency=1))
    replicas = given["replicas"] if _was_typed(context, "replicas") else None
    found = _ranked.searched(asked, wish, split, fixed=fixed, replicas=replicas, load=load)
    options = _ranked.ranked(found, wish, kinds=len(asked.gpus))
    if not options:
        return _ranked_table.show_none(asked, found, load, wish, as_json=as_json)
    typed = given["pick"] if _was_typed(context, "pick") else None
    pick = _ranked.picked(options, typed, written=output is not None)
    plan = _ranked.plan_of_option(asked, options, found, pick, load, wish, given["name"], given["image"])
    if plan is not None and output is not None:
        from selfhost.plan import to_json, write_plan

        if str(output) == "-":
            click.echo(to_json(plan), nl=False)
            return 0
        write_plan(plan, output)
    if as_json:
        emit_json("placements", _ranked.ranked_facts(asked, options, found, plan, pick, output, load, wish))
        return 0
    _ranked_table.show_ranked(asked, options, found, plan, pick, load, wish)
    words = again(given["model"], typed_load, split if fixed else None, more=_typed(context))
    words += " --ep" if split.expert and not fixed else ""
    show_next(words, pick, output, several=options[pick - 1].split.gpus > NODE_GPUS)
    return 0


def _was_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


_NAMED = ("gpu", "gpu_memory", "engine", "pick", "replicas", "image", "name", "use", "accept_licence")


def _typed(context: click.Context) -> tuple[str, ...]:
    """The options that were typed and that no field of the load or the split stands for, as words."""
    found: list[str] = []
    for name in (*_NAMED, *(field.name for field in fields(Wish))):
        if _was_typed(context, name):
            given = context.params[name]
            if given is True:
                found.append(f"--{name.replace('_', '-')}")
                continue
            for value in given if isinstance(given, tuple) else (given,):
                text = (
                    size_words(value)
                    if name == "gpu_memory"
                    else f"{value:g}"
                    if isinstance(value, float)
                    else str(value)
                )
                found += (f"--{name.replace('_', '-')}", text)
    return tuple(found)
