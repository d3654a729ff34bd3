"""What a value is, in a sentence: from the docstrings of the view's types, and from the places where it ends up."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from selfhost.manifests.chart.trace import Use

_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
_SHOWN = 3  # places in one description; the others are counted


def documented(kind: type[Any]) -> Mapping[str, str]:
    """Fields that a dataclass describes under `Args:`, and what it works out itself, as sentences."""
    own = {name: summary(member.fget) for name, member in vars(kind).items() if isinstance(member, property)}
    return own | dict(_arguments(kind.__doc__ or ""))


@cache
def _arguments(docstring: str) -> Mapping[str, str]:
    text = inspect.cleandoc(docstring)
    _, _, arguments = text.partition("\nArgs:\n")
    return {match[1]: _sentence(match[2]) for match in _ARGUMENT.finditer(arguments)}


def summary(kind: Any) -> str:
    """The first paragraph of the docstring of a type or a function."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return " ".join(text.partition("\n\n")[0].split())


def describe(words: str, uses: Sequence[Use]) -> str:
    """A description: what was written about the value, and where it ends up.

    Args:
        words: sentences, or nothing.
        uses: places of the value.
    """
    uses = [use for use in uses if use.place] or uses  # a text that mentions it says less than an object
    printed = tuple(dict.fromkeys(use.where for use in uses if use.role in ("key", "value")))
    decided = tuple(dict.fromkeys(use.where for use in uses if use.role == "guard"))
    looped = tuple(dict.fromkeys(use.where for use in uses if use.role in ("loop", "sole")))
    parts = [words] if words else []
    if printed:
        parts.append(f"Stands at {_listed(printed)}.")
    elif looped:
        parts.append(f"Stands at {_listed(looped)}.")
    elif decided:
        parts.append(f"Decides what is written at {_listed(decided)}.")
    return " ".join(parts)


def _listed(places: Sequence[str]) -> str:
    shown, more = places[:_SHOWN], len(places) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _sentence(text: str) -> str:
    plain = " ".join(text.split())
    plain = plain[0].upper() + plain[1:]
    return plain if plain.endswith((".", "!", "?")) else f"{plain}."
