"""How open a model is: more than its licence, as training data and code belong to it; read from openness.toml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pkgutil import get_data
from typing import Literal

Openness = Literal["open-source", "open-weight", "closed", "unknown"]

_FILE = "openness.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTraining:
    """A line of models whose training is published.

    Args:
        prefix: how the names of its repositories begin, in lower case.
        name: the line.
        data: the training data is `published`, or its `recipe` (which public sets in which mixture).
        code: the training code is published.
        source: page that says so.
        checked: day on which that was read, YYYY-MM-DD.
    """

    prefix: str
    name: str
    data: Literal["published", "recipe"]
    code: bool
    source: str
    checked: str


@cache
def open_trainings() -> tuple[OpenTraining, ...]:
    """All lines of models whose training is published, sorted by prefix."""
    import tomllib

    tables = tomllib.loads((get_data("selfhost.catalog", _FILE) or b"").decode())  # also out of selfhost.pyz
    return tuple(OpenTraining(prefix=prefix, **table) for prefix, table in tables.items())


def openness_of(repo: str | None, *, licence: str | None, osi: bool) -> tuple[Openness, str]:
    """How open a model is, and what that means in one sentence.

    Args:
        repo: its repository, None where it has none.
        licence: id of its licence in the catalogue, None where that is unknown.
        osi: the Open Source Initiative approves that licence.
    """
    if licence is None:
        return (
            "unknown",
            "Openness unknown: without a known licence nothing says what may be done with the files.",
        )
    if licence == "proprietary":
        return "closed", "Closed: nobody may use the weights without a contract with their owner."
    known = _training(repo)
    if known is None:
        with_what = "an open-source licence" if osi else "terms of their own"
        return "open-weight", (
            f"Open weight: the weights can be had under {with_what}; that the training data and code are published is "
            "not known."
        )
    what = (
        "data and code"
        if known.data == "published"
        else "recipe (public data sets and their mixture) and code"
    )
    if osi and known.code:
        return (
            "open-source",
            f"Open source: weights, training {what} of {known.name} are published ({known.source}).",
        )
    return "open-weight", (
        f"Open weight: training {what} of {known.name} are published ({known.source}), but {licence} is no open-source "
        "licence."
    )


def _training(repo: str | None) -> OpenTraining | None:
    name = (repo or "").lower()
    fitting = [one for one in open_trainings() if name.startswith(one.prefix)]
    return max(fitting, key=lambda one: len(one.prefix), default=None)
