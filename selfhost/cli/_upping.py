"""What `selfhost up` was asked for, and how it becomes a plan, on a cluster's GPUs or on this machine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selfhost.cli._deploying import DOES_NOT_FIT
from selfhost.cli._placements import Asked, show_nothing
from selfhost.cli._planning import ARE_FREE, explain_if_impossible, judged, placed, plan_of
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.cli._deploying import Printer, Reach
    from selfhost.licence import Use
    from selfhost.manifests import RenderOptions
    from selfhost.model.raw import RawModel
    from selfhost.place import Placement
    from selfhost.plan import Plan
    from selfhost.workload import Split, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Upping:
    """The command line, understood.

    Args:
        fixed: how the model is divided was said; else the fewest GPUs are searched for.
        engine_typed: whether the engine was named.
    """

    model: str | None
    gpu: tuple[str, ...]
    gpu_memory: int | None
    split: Split
    fixed: bool
    workload: Workload
    engine: str
    engine_typed: bool
    pick: int
    replicas: int
    name: str | None
    save: Path | None
    use: Use | None
    accepted: tuple[str, ...]
    options: RenderOptions
    dry_run: bool
    smoke: bool
    api_key_file: Path | None
    timeout: float | None
    yes: bool
    reach: Reach


def loaded(asked: Upping, reference: str) -> RawModel:
    """The model that is meant.

    Raises:
        SelfhostError: it cannot be found or read.
    """
    from selfhost.hub import load_model

    return load_model(reference)


def understood(
    asked: Upping, raw: RawModel, *, engine: str, gpus: tuple[Gpu, ...], workload: Workload
) -> Asked:
    """What is planned for.

    Raises:
        SelfhostError: no such engine, or a licence that does not permit the use.
    """
    from selfhost.engines import parse_engine
    from selfhost.model.parse import parse_model

    return Asked(
        raw=raw,
        spec=parse_model(raw),
        engine=parse_engine(engine),
        gpus=gpus,
        workload=workload,
        licence=judged(raw, asked.use, asked.accepted),
    )


def decide(asked: Upping, what: Asked, printer: Printer, *, most: Mapping[str, int] | None) -> Plan | None:
    """The plan, and a line that says what it is; None where nothing carries it, which is told.

    Args:
        asked: the command line.
        what: what is planned for.
        printer: hears of it.
        most: how many GPUs of each kind may be taken.

    Raises:
        UnsupportedError: more memory would not help.
        UsageError: no such row.
    """
    from selfhost.deploy.types import Event

    placements, objections = placed(what, asked.split, fixed=asked.fixed, most=most)
    if not placements.fitting:
        if not any(refusal.because.endswith(ARE_FREE) for refusal in placements.refused):
            explain_if_impossible(what, placements, objections)
        if asked.reach.as_json:
            nearest = placements.refused[0]
            facts: dict[str, object] = {
                "code": "does-not-fit", "gpu": nearest.gpu_id, "gpus": nearest.split.gpus,
                "short_bytes": nearest.short_bytes, "because": nearest.because,
            }  # fmt: skip
            words = f"nothing that is free carries {what.spec.id}"
            printer(Event(type="failed", message=words, facts=facts))
            ending: dict[str, object] = {"ended": "refused", "revision": None, "exit_code": DOES_NOT_FIT}
            printer(Event(type="done", message=words, facts=ending))
        else:
            show_nothing(what, placements)
        return None
    if asked.pick > len(placements.fitting):
        raise UsageError(f"--pick {asked.pick}: {len(placements.fitting)} placements fit.")
    plan = plan_of(what, placements, asked.pick, asked.replicas, asked.name, asked.options.image)
    _say(plan, placements.fitting[asked.pick - 1], printer)
    if asked.save is not None:
        from selfhost.plan import write_plan

        write_plan(plan, asked.save)
    return plan


def _say(plan: Plan, chosen: Placement, printer: Printer) -> None:
    from selfhost.deploy.types import Event
    from selfhost.units import gib

    held = f"{plan.workload.concurrency:,} x {plan.workload.max_model_len:,} tokens"
    words = f"{plan.model.id} on {plan.gpu.count} x {plan.gpu.name} by {plan.engine.name} {plan.engine.version}, {held}"
    facts: dict[str, object] = {
        "name": plan.name, "model": plan.model.id, "engine": f"{plan.engine.name}@{plan.engine.version}",
        "gpu": plan.gpu.id, "gpus": plan.gpu.count, "max_concurrency": chosen.budget.max_concurrency,
        "memory_bytes": plan.memory.gpu_memory_bytes,
        "licence": None if plan.licence is None else plan.licence.permission,
    }  # fmt: skip
    printer(Event(type="note", message=f"plan: {words}", facts=facts))
    if plan.gpu.on != "cpu":
        total = gib(plan.memory.gpu_memory_bytes or 0)
        printer(Event(type="note", message=f"weights {gib(plan.memory.weights_bytes)} of {total} GiB a GPU"))
