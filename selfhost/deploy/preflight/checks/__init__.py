"""What is looked for. A module here that holds `CHECKS` is a family of checks; nothing else has to be registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeAlias, cast

from selfhost.deploy.preflight.facts import Look
from selfhost.deploy.types import Finding

Check: TypeAlias = Callable[[Look], Iterable[Finding]]
# What is asked first is told first; families that are not named follow by name.
_ORDER = ("cluster", "rights", "place", "gpus", "driver", "storage", "quota", "secrets", "classes", "names")


@cache
def checks() -> tuple[Check, ...]:
    """Every check of every module in this folder, in the order in which findings are told."""
    names = [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]
    names.sort(key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    found: list[Check] = []
    for name in names:
        found.extend(cast("tuple[Check, ...]", import_module(f"{__name__}.{name}").CHECKS))
    return tuple(found)
