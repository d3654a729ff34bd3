"""What size and plan share: a model reference and options become the values that the library takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from selfhost.cli._output import table
from selfhost.errors import UnsupportedError
from selfhost.units import gib, size_words

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

    A memory size alone is sized with the kernels and reserves of the stand-in; `about_memory` says so.

    Raises:
        UnknownGpuError: no such GPU.
    """
    if name is None and memory_bytes is None:
        return None
    from selfhost.catalog.gpus import CPUS, find_gpu, main_memory, with_memory
    from selfhost.memory import STAND_IN

    if memory_bytes is not None and (name or "").strip().lower() in CPUS:
        return main_memory(memory_bytes, machine=CPUS[(name or "").strip().lower()])
    if memory_bytes is None:
        return find_gpu(name or STAND_IN)
    gpu = with_memory(find_gpu(name or STAND_IN), memory_bytes)
    return gpu if name is not None else replace(gpu, name=f"GPU with {gib(memory_bytes)} GiB")


def about_memory(gpu: Gpu | None, *, named: bool) -> tuple[str, ...]:
    """What to know about a memory size that was given with `--gpu-memory`.

    Args:
        gpu: the GPU that is sized for.
        named: whether `--gpu` said which it is.
    """
    if gpu is None:
        return ()
    from selfhost.catalog.accelerators import accelerator

    notes = []
    if accelerator(gpu.platform).estimated:
        notes.append(
            f"Sizes on {accelerator(gpu.platform).name} are an estimate: the rules of CUDA, compared with no start-up."
        )
    if gpu.usable_evidence != "override" or gpu.platform == "cpu":
        return tuple(notes)
    if not named:
        notes.append(
            f"No --gpu was named: kernels and reserves are those of {gpu.id}, which decide what is kept beside weights "
            "and KV cache; name the GPU for its own."
        )
    notes.append(
        f"{gib(gpu.memory_bytes)} GiB is what the engine has to see as the GPU's total (a vGPU, HAMi). Under "
        "time-slicing or MPS it sees the whole GPU: there take --gpu-memory-utilization instead."
    )
    return tuple(notes)


def about_engine(engine: EngineVersion, spec: ModelSpec) -> tuple[str, ...]:
    """What to know where another engine's rules stand in, or the release is not the one whose classes were read."""
    from selfhost.engines import get_engine, parse_engine

    driver = get_engine(engine.engine)
    because = driver.sizing(engine).because
    if because is not None:  # which models it has is a matter of its refusals
        return (f"{engine} is {as_sentence(because)}",)
    checked = parse_engine(f"{engine.engine}@{driver.default_version}")
    if engine.number[:2] == checked.number[:2]:
        return ()
    return (
        f"Model classes were read in {checked}; whether {engine} has {spec.architecture} is not known here.",
    )


def objection_to(
    spec: ModelSpec,
    engine: EngineVersion,
    gpu: Gpu | None,
    split: Split,
    workload: Workload,
    *,
    published: bool = True,
) -> Objection | None:
    """Why the engine would not run this.

    Args:
        spec: the model.
        engine: the release.
        gpu: None where none is chosen.
        split: how the model is divided.
        workload: the load.
        published: take it that the weights are published in the format that `--quant` asks for.
    """
    from selfhost.engines import get_engine
    from selfhost.serving import serving_for

    limit = spec.facts.max_context_tokens
    if workload.max_model_len is not None and workload.max_model_len > limit:
        # Memory has an answer beyond the model's own context too; that the engine refuses it is a note of size.
        workload = replace(workload, max_model_len=limit)
    if published and workload.quantization is not None:
        spec = replace(spec, quantization=workload.quantization)
    serving = serving_for(spec, engine, gpu, split, workload)
    return get_engine(engine.engine).object_to(serving)


def remedies_for(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
    *,
    from_this_checkpoint: bool = False,
) -> tuple[Remedy, ...]:
    """Changes that free memory, the ones that are enough first; only what the engine would run.

    Args:
        spec: the model.
        workload: the load that does not fit.
        split: the split that does not fit.
        gpu: the GPU it does not fit.
        engine: the release.
        from_this_checkpoint: leave out formats in which the weights would have to be published first.
    """
    from selfhost.place import remedies
    from selfhost.sizing import budget_for

    def sized(load: Workload, shape: Split) -> MemoryBudget:
        against = objection_to(spec, engine, gpu, shape, load, published=not from_this_checkpoint)
        if against is not None:
            raise UnsupportedError(against.because)
        return budget_for(spec, load, shape, gpu, engine)

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


def again(model: str, workload: Workload, split: Split | None = None, *, more: tuple[str, ...] = ()) -> str:
    """The options that name this model, load and split, as they would be typed.

    Args:
        model: the reference.
        workload: its options that are not the defaults are named.
        split: likewise; None leaves it out.
        more: words to put after the model as they are.
    """
    import shlex
    from dataclasses import fields

    words = [shlex.quote(model), *map(shlex.quote, more)]
    for value in (split, workload):
        if value is None:
            continue
        for field in fields(value):
            given = getattr(value, field.name)
            if given == field.default:
                continue
            flag = "--context" if field.metadata["flag"] == "--max-model-len" else field.metadata["flag"]
            text = size_words(given) if field.metadata["kind"] == "size" else str(given)
            words.append(flag if isinstance(given, bool) else f"{flag} {shlex.quote(text)}")
    return " ".join(words)
