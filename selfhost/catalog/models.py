"""The bundled models: configurations that ship with selfhost, so that a known model needs no network.

One JSON file per model in `models/`, named after the repository in lower case; loading one reads that file
alone. `models/index.json` holds the same facts without the configurations, in listing order, and is written
by scripts/build_catalogue.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from selfhost.errors import ModelNotFoundError

DIRECTORY = os.path.join(os.path.dirname(__file__), "models")
STATUSES = ("current", "earlier", "legacy")
# What benchmarks call models: MLPerf Inference its tasks, where a suffix says how much of the accuracy is kept
# (github.com/mlcommons/inference, language/ and its table of benchmarks, 2026-11-27), Vultr's inference cookbook
# NVIDIA's models (docs.vultr.com/inference-cookbook, 2026-03-11).
_TASKS = {
    "llama2-70b": "meta-llama/Llama-2-70b-chat-hf",
    "llama3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "llama3.1-405b": "meta-llama/Llama-3.1-405B-Instruct",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "nvidia nemotron super 49b": "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
    "nvidia nemotron nano 30b": "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
}
_KEPT_ACCURACY = re.compile(r"-99(?:\.9)?$")
# Makers that another registry of models names otherwise (NVIDIA NIM, build.nvidia.com/models, 2026-11-27).
_MAKERS = {"meta": "meta-llama"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """What is known about a bundled model besides its configuration.

    Args:
        id: Hugging Face repository.
        family: the maker's name for the line, such as `Qwen3`.
        status: `current`, `earlier` (its maker has newer ones, still widely run) or `legacy`.
        released: month of release as YYYY-MM, None when not known.
        parameters: parameter count as published with the weights, else as counted from the configuration.
        licence: licence id, None when not known.
        modality: what it takes or gives: text, vision, audio, omni, embedding, reranker.
        source: page that shows the configuration.
        checked: day on which the configuration was read, YYYY-MM-DD.
        via: where it was read if not at `source` itself.
        aliases: other repositories that publish the same architecture fields.
    """

    id: str
    family: str
    status: str
    released: str | None
    parameters: int | None
    licence: str | None
    modality: str
    source: str
    checked: str
    via: str | None
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledModel:
    """One bundled model with its configuration.

    Args:
        id: the repository that was asked for: `entry.id` or one of its aliases.
        entry: facts about it.
        config: config.json without the fields that say nothing about architecture or quantization.
        quantization: hf_quant_config.json, None where the repository has none.
        pooling: the repository declares sentence-transformers modules.
        licence: licence id of the repository that was asked for, which an alias may have of its own.
    """

    id: str
    entry: ModelEntry
    config: Mapping[str, object]
    quantization: Mapping[str, object] | None
    pooling: bool
    licence: str | None


def file_name(model_id: str) -> str:
    """Name of the file that holds a repository's facts."""
    return model_id.lower().replace("/", "--") + ".json"


def models(query: str = "") -> tuple[ModelEntry, ...]:
    """Bundled models, current ones first.

    Args:
        query: words that must all occur in a model's id, aliases, family, modality, licence or status;
            case does not matter.
    """
    words = query.lower().split()
    return tuple(entry for entry in _index() if all(word in _haystack(entry) for word in words))


def find_id(name: str) -> str | None:
    """Repository that a name stands for, None when it is not bundled.

    Args:
        name: repository id, an alias, the part after the slash where only one bundled model has it, or what
            benchmarks call a model; case, `-`, `_` and spaces do not matter.
    """
    wanted = name.lower()
    if "/" in wanted and _is_safe(wanted):
        path = _path(wanted)
        if os.path.isfile(path):
            return _read(path)["id"]  # type: ignore[return-value]
    return _meant(wanted)


def load(name: str) -> BundledModel:
    """Load one bundled model; nothing else is read when the name is a repository id.

    Args:
        name: as for `find_id`.

    Raises:
        ModelNotFoundError: when no bundled model has that name.
    """
    bundled = find(name)
    if bundled is None:
        raise ModelNotFoundError(f"No bundled model is called {name}.", hint=suggestion(name))
    return bundled


def find(name: str) -> BundledModel | None:
    """Load one bundled model, None when no bundled model has that name."""
    wanted = name.lower()
    path = _path(wanted)
    if "/" in wanted and _is_safe(wanted) and os.path.isfile(path):
        return _bundled(_read(path), alias=None)
    model_id = _meant(wanted)
    if model_id is None:
        return None
    path = _path(model_id)
    if os.path.isfile(path):
        return _bundled(_read(path), alias=None)
    owner = next(entry for entry in _index() if model_id in entry.aliases)
    return _bundled(_read(_path(owner.id)), alias=model_id)


def close_matches(name: str, *, limit: int = 3) -> tuple[str, ...]:
    """Bundled repositories whose name resembles `name`, best first."""
    import difflib

    wanted = name.lower()
    known = {entry.id.lower(): entry.id for entry in _index()}
    known.update({alias.lower(): alias for entry in _index() for alias in entry.aliases})
    found = difflib.get_close_matches(wanted, known, n=limit, cutoff=0.7)
    if len(found) < limit:
        short = {full.rpartition("/")[2]: full for full in reversed(known)}
        close = difflib.get_close_matches(wanted.rpartition("/")[2], short, n=limit, cutoff=0.75)
        found += [short[item] for item in close if short[item] not in found]
    return tuple(known[item] for item in found[:limit])


def suggestion(name: str) -> str:
    """Sentence that points from a name which was not found to the bundled models."""
    close = close_matches(name)
    if close:
        return f"did you mean {' or '.join(close)}? `selfhost models` lists the bundled ones."
    return "`selfhost models` lists the bundled ones."


def _haystack(entry: ModelEntry) -> str:
    parts = (entry.id, *entry.aliases, entry.family, entry.modality, entry.licence or "", entry.status)
    return " ".join(parts).lower()


def _is_safe(name: str) -> bool:
    return all(char.isalnum() or char in "-_./" for char in name) and ".." not in name


def _path(model_id: str) -> str:
    return os.path.join(DIRECTORY, file_name(model_id))


def _read(path: str) -> dict[str, object]:
    with open(path, "rb") as file:
        facts: dict[str, object] = json.load(file)
    return facts


@cache
def _index() -> tuple[ModelEntry, ...]:
    if not os.path.isdir(DIRECTORY):
        return ()  # selfhost.pyz carries no bundled models
    rows = _read(os.path.join(DIRECTORY, "index.json"))["models"]
    assert isinstance(rows, list)
    return tuple(_entry(row) for row in rows)


def _meant(wanted: str) -> str | None:
    """Repository that a name in lower case stands for: exactly, else as benchmarks and people spell it."""
    names = _names()
    if wanted in names:
        return names[wanted]
    task = _TASKS.get(_KEPT_ACCURACY.sub("", wanted))
    if task is not None:
        return names.get(task.lower())
    maker, slash, rest = wanted.partition("/")
    return names.get(_folded(_MAKERS.get(maker, maker) + slash + rest))


def _folded(name: str) -> str:
    """A name without what is left out or replaced at will: `Llama 3.1 8B`, `llama3.1-8b`."""
    return re.sub(r"[\s_-]", "", name)


@cache
def _names() -> Mapping[str, str]:
    """Lower-case id or alias, the part after its slash, and both folded -> repository id.

    A name that several bundled models have is left out; of the repositories of one model it means the first.
    """
    names: dict[str, str] = {}
    shorter: dict[str, dict[str, str]] = {}  # name -> bundled model -> its first repository of that name
    for entry in _index():
        for model_id in (entry.id, *entry.aliases):
            full = model_id.lower()
            names[full] = model_id
            short = full.rpartition("/")[2]
            forms = (short, _folded(short), _folded(short).removeprefix("nvidia"), _folded(full))
            for form in forms:
                shorter.setdefault(form, {}).setdefault(entry.id, model_id)
    for name, owners in shorter.items():
        if name and len(owners) == 1:
            names.setdefault(name, next(iter(owners.values())))
    return names


def _bundled(facts: Mapping[str, object], *, alias: str | None) -> BundledModel:
    config, quantization = facts["config"], facts["quantization"]
    assert isinstance(config, dict)
    assert quantization is None or isinstance(quantization, dict)
    entry = _entry(facts)
    own = facts.get("alias_licences", {})
    assert isinstance(own, dict)
    return BundledModel(
        id=alias or entry.id,
        entry=entry,
        config=config,
        quantization=quantization,
        pooling=bool(facts.get("pooling", False)),
        licence=own.get(alias, entry.licence),
    )


def _entry(facts: Mapping[str, object]) -> ModelEntry:
    parameters, aliases = facts["parameters"], facts["aliases"]
    assert parameters is None or isinstance(parameters, int)
    assert isinstance(aliases, Iterable)
    return ModelEntry(
        id=str(facts["id"]),
        family=str(facts["family"]),
        status=str(facts["status"]),
        released=_optional(facts["released"]),
        parameters=parameters,
        licence=_optional(facts["licence"]),
        modality=str(facts["modality"]),
        source=str(facts["source"]),
        checked=str(facts["checked"]),
        via=_optional(facts["via"]),
        aliases=tuple(str(alias) for alias in aliases),
    )


def _optional(value: object) -> str | None:
    return None if value is None else str(value)
