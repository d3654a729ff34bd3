"""Choose GPUs for a model and a load, and write the choice as plan.json."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import (
    AT_LEAST,
    SIZE,
    engine_option,
    gpu_option,
    json_option,
    model_argument,
    split_options,
    workload_options,
)
from selfhost.cli._output import emit_json, headline, next_step, say, table
from selfhost.cli._sizing import about_engine, about_memory, again, as_sentence, choose_gpu, requests
from selfhost.errors import UnsupportedError, UsageError
from selfhost.units import ceil_div, gib, size_words
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion, Objection
    from selfhost.memory import MemoryBudget
    from selfhost.model.raw import RawModel
    from selfhost.model.spec import ModelSpec
    from selfhost.place import Placement, Placements, Refusal
    from selfhost.plan import Plan

SHOWN = 10  # rows of the table, and refusals named below it


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plan is asked for, understood."""

    raw: RawModel
    spec: ModelSpec
    engine: EngineVersion
    gpus: tuple[Gpu, ...]
    workload: Workload


@click.command()
@model_argument
@gpu_option(multiple=True, help_text="Kind of GPU to consider; repeat for several, leave out for all.")
@click.option(
    "--gpu-memory", type=SIZE, metavar="BYTES",
    help="Memory that the engine sees of the one --gpu, for a shared or a part of it.",
)  # fmt: skip
@split_options
@workload_options
@engine_option
@click.option(
    "--pick", type=AT_LEAST[1], default=1, metavar="N", help="Row of the table to write.  [default: 1]"
)
@click.option("--replicas", type=AT_LEAST[1], default=1, metavar="N", help="Copies to deploy.  [default: 1]")
@click.option("--name", metavar="NAME", help="Name of the deployment, made from the model's if absent.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
    help="Write the choice as plan.json; - prints it and nothing else.",
)  # fmt: skip
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
    name: str | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Choose GPUs that carry MODEL under a load, fewest first, and say why the others do not.

    Without --tp, --pp or --dp the fewest GPUs of each kind are searched for. The choice is written with -o as a
    plan.json, which `selfhost render` takes. Exit code 4: nothing fits.
    """
    printed = output is not None and str(output) == "-"
    if printed and as_json:
        raise UsageError("--json prints the plan already.", hint="Leave -o - out.")
    from selfhost.catalog.gpus import gpus
    from selfhost.engines import parse_engine
    from selfhost.hub import load_model
    from selfhost.model.parse import parse_model

    printed = output is not None and str(output) == "-"
    if printed and as_json:
        raise UsageError("--json prints the plan already.", hint="Leave -o - out.")
    if gpu_memory is not None and len(gpu) != 1:
        raise UsageError("--gpu-memory goes with exactly one --gpu.", hint="Name the GPU whose memory it is.")
    named = {card.id: card for one in gpu if (card := choose_gpu(one, gpu_memory)) is not None}
    cards = tuple(named.values()) or gpus()
    raw = load_model(model)
    asked = Asked(raw=raw, spec=parse_model(raw), engine=parse_engine(engine), gpus=cards, workload=workload)
    fixed = any(_was_typed(context, field) for field in ("tensor", "pipeline", "data"))
    placements, objections = _place(asked, split, fixed=fixed)
    if not placements.fitting:
        _explain_if_impossible(asked, placements, objections)
    if placements.fitting and pick > len(placements.fitting):
        raise UsageError(f"--pick {pick}: the table has {len(placements.fitting)} rows at most.")
    plan = _plan(asked, placements, pick, replicas, name) if placements.fitting else None
    if plan is not None and output is not None:
        from selfhost.plan import to_json, write_plan

        if printed:
            click.echo(to_json(plan), nl=False)
            return 0
        write_plan(plan, output)
    if as_json:
        emit_json("placements", as_facts(asked, placements, plan, pick, output))
    elif plan is None:
        _show_nothing(asked, placements)
    else:
        _show(asked, placements, plan, pick)
        words = again(model, workload, split if fixed else None, more=_typed(context))
        _show_next(words + (" --ep" if split.expert and not fixed else ""), pick, output)
    return 0 if plan is not None else 4


def _was_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _typed(context: click.Context) -> tuple[str, ...]:
    """The options that were typed and that no field of the load or the split stands for, as words."""
    found: list[str] = []
    for name in ("gpu", "gpu_memory", "engine", "pick", "replicas", "name"):
        if _was_typed(context, name):
            given = context.params[name]
            for value in given if isinstance(given, tuple) else (given,):
                text = size_words(value) if name == "gpu_memory" else str(value)
                found += (f"--{name.replace('_', '-')}", text)
    return tuple(found)


def _place(asked: Asked, split: Split, *, fixed: bool) -> tuple[Placements, list[Objection]]:
    """Every kind of GPU tried, and what the engine objected to."""
    from selfhost.engines import get_engine
    from selfhost.memory import budget
    from selfhost.place import place, splits
    from selfhost.serving import serving_for

    driver = get_engine(asked.engine.engine)
    objections: list[Objection] = []

    def objection(gpu: Gpu, shape: Split) -> Objection | None:
        against = driver.object_to(serving_for(asked.spec, asked.engine, gpu, shape, asked.workload))
        if against is not None:
            objections.append(against)
        return against

    def sized(gpu: Gpu, shape: Split) -> MemoryBudget:
        found = budget(asked.spec, asked.workload, shape, gpu, asked.engine.number)
        enough = _admitting(asked.workload, shape, found)
        return found if enough is None else budget(asked.spec, enough, shape, gpu, asked.engine.number)

    candidates = (split,) if fixed else splits(expert=split.expert)
    return place(asked.gpus, budget=sized, objection=objection, candidates=candidates), objections


def _admitting(workload: Workload, split: Split, found: MemoryBudget) -> Workload | None:
    """The load with steps that take all its requests at once, None where the engine's own steps do."""
    at_once = ceil_div(workload.concurrency, split.data)
    if workload.max_num_seqs is not None or at_once <= found.max_num_seqs:
        return None
    tokens = workload.max_num_batched_tokens or max(found.max_num_batched_tokens, at_once)
    return replace(workload, max_num_seqs=at_once, max_num_batched_tokens=tokens)


def _explain_if_impossible(asked: Asked, placements: Placements, objections: list[Objection]) -> None:
    """Raise where no GPU was refused for want of memory: more of it would not help."""
    if any(refusal.short_bytes is not None for refusal in placements.refused):
        return
    reasons = {refusal.because for refusal in placements.refused}
    hint = next((one.hint for one in objections if one.because in reasons and one.hint), None)
    if len(reasons) == 1:
        raise UnsupportedError(as_sentence(f"{asked.spec.id}: {reasons.pop()}"), hint=hint)
    shown = "; ".join(f"{refusal.gpu_id}: {refusal.because}" for refusal in placements.refused[:3])
    raise UnsupportedError(f"No GPU runs {asked.spec.id}: {shown}.", hint=hint)


def _plan(asked: Asked, placements: Placements, pick: int, replicas: int, name: str | None) -> Plan:
    from selfhost.plan import make_plan

    chosen = placements.fitting[pick - 1]
    tensors = asked.raw.tensors
    return make_plan(
        spec=asked.spec,
        engine=asked.engine,
        gpu=next(gpu for gpu in asked.gpus if gpu.id == chosen.gpu_id),
        split=chosen.split,
        workload=asked.workload,
        budget=chosen.budget,
        created=_now(),
        stored_bytes=sum(tensor.bytes for tensor in tensors) if tensors else None,
        safetensors=asked.raw.origin == "catalogue" or bool(tensors),
        replicas=replicas,
        name=name,
        fitting=placements.fitting,
        refused=placements.refused,
    )


def _now() -> str:
    """The time in UTC; SOURCE_DATE_EPOCH stands in for the clock where output has to be reproducible."""
    from datetime import UTC, datetime

    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(fixed), UTC) if fixed.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def as_facts(
    asked: Asked, placements: Placements, plan: Plan | None, pick: int, output: Path | None
) -> dict[str, object]:
    """The object of `selfhost/placements/v1`."""
    import json

    from selfhost.place import RANKING
    from selfhost.plan import to_json

    return {
        "fits": plan is not None,
        "ranking": RANKING,
        "picked": pick if plan is not None else None,
        "placements": [
            {
                "gpu_id": placement.gpu_id,
                "gpus": placement.split.gpus,
                "split": asdict(placement.split),
                "weights_bytes": placement.budget.weights_bytes,
                "kv_available_bytes": placement.budget.kv_available_bytes,
                "kv_needed_bytes": placement.budget.kv_needed_bytes,
                "kv_tokens": placement.budget.kv_tokens,
                "max_concurrency": placement.budget.max_concurrency,
                "max_context_tokens": placement.budget.max_context_tokens,
                "total_memory_bytes": placement.total_memory_bytes,
                "multi_node": placement.multi_node,
            }
            for placement in placements.fitting
        ],
        "refusals": [
            {
                "gpu_id": refusal.gpu_id,
                "gpus": refusal.split.gpus,
                "split": asdict(refusal.split),
                "because": refusal.because,
                "short_bytes": refusal.short_bytes,
            }
            for refusal in placements.refused
        ],
        "plan_file": None if output is None or plan is None else str(output),
        "plan": None if plan is None else json.loads(to_json(plan)),
    }


def _load(asked: Asked) -> str:
    return requests(
        asked.workload.concurrency, asked.workload.max_model_len or asked.spec.facts.max_context_tokens
    )


def _show_nothing(asked: Asked, placements: Placements) -> None:
    who = f"None of {len(asked.gpus)} kinds of GPU carries"
    if len(asked.gpus) == 1:
        count = placements.refused[0].split.gpus
        who = f"{count} × {asked.gpus[0].name} {'does' if count == 1 else 'do'} not carry"
    headline(f"Nothing fits. {who} {_load(asked)} of {asked.spec.id}.", good=False)
    click.echo()
    _show_refusals(placements.refused)
    _show_remedies(asked, placements.refused)


def _show(asked: Asked, placements: Placements, plan: Plan, pick: int) -> None:
    chosen = placements.fitting[pick - 1]
    verb = "carries" if chosen.split.gpus == 1 else "carry"
    text = f"{chosen.split.gpus} × {plan.gpu.name} {verb} {_load(asked)} of {asked.spec.id}."
    if len(asked.gpus) > 1:
        kept = len(placements.fitting)
        text += f" {kept} of {len(asked.gpus)} kinds of GPU {'does' if kept == 1 else 'do'}."
    headline(text, good=True)
    click.echo()
    table(
        (
            ("#", "right"),
            ("GPUs", "left"),
            ("split", "left"),
            ("weights", "right"),
            ("KV cache", "right"),
            ("tokens", "right"),
            ("room", "right"),
        ),
        [_row(number, placement) for number, placement in _shown(placements.fitting, pick)],
        wrap=1,
    )
    click.echo("\n  Fewest GPUs first, then least memory. GiB are per GPU; room is how many times")
    click.echo("  the load fits.\n")
    if placements.refused:
        say(_refused(placements.refused))
    if asked.spec.licence:
        say(f"Licence: {asked.spec.licence}.")
    for note in _notes(asked, plan):
        say(f"Note: {note}")


def _notes(asked: Asked, plan: Plan) -> tuple[str, ...]:
    """What to know beside the table."""
    notes = [
        *asked.spec.notes,
        *about_memory(asked.gpus[0], named=True),
        *about_engine(asked.engine, asked.spec),
    ]
    if asked.workload.max_num_seqs is None and plan.memory.max_num_seqs == ceil_div(
        asked.workload.concurrency, plan.split.data
    ):
        notes.append(
            f"The plan sets {plan.memory.max_num_seqs:,} requests a step, for all to run at once; by itself the engine "
            "takes fewer."
        )
    return tuple(notes)


def _show_next(words: str, pick: int, output: Path | None) -> None:
    if output is None:
        next_step(f"selfhost plan {words} -o plan.json", "write the choice down")
    else:
        click.echo(f"Written to {output}: #{pick}.")
        next_step(f"selfhost render {shlex.quote(str(output))} -o out", "its manifests")


def _shown(fitting: tuple[Placement, ...], pick: int) -> list[tuple[int, Placement]]:
    rows = list(enumerate(fitting, start=1))
    return rows[:SHOWN] if pick <= SHOWN else [*rows[: SHOWN - 1], rows[pick - 1]]


def _row(number: int, placement: Placement) -> tuple[str, ...]:
    budget, split = placement.budget, placement.split
    names = (("TP", split.tensor), ("PP", split.pipeline), ("DP", split.data))
    divided = " ".join(f"{name} {size}" for name, size in names if size > 1) + (" EP" if split.expert else "")
    room = (budget.max_concurrency or 0) * split.data / budget.concurrency
    return (
        str(number),
        f"{split.gpus} × {placement.gpu_id}",
        divided or "–",
        gib(budget.weights_bytes),
        gib(budget.kv_available_bytes or 0),
        f"{budget.kv_tokens or 0:,}",
        f"{room:.1f}×",
    )


def _refused(refused: tuple[Refusal, ...]) -> str:
    """The refusals that miss least, on one paragraph."""
    parts = []
    for refusal in refused[:SHOWN]:
        short = (
            f"short {gib(refusal.short_bytes)} GiB a GPU"
            if refusal.short_bytes is not None
            else refusal.because
        )
        parts.append(f"{refusal.split.gpus} × {refusal.gpu_id} {short}")
    more = f" · and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    return f"Refused: {' · '.join(parts)}{more}."


def _show_refusals(refused: tuple[Refusal, ...]) -> None:
    table(
        (("GPUs", "left"), ("short GiB", "right"), ("because", "left")),
        [
            (
                f"{refusal.split.gpus} × {refusal.gpu_id}",
                "–" if refusal.short_bytes is None else gib(refusal.short_bytes),
                refusal.because,
            )
            for refusal in refused[:SHOWN]
        ],
    )
    if len(refused) > SHOWN:
        click.echo(f"\n  and {len(refused) - SHOWN} more, which miss more.")


def _show_remedies(asked: Asked, refused: tuple[Refusal, ...]) -> None:
    """What would make the load fit on the placement that misses least."""
    from selfhost.cli._sizing import remedies_for, show_remedies

    nearest = next((refusal for refusal in refused if refusal.short_bytes is not None), None)
    if nearest is None:
        return
    gpu = next(gpu for gpu in asked.gpus if gpu.id == nearest.gpu_id)
    changes = remedies_for(
        asked.spec, asked.workload, nearest.split, gpu, asked.engine, from_this_checkpoint=True
    )
    show_remedies(f"What would help on {nearest.split.gpus} × {gpu.name}:", changes)
