"""What is looked for. A module here that holds `RULES` is a family of rules; nothing else has to be registered."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from selfhost.lint.types import Rule


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule of every module in this folder whose name does not start with an underscore, by code.

    Raises:
        ValueError: two rules have one code.
    """
    found: list[Rule] = []
    for name in sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")):
        found.extend(cast("tuple[Rule, ...]", import_module(f"{__name__}.{name}").RULES))
    codes = [rule.code for rule in found]
    if len(set(codes)) != len(codes):
        raise ValueError(
            f"two rules have one code: {sorted(code for code in codes if codes.count(code) > 1)}"
        )
    return tuple(sorted(found, key=lambda rule: rule.code))
