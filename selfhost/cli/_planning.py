"""What plan and up share: from a model reference and options to placements, and from one of them to a plan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from selfhost.cli._placements import Asked
from selfhost.cli._sizing import as_sentence
from selfhost.errors import UnsupportedError
from selfhost.workload import Split

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import Objection
    from selfhost.licence import Use, Verdict
    from selfhost.memory import MemoryBudget
    from selfhost.model.raw import RawModel
    from selfhost.place import Placements
    from selfhost.plan import Plan


ARE_FREE = "are free"  # how the reason ends where GPUs that would do are taken


def judged(raw: RawModel, use: Use | None, accepted: tuple[str, ...]) -> Verdict:
    """What the model's licence means for the use.

    Raises:
        LicenceError: a use was named that it does not permit, or whose terms are not accepted.
    """
    from functools import partial

    from selfhost.hub.bases import base_of, declared_of, read_licence
    from selfhost.licence import judge, require

    base_repo, base = base_of(raw, use=use) or (None, None)
    of = partial(judge, use=use, accepted=accepted, repo=raw.repository, base=base, base_repo=base_repo)
    verdict = of(declared_of(raw))
    if verdict.permission == "unknown":
        verdict = of(read_licence(raw))
    require(verdict)
    return verdict


def placed(
    asked: Asked, split: Split, *, fixed: bool, most: Mapping[str, int] | None = None
) -> tuple[Placements, list[Objection]]:
    """Every kind of GPU tried, and what the engine objected to.

    Args:
        asked: the model, the load and the kinds of GPU.
        split: how the model is divided.
        fixed: whether that was said; else the fewest GPUs are searched for.
        most: how many of each kind may be taken, by id; None where there is no limit.
    """
    from selfhost.engines import Objection, get_engine, layers_only
    from selfhost.place import admitting, place, splits
    from selfhost.serving import serving_for
    from selfhost.sizing import budget_for

    driver = get_engine(asked.engine.engine)
    objections: list[Objection] = []

    def objection(gpu: Gpu, shape: Split) -> Objection | None:
        if most is not None and shape.gpus > most.get(gpu.id, 0):
            return Objection(because=f"{shape.gpus} needed, {most.get(gpu.id, 0)} {ARE_FREE}", hint=None)
        against = driver.object_to(serving_for(asked.spec, asked.engine, gpu, shape, asked.workload))
        if against is not None:
            objections.append(against)
        return against

    def sized(gpu: Gpu, shape: Split) -> MemoryBudget:
        found = budget_for(asked.spec, asked.workload, shape, gpu, asked.engine)
        enough = admitting(asked.workload, shape, found)
        return found if enough is None else budget_for(asked.spec, enough, shape, gpu, asked.engine)

    candidates = (split,) if fixed else splits(expert=split.expert, layers_only=layers_only(driver))
    return place(asked.gpus, budget=sized, objection=objection, candidates=candidates), objections


def explain_if_impossible(asked: Asked, placements: Placements, objections: list[Objection]) -> None:
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


def plan_of(
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
        created=now(),
        stored_bytes=sum(tensor.bytes for tensor in tensors) if tensors else None,
        safetensors=asked.raw.origin == "catalogue" or bool(tensors),
        replicas=replicas,
        image=None if image is None else parse_image(image),
        name=name,
        fitting=placements.fitting,
        refused=placements.refused,
        licence=asked.licence,
    )


def now() -> str:
    """The time in UTC; SOURCE_DATE_EPOCH stands in for the clock where output has to be reproducible."""
    from datetime import UTC, datetime

    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(fixed), UTC) if fixed.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
