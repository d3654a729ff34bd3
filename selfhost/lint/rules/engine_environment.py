"""The engine's own environment variables: names that it reads, in the release that is pinned."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from selfhost.catalog.flags import Span, release, table
from selfhost.lint.metric_names import shown
from selfhost.lint.model import Container, Engine, Lot, Variable
from selfhost.lint.types import Found, Rule

_READ = (
    "vLLM 0.5.5-0.33.0 (envs.py), SGLang 0.4.0-0.5.23 (environ.py), Ollama 0.3.14-0.32.15: read 2026-11-26"
)
_TITLES = {"vllm": "vLLM", "sglang": "SGLang", "ollama": "Ollama"}
_OWN = {"vllm": re.compile(r"VLLM_"), "sglang": re.compile(r"SGLANG_"), "ollama": re.compile(r"OLLAMA_")}
# Of plug-ins and forks (Ascend, Gaudi, TPU, Neuron, Spyre, Omni), which read more than vLLM's own sources.
_FOREIGN = re.compile(
    r"VLLM_(ASCEND|HPU|GAUDI|TPU|NEURON|SPYRE|OMNI|RBLN|MLU|NPU|METAX|KUNLUN|PROMPT|DECODE|SKIP|GRAPH|CONTIGUOUS|DELAYED"
    r"|EXPONENTIAL|FUSED|BUCKETING|PLUGIN|CONFIG_HIDDEN|USE_HPU|MODEL$|ARGS$|ADDITIONAL|EXTRA|IMAGE|VERSION$)"
)
_FORKS = re.compile(r"omni|tpu|neuron|gaudi|ascend|npu|hpu|xpu|spyre|habana|rebellions|metax")


def _own(lot: Lot) -> Iterator[tuple[Container, Engine, Variable, Span | None]]:
    """Variables with the engine's prefix, and releases that read them."""
    for _, container, engine in lot.engines():
        prefix = _OWN.get(engine.name)
        if prefix is None or (container.image is not None and _FORKS.search(container.image.text)):
            continue
        text = " ".join(word.text for word in container.words)
        values = " ".join(each.value or "" for each in container.variables)
        for variable in container.variables:
            used = re.search(rf"\$[({{]?{re.escape(variable.name)}\b", f"{text} {values}")
            if prefix.match(variable.name) and not _FOREIGN.match(variable.name) and not used:
                yield container, engine, variable, table(engine.name).variables.get(variable.name)


def _misspelt(lot: Lot) -> Iterator[Found]:
    for _, engine, variable, span in _own(lot):
        wanted = release(engine.version) if engine.version is not None else None
        if span is not None or (wanted is not None and wanted > table(engine.name).releases[-1]):
            continue
        alive = [name for name, each in table(engine.name).variables.items() if each.until is None]
        close = difflib.get_close_matches(variable.name, alive, n=1, cutoff=0.85)
        yield Found(
            where=variable.where,
            message=f"no release of {_TITLES[engine.name]} reads {variable.name}",
            fix=f"write {close[0]}" if close else "take it out",
            severity="error" if close else "note",
        )


def _other_release(lot: Lot) -> Iterator[Found]:
    for _, engine, variable, span in _own(lot):
        if span is None or engine.version is None or span.has(engine.version) is not False:
            continue
        wanted = release(engine.version)
        if wanted is None:
            continue
        if wanted < span.since:
            told, fix = (
                f"reads {variable.name} since {shown(span.since)} only",
                "take a newer release, or take it out",
            )
        elif span.after is not None:
            told, fix = f"no longer reads {variable.name} (gone by {shown(span.after)})", "take it out"
        else:
            continue
        yield Found(
            where=variable.where,
            message=f"{_TITLES[engine.name]} {engine.version}: {told}",
            fix=fix,
            # What it asked for is what newer releases do anyway.
            severity="note" if (variable.name, variable.value) == ("VLLM_USE_V1", "1") else None,
        )


RULES = (
    Rule(
        code="SH110",
        title="An environment variable that no release reads",
        severity="error",
        reason="The engine ignores it, so what it was meant to set keeps its default; vLLM warns in its log.",
        fix="Spell the variable as the engine does.",
        sources=(_READ,),
        compose=True,
        check=_misspelt,
    ),
    Rule(
        code="SH111",
        title="An environment variable that the pinned release does not read",
        severity="warning",
        reason="The release ignores the variable, so what it was meant to set keeps its default.",
        fix="Take the variable out, or take a release that reads it.",
        sources=(_READ,),
        compose=True,
        check=_other_release,
    ),
)
