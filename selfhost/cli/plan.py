"""Choose GPUs for a model and a load, and write the choice as plan.json."""

from __future__ import annotations

import os
from dataclasses import replace
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
from selfhost.cli._sizing import again, as_sentence, choose_gpu
from selfhost.errors import UnsupportedError, UsageError
from selfhost.units import ceil_div, size_words
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import Objection
    from selfhost.licence import Use, Verdict
    from selfhost.memory import MemoryBudget
    from selfhost.model.raw import RawModel
    from selfhost.place import Placements
    from selfhost.plan import Plan


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
    accept_licence: tuple[str, ...],
    as_json: bool,
) -> int:
    """Choose GPUs that carry MODEL under a load, fewest first, and say why the others do not.

    Without --tp, --pp or --dp the fewest GPUs of each kind are searched for. The choice is written with -o as a
    plan.json, which `selfhost render` takes. With --use a model whose licence does not permit that use is refused.
    Exit code 4: nothing fits.
    """
    from selfhost.catalog.gpus import searched
    from selfhost.engines import parse_engine
    from selfhost.hub import load_model
    from selfhost.model.parse import parse_model

    printed = output is not None and str(output) == "-"
    if printed and as_json:
        raise UsageError("--json prints the plan already.", hint="Leave -o - out.")
    if gpu_memory is not None and len(gpu) != 1:
        raise UsageError("--gpu-memory goes with exactly one --gpu.", hint="Name the GPU whose memory it is.")
    named = {card.id: card for one in gpu if (card := choose_gpu(one, gpu_memory)) is not None}
    cards = tuple(named.values()) or searched()
    raw = load_model(model)
    asked = Asked(
        raw=raw,
        spec=parse_model(raw),
        engine=parse_engine(engine),
        gpus=cards,
        workload=workload,
        licence=_judged(raw, use, accept_licence),
    )
    fixed = any(_was_typed(context, field) for field in ("tensor", "pipeline", "data"))
    placements, objections = _place(asked, split, fixed=fixed)
    if not placements.fitting:
        _explain_if_impossible(asked, placements, objections)
    if placements.fitting and pick > len(placements.fitting):
        raise UsageError(f"--pick {pick}: the table has {len(placements.fitting)} rows at most.")
    plan = _plan(asked, placements, pick, replicas, name, image) if placements.fitting else None
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


def _judged(raw: RawModel, use: Use | None, accepted: tuple[str, ...]) -> Verdict:
    """What the model's licence means for the use.

    Raises:
        LicenceError: a use was named that it does not permit, or whose terms are not accepted.
    """
    from functools import partial

    from selfhost.hub.bases import base_of, declared_of, read_licence
    from selfhost.licence import judge, require

    base_repo, base = base_of(raw, use=use) or (None, None)
    judged = partial(judge, use=use, accepted=accepted, repo=raw.repository, base=base, base_repo=base_repo)
    verdict = judged(declared_of(raw))
    if verdict.permission == "unknown":
        verdict = judged(read_licence(raw))
    require(verdict)
    return verdict


def _was_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _typed(context: click.Context) -> tuple[str, ...]:
    """The options that were typed and that no field of the load or the split stands for, as words."""
    found: list[str] = []
    for name in ("gpu", "gpu_memory", "engine", "pick", "replicas", "image", "name", "use", "accept_licence"):
        if _was_typed(context, name):
            given = context.params[name]
            for value in given if isinstance(given, tuple) else (given,):
                text = size_words(value) if name == "gpu_memory" else str(value)
                found += (f"--{name.replace('_', '-')}", text)
    return tuple(found)


def _place(asked: Asked, split: Split, *, fixed: bool) -> tuple[Placements, list[Objection]]:
    """Every kind of GPU tried, and what the engine objected to."""
    from selfhost.engines import get_engine, layers_only
    from selfhost.place import place, splits
    from selfhost.serving import serving_for
    from selfhost.sizing import budget_for

    driver = get_engine(asked.engine.engine)
    objections: list[Objection] = []

    def objection(gpu: Gpu, shape: Split) -> Objection | None:
        against = driver.object_to(serving_for(asked.spec, asked.engine, gpu, shape, asked.workload))
        if against is not None:
            objections.append(against)
        return against

    def sized(gpu: Gpu, shape: Split) -> MemoryBudget:
        found = budget_for(asked.spec, asked.workload, shape, gpu, asked.engine)
        enough = _admitting(asked.workload, shape, found)
        return found if enough is None else budget_for(asked.spec, enough, shape, gpu, asked.engine)

    candidates = (split,) if fixed else splits(expert=split.expert, layers_only=layers_only(driver))
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
    kinds: dict[str, list[str]] = {}
    for refusal in placements.refused:
        kinds.setdefault(refusal.because, []).append(refusal.gpu_id)
    reasons = sorted(kinds, key=lambda reason: -len(kinds[reason]))
    hint = next((one.hint for one in objections if one.because == reasons[0] and one.hint), None)
    if len(reasons) == 1:
        raise UnsupportedError(as_sentence(f"{asked.spec.id}: {reasons[0]}"), hint=hint)
    shown = "; ".join(
        f"{reason} ({kinds[reason][0] if len(kinds[reason]) == 1 else f'{len(kinds[reason])} kinds'})"
        for reason in reasons[:3]
    )
    raise UnsupportedError(as_sentence(f"No GPU runs {asked.spec.id}: {shown}"), hint=hint)


def _plan(
    asked: Asked, placements: Placements, pick: int, replicas: int, name: str | None, image: str | None
) -> Plan:
    from selfhost.engines import parse_image
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
        image=None if image is None else parse_image(image),
        name=name,
        fitting=placements.fitting,
        refused=placements.refused,
        licence=asked.licence,
    )


def _now() -> str:
    """The time in UTC; SOURCE_DATE_EPOCH stands in for the clock where output has to be reproducible."""
    from datetime import UTC, datetime

    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(fixed), UTC) if fixed.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
