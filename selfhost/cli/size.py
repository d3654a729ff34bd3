"""Itemise the memory a model needs on each GPU, and say whether it fits."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import (
    DEFAULT_ENGINE,
    engine_option,
    gpu_memory_option,
    gpu_option,
    json_option,
    model_argument,
    split_options,
    workload_options,
)
from selfhost.cli._output import emit_json, facts, headline, next_step, say, table
from selfhost.cli._sizing import (
    about_engine,
    about_memory,
    again,
    as_sentence,
    choose_gpu,
    objection_to,
    remedies_for,
    requests,
    show_remedies,
    split_words,
    understand,
)
from selfhost.errors import UnsupportedError
from selfhost.units import GIB, gib
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion
    from selfhost.memory import MemoryBudget
    from selfhost.model.spec import ModelSpec
    from selfhost.place import Remedy


@click.command()
@model_argument
@gpu_option(multiple=False, help_text="GPU to size for; without one, only what needs none.")
@gpu_memory_option("Memory that the engine sees, for a shared or a part of a GPU.")
@split_options
@workload_options
@engine_option
@json_option
def command(
    model: str,
    gpu: str | None,
    gpu_memory: int | None,
    split: Split,
    workload: Workload,
    engine: str,
    as_json: bool,
) -> int:
    """Itemise what MODEL needs on each GPU, line by line with reasons, and say whether the requests fit.

    MODEL is a bundled model or Hub repository (Qwen/Qwen3-32B, with @REVISION if wanted), a local directory (./dir) or
    a GGUF file. Sizes read 80GiB or bytes, counts 16384 or 16k. Where an option is absent, the engine's own default
    holds. Exit code 4: it does not fit.
    """
    from selfhost.engines import parse_engine
    from selfhost.sizing import budget_for, why_certain

    version, card, spec = parse_engine(engine), choose_gpu(gpu, gpu_memory), understand(model)
    notes = [*spec.notes, *about_memory(card, named=gpu is not None), *about_engine(version, spec)]
    limit = spec.facts.max_context_tokens
    if workload.max_model_len is not None and workload.max_model_len > limit:
        notes.append(
            f"{workload.max_model_len:,} tokens are beyond the model's {limit:,}: the engine refuses them"
            + (" unless VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 is set." if version.engine == "vllm" else ".")
        )
    against = objection_to(spec, version, card, split, workload)
    if against is not None:
        where = f"{spec.id} on {card.name}" if card else spec.id
        raise UnsupportedError(as_sentence(f"{where}: {against.because}"), hint=against.hint)
    result = budget_for(spec, workload, split, card, version)
    if card is not None and workload.concurrency > result.max_num_seqs * split.data:
        notes.append(
            f"A step of the engine takes {result.max_num_seqs:,} requests here by default, so the others wait; "
            f"--max-num-seqs {-(-workload.concurrency // split.data)} admits them all."
        )
    changes: tuple[Remedy, ...] = ()
    if result.fits is False and card is not None:
        changes = remedies_for(spec, workload, split, card, version)
    if as_json:
        emit_json("size", as_facts(spec, result, split, version, changes, tuple(notes)))
    else:
        more = () if engine == DEFAULT_ENGINE else ("--engine", engine)
        why = why_certain(version)
        _show(again(model, workload, more=more), spec, result, split, card, changes, tuple(notes), why)
    return 4 if result.fits is False else 0


def as_facts(
    spec: ModelSpec,
    result: MemoryBudget,
    split: Split,
    version: EngineVersion,
    changes: tuple[Remedy, ...],
    notes: tuple[str, ...] = (),
) -> dict[str, object]:
    """The object of `selfhost/size/v1`."""
    from selfhost.sizing import stands_in

    gpu = None
    if result.gpu_id is not None:
        gpu = {"id": result.gpu_id, "memory_bytes": result.gpu_memory_bytes}
    return {
        "model": {
            "id": spec.id,
            "revision": spec.revision,
            "architecture": spec.architecture,
            "parameters": spec.parameters,
            "origin": spec.origin,
            "source": spec.source,
            "dtype": spec.dtype,
            "quantization": spec.quantization,
            "modality": spec.facts.modality,
            "max_context_tokens": spec.facts.max_context_tokens,
        },
        "engine": {"name": version.engine, "version": version.text, "sizing": stands_in(version)},
        "split": asdict(split),
        "gpu": gpu,
        "workload": {
            "max_model_len": result.max_model_len,
            "concurrency": result.concurrency,
            "max_num_batched_tokens": result.max_num_batched_tokens,
            "max_num_seqs": result.max_num_seqs,
            "gpu_memory_utilization": result.utilization,
        },
        "per_gpu": {
            "weights_bytes": result.weights_bytes,
            "buffers_bytes": result.buffers_bytes,
            "extra_bytes": result.extra_bytes,
            "kv_bytes_per_token": result.kv_bytes_per_token,
            "state_bytes_per_sequence": result.state_bytes_per_sequence,
            "activation_bytes": result.activation_bytes,
            "graphs_bytes": result.graphs_bytes,
            "non_torch_bytes": result.non_torch_bytes,
            "kv_available_bytes": result.kv_available_bytes,
            "kv_needed_bytes": result.kv_needed_bytes,
        },
        "kv_block_tokens": result.kv_block_tokens,
        "kv_blocks": result.kv_blocks,
        "kv_tokens": result.kv_tokens,
        "max_concurrency": result.max_concurrency,
        "max_context_tokens": result.max_context_tokens,
        "fits": result.fits,
        "short_bytes": result.short_bytes,
        "certainty_bytes": result.certainty_bytes,
        "terms": [asdict(term) for term in result.terms],
        "remedies": [asdict(change) for change in changes],
        "notes": list(notes),
    }


def _show(
    words: str,
    spec: ModelSpec,
    result: MemoryBudget,
    split: Split,
    gpu: Gpu | None,
    changes: tuple[Remedy, ...],
    notes: tuple[str, ...],
    why_certain: str,
) -> None:
    headline(_answer(spec, result, split, gpu), good=result.fits)
    click.echo()
    rows = [
        (term.name, gib(term.bytes), term.because)
        if term.bytes >= 0
        else ("missing", gib(-term.bytes), term.because)
        for term in result.terms
    ]
    if result.certainty_bytes is not None:
        rows.append(("certainty", f"±{result.certainty_bytes / GIB:.1f}", why_certain))
    table((("per GPU", "left"), ("GiB", "right"), ("because", "left")), rows)
    click.echo()
    facts(_limits(result))
    show_remedies("What would help:", changes)
    if notes:
        click.echo()
    for note in notes:
        say(f"Note: {note}")
    if gpu is None:
        next_step(f"selfhost plan {words}", "GPUs that carry it")
    elif result.fits:
        next_step(f"selfhost plan {words} -o plan.json", "compare all GPUs")
    else:
        next_step(f"selfhost plan {words}", "GPUs that do carry it")


def _answer(spec: ModelSpec, result: MemoryBudget, split: Split, gpu: Gpu | None) -> str:
    load = requests(result.concurrency, result.max_model_len)
    if gpu is None:
        where = "on one GPU" if split.gpus == 1 else f"on each of {split.gpus} GPUs"
        cache = f"{gib(result.kv_needed_bytes)} GiB of KV cache for {load}"
        text = f"{spec.id} takes {gib(result.weights_bytes)} GiB of weights {where}, and {cache}."
        if result.fits is not None:
            text += (
                " They fit the given KV memory." if result.fits else " They do not fit the given KV memory."
            )
        return text
    cards = split_words(gpu.name, split)
    if result.fits:
        text = f"Fits. {cards} {'holds' if split.gpus == 1 else 'hold'} {load}"
        more = int((result.max_concurrency or 0) * split.data) - result.concurrency
        return f"{text}, with room for {more:,} more." if more > 0 else f"{text}, and no more."
    from selfhost.place import fails_to_start, shortage

    each = "is" if split.gpus == 1 else "are each"
    if fails_to_start(result):
        return f"Does not fit. {cards} {each} short {gib(result.short_bytes)} GiB for {as_sentence(shortage(result))}"
    return f"Does not fit. {cards} {each} short {gib(result.short_bytes)} GiB for {load}."


def _limits(result: MemoryBudget) -> dict[str, str]:
    """What the KV cache holds, in the engine's own terms."""
    found: dict[str, str] = {}
    if result.kv_available_bytes is not None and result.kv_available_bytes <= 0:
        return {"KV cache": "none; the weights and the reserves leave no room"}
    if result.kv_tokens is not None and result.kv_blocks is not None:
        blocks = f"{result.kv_blocks:,} blocks of {result.kv_block_tokens}"
        found["KV cache"] = (
            f"{result.kv_tokens:,} tokens, {gib(result.kv_available_bytes or 0)} GiB in {blocks}"
        )
    if result.max_concurrency is not None:
        found["most requests"] = f"{result.max_concurrency:,.2f} of {result.max_model_len:,} tokens at once"
    if result.max_context_tokens is not None:
        at = requests(result.concurrency, 0).partition(" of")[0]
        found["longest context"] = f"{result.max_context_tokens:,} tokens with {at} at once"
    per_token = f"{result.kv_bytes_per_token / 1024:,.4g} KiB"
    state = result.state_bytes_per_sequence
    found["one more token"] = per_token + (
        f", beside {state / 2**20:,.1f} MiB of state a request" if state else ""
    )
    return found
