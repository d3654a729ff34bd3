"""Placements for people and for scripts: the ranked table, the refusals, what would help, the JSON object."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._output import headline, next_step, say, table
from selfhost.cli._sizing import (
    about_engine,
    about_memory,
    as_sentence,
    remedies_for,
    requests,
    show_remedies,
)
from selfhost.units import gib
from selfhost.workload import Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion
    from selfhost.licence import Verdict
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
    licence: Verdict


def as_facts(
    asked: Asked, placements: Placements, plan: Plan | None, pick: int, output: Path | None
) -> dict[str, object]:
    """The object of `selfhost/placements/v1`."""
    import json

    from selfhost import strict
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
        "licence": strict.encode(asked.licence),
        "plan_file": None if output is None or plan is None else str(output),
        "plan": None if plan is None else json.loads(to_json(plan)),
    }


def _load(asked: Asked) -> str:
    return requests(
        asked.workload.concurrency, asked.workload.max_model_len or asked.spec.facts.max_context_tokens
    )


def show_nothing(asked: Asked, placements: Placements) -> None:
    """What is refused, and what would help."""
    who = f"None of {len(asked.gpus)} kinds of GPU carries"
    if len(asked.gpus) == 1:
        count = placements.refused[0].split.gpus
        who = f"{count} × {asked.gpus[0].name} {'does' if count == 1 else 'do'} not carry"
    headline(f"Nothing fits. {who} {_load(asked)} of {asked.spec.id}.", good=False)
    click.echo()
    _show_refusals(placements.refused)
    _show_remedies(asked, placements.refused)


def show(asked: Asked, placements: Placements, plan: Plan, pick: int) -> None:
    """What carries the load, ranked, and what is refused."""
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
        say(refused_words(placements.refused))
    say(f"Licence: {licence_words(asked.licence)}.")
    for note in notes_of(asked, plan):
        say(f"Note: {note}")


def licence_words(verdict: Verdict) -> str:
    """The verdict in a few words, and how open the model is where that is known."""
    from selfhost.licence import brief

    return brief(verdict) + ("" if verdict.openness == "unknown" else f"; {verdict.openness}")


def notes_of(asked: Asked, plan: Plan) -> tuple[str, ...]:
    """What to know beside the table."""
    from selfhost.engines import get_engine
    from selfhost.place import NODE_GPUS
    from selfhost.reserves import defaults

    notes = [
        *asked.spec.notes,
        *asked.licence.notes,
        *about_memory(asked.gpus[0], named=True),
        *about_engine(asked.engine, asked.spec),
        *map(as_sentence, plan.engine.notes),
    ]
    gpu = next(gpu for gpu in asked.gpus if gpu.id == plan.gpu.id)
    stand_in = get_engine(asked.engine.engine).sizing(asked.engine).release
    by_itself = defaults(stand_in, gpu, max_model_len=plan.memory.max_model_len).max_num_seqs
    if asked.workload.max_num_seqs is None and plan.memory.max_num_seqs > by_itself:
        notes.append(
            f"The plan sets {plan.memory.max_num_seqs:,} requests a step, for all to run at once; by itself the engine "
            f"takes {by_itself:,}."
        )
    if plan.gpu.count > NODE_GPUS:
        notes.append(
            f"{plan.gpu.count} GPUs are more than one node has ({NODE_GPUS}): each replica is a group of nodes."
        )
    return tuple(notes)


def show_next(words: str, pick: int, output: Path | None, *, several: bool) -> None:
    """The command that comes next.

    Args:
        words: what was asked, as arguments of `selfhost plan`.
        pick: which row was written.
        output: the file that it was written to.
        several: whether one replica needs more than one node.
    """
    if output is None:
        next_step(f"selfhost plan {words} -o plan.json", "write the choice down")
    else:
        click.echo(f"Written to {output}: #{pick}.")
        target = "--target lws " if several else ""
        next_step(f"selfhost render {shlex.quote(str(output))} {target}-o out", "its manifests")


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


def refused_words(refused: tuple[Refusal, ...]) -> str:
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
    nearest = next((refusal for refusal in refused if refusal.short_bytes is not None), None)
    if nearest is None:
        return
    gpu = next(gpu for gpu in asked.gpus if gpu.id == nearest.gpu_id)
    changes = remedies_for(
        asked.spec, asked.workload, nearest.split, gpu, asked.engine, from_this_checkpoint=True
    )
    show_remedies(f"What would help on {nearest.split.gpus} × {gpu.name}:", changes)
