"""One file per family of architectures; each declares ARCHITECTURES: name in config.json -> builder.

A module is imported when its text holds the name, the commonest first, because a command reads one model and should
not pay for all families: reading a file takes a hundredth of the time of importing it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from functools import cache

from selfhost.model.families._pooling import candidates, converted
from selfhost.model.families.common import Builder

_COMMON_FIRST = ("llama", "qwen", "moe", "deepseek")


@cache
def module_names() -> tuple[str, ...]:
    """Family modules, the commonest first."""
    names = [
        m.name for m in pkgutil.iter_modules(__path__) if m.name != "common" and not m.name.startswith("_")
    ]
    return tuple(sorted(names, key=lambda n: (_COMMON_FIRST.index(n) if n in _COMMON_FIRST else 99, n)))


@cache
def _text(name: str) -> str:
    with open(os.path.join(__path__[0], f"{name}.py"), encoding="utf-8") as file:
        return file.read()


@cache
def _declared(architecture: str) -> Builder | None:
    for name in module_names():
        if f'"{architecture}"' not in _text(name):
            continue
        found: dict[str, Builder] = importlib.import_module(f"{__name__}.{name}").ARCHITECTURES
        if architecture in found:
            return found[architecture]
    return None


@cache
def builder(architecture: str) -> Builder | None:
    """The builder of an architecture, None when no family knows it.

    Pooling forms (`Qwen3Model`, `Qwen3ForSequenceClassification`) come from the generation class they stand for.
    """
    found = _declared(architecture)
    if found is not None:
        return found
    for name, classify in candidates(architecture):
        found = _declared(name)
        if found is not None:
            return converted(found, classify=classify)
    return None


def architectures() -> tuple[str, ...]:
    """Every architecture that some family knows."""
    names: set[str] = set()
    for name in module_names():
        names.update(importlib.import_module(f"{__name__}.{name}").ARCHITECTURES)
    return tuple(sorted(names))
