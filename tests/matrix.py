"""The matrix of renderings that every target's output is checked over: CASES, by name.

A family is a module of tests/matrices/ with a function `cases`, and `refused` for what has to be refused; a name begins
with the module's and a slash, so that no two families meet. A case is rendered once in a process (`rendered`), its YAML
is read once (`objects`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any

import yaml

from selfhost.manifests import Manifests, render
from tests.matrices import Case

FAMILIES = tuple(sorted(module.name for module in iter_modules([str(Path(__file__).parent / "matrices")])))
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 10 times as fast where libyaml is there


def _from(function: str) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for family in FAMILIES:
        make: Callable[[], dict[str, Case]] = getattr(
            import_module(f"tests.matrices.{family}"), function, dict
        )
        found |= {f"{family}/{name}": case for name, case in make().items()}
    return found


CASES = MappingProxyType(_from("cases"))
REFUSED = MappingProxyType(_from("refused"))


@cache
def rendered(name: str) -> Manifests:
    """The documents of a case."""
    case = CASES[name]
    return render(case.plan, target=case.target, options=case.options)


@cache
def objects(name: str) -> tuple[Any, ...]:
    """The objects of a case, read as YAML; not to be changed."""
    texts = [document.text for document in rendered(name).documents if document.is_object]
    return tuple(
        document for text in texts for document in yaml.load_all(text, LOADER) if document is not None
    )


__all__ = ["CASES", "FAMILIES", "REFUSED", "Case", "objects", "rendered"]
