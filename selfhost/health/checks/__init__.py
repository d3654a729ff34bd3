"""What is checked. A module in this folder is a family of checks; nothing else has to be registered.

A module holds `CHECKS`, a tuple of functions `(history, context) -> list[Check]` that know no clock, no machine and no
library. A family that finds nothing wrong says so in one `ok` check, and names what it could not judge, and why.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from selfhost.health.types import Checker


@cache
def checkers() -> tuple[Checker, ...]:
    """Every check of every module in this folder whose name does not start with an underscore, by module name."""
    found: list[Checker] = []
    for name in sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")):
        found.extend(cast("tuple[Checker, ...]", import_module(f"{__name__}.{name}").CHECKS))
    return tuple(found)
