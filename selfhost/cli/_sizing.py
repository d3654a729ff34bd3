"""What size and plan share: a model reference and options become the values that the library takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from selfhost.cli._output import table
from selfhost.errors import UnsupportedError, UsageError
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion, Objection
    from selfhost.memory import MemoryBudget
    from selfhost.model.spec import ModelSpec
    from selfhost.place import Remedy
    from selfhost.workload import Split, Workload


def understand(reference: str) -> ModelSpec:
    """The model that a reference names.

    Raises:
        SelfhostError: it cannot be found, read or understood.
    """
    from selfhost.hub import load_model
    from selfhost.model.parse import parse_model

    return parse_model(load_model(reference))


def choose_gpu(name: str | None, memory_bytes: int | None) -> Gpu | None:
    """The GPU that `--gpu` and `--gpu-memory` mean, None without them.

    Raises:
        UnknownGpuError: no such GPU.
        UsageError: a memory size without a GPU.
    """
    if name is None:
        if memory_bytes is not None:
            raise UsageError(
                "--gpu-memory says how much of which GPU? --gpu is missing.",
                hint="Add --gpu ID; `selfhost gpus` lists them.",
            )
        return None
    from selfhost.catalog.gpus import find_gpu, with_memory

    gpu = find_gpu(name)
    return gpu if memory_bytes is None else with_memory(gpu, memory_bytes)


def objection_to(
    spec: ModelSpec, engine: EngineVersion, gpu: Gpu | None, split: Split, workload: Workload
) -> Objection | None:
    """Why the engine would not run this, were the weights published in the format that `--quant` asks for."""
    from selfhost.engines import get_engine
    from selfhost.serving import serving_for

    limit = spec.facts.max_context_tokens
    if workload.max_model_len is not None and workload.max_model_len > limit:
        # Memory has an answer beyond the model's own context too; that the engine refuses it is a note of size.
        workload = replace(workload, max_model_len=limit)
    published = spec if workload.quantization is None else replace(spec, quantization=workload.quantization)
    serving = serving_for(published, engine, gpu, split, workload)
    return get_engine(engine.engine).object_to(serving)


def remedies_for(
    spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu, engine: EngineVersion
) -> tuple[Remedy, ...]:
    """Changes that free memory, the ones that are enough first; only what the engine would run."""
    from selfhost.memory import budget
    from selfhost.place import remedies

    def sized(load: Workload, shape: Split) -> MemoryBudget:
        against = objection_to(spec, engine, gpu, shape, load)
        if against is not None:
            raise UnsupportedError(against.because)
        return budget(spec, load, shape, gpu, engine.number)

    return remedies(sized, workload, split)


def show_remedies(title: str, changes: tuple[Remedy, ...]) -> None:
    """Print the changes as a table; nothing where there are none."""
    if not changes:
        return
    click.echo(f"\n{title}")
    table(
        (("change", "left"), ("frees GiB", "right"), ("then", "left"), ("option", "left")),
        [
            (
                change.change,
                gib(change.frees_bytes),
                "fits" if change.fits else f"short {gib(change.short_bytes)}",
                change.option,
            )
            for change in changes
        ],
    )


def as_sentence(text: str) -> str:
    """The text with one full stop at its end."""
    return text.rstrip(".") + "."


def requests(count: int, tokens: int) -> str:
    """`16 requests of 4,096 tokens`."""
    return f"{count:,} request{'' if count == 1 else 's'} of {tokens:,} tokens"


def split_words(gpu: str, split: Split) -> str:
    """`2 × H100 SXM 80GB`, with how it is divided where that is not tensor parallel alone."""
    text = f"{split.gpus} × {gpu}"
    parts = [("TP", split.tensor), ("PP", split.pipeline), ("DP", split.data)]
    if split.pipeline > 1 or split.data > 1:
        text += f" ({', '.join(f'{name} {size}' for name, size in parts if size > 1)})"
    return text


def again(model: str, workload: Workload, split: Split | None = None) -> str:
    """The options that name this model, load and split, as they would be typed."""
    import shlex
    from dataclasses import fields

    words = [shlex.quote(model)]
    for value in (split, workload):
        if value is None:
            continue
        for field in fields(value):
            given = getattr(value, field.name)
            if given == field.default:
                continue
            flag = "--context" if field.metadata["flag"] == "--max-model-len" else field.metadata["flag"]
            words.append(flag if isinstance(given, bool) else f"{flag} {shlex.quote(str(given))}")
    return " ".join(words)
