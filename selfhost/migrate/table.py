"""The table of tgi.toml: what each setting, metric and endpoint of TGI becomes in another engine."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pkgutil import get_data
from typing import Any

ENGINES = ("vllm", "sglang")
NAMES = {"vllm": "vLLM", "sglang": "SGLang"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What one value of a setting becomes.

    Args:
        words: of the new command line; empty where nothing is needed.
        because: why.
        instead: what to do where there is no equivalent, or none in releases from `before` on.
        before: first release that no longer has it, such as `0.28.0`; None where all have it.
    """

    words: tuple[str, ...] = ()
    because: str = ""
    instead: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a setting, metric or endpoint becomes in one engine.

    Args:
        to: flag, variable, metric or endpoint; None where there is none.
        via: how the value is written, a function of `convert`.
        because: why.
        instead: what to do where there is no equivalent; None with no `to`: nothing is needed.
        near: why a metric is not the same, though it is the nearest.
        values: of single values.
    """

    to: str | None = None
    via: str = "same"
    because: str = ""
    instead: str | None = None
    near: str | None = None
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table.

    Args:
        name: variable, metric or endpoint of TGI; a flag that has no variable by its own name.
        flag: of the launcher, None where a setting has none.
        secret: the value is never printed.
        outcomes: by engine.
    """

    name: str
    flag: str | None = None
    secret: bool = False
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The whole file; every part by the name in TGI."""

    settings: Mapping[str, Row]
    metrics: Mapping[str, Row]
    endpoints: Mapping[str, Row]
    flags: Mapping[str, Row]


@cache
def table() -> Table:
    """Read the file."""
    data = get_data(__package__ or "", "tgi.toml")
    assert data is not None
    read = tomllib.loads(data.decode())
    settings = {name: _row(name, body) for name, body in read["settings"].items()}
    for backend, names in read["backends"].items():
        only = Outcome(instead=f"leave it out: TGI's {backend} backend alone reads it")
        settings |= {name: Row(name=name, outcomes=dict.fromkeys(ENGINES, only)) for name in names}
    return Table(
        settings=settings,
        metrics={name: _row(name, body) for name, body in read["metrics"].items()},
        endpoints={name: _row(name, body) for name, body in read["endpoints"].items()},
        flags={row.flag: row for row in settings.values() if row.flag is not None},
    )


def _row(name: str, body: dict[str, Any]) -> Row:
    outcomes = {engine: _outcome(body.get("both", {}), body.get(engine, {})) for engine in ENGINES}
    unknown = set(body) - {"both", "flag", "secret", *ENGINES}
    assert not unknown, f"tgi.toml: {name}: {unknown}"
    return Row(
        name=name, flag=body.get("flag"), secret=body.get("secret", False), outcomes=outcomes
    )  # fmt: skip


def _outcome(both: dict[str, Any], own: dict[str, Any]) -> Outcome:
    merged = {**both, **own}
    merged["values"] = {
        value: Value(**{**given, "words": tuple(given.get("words", ()))})
        for value, given in {**both.get("values", {}), **own.get("values", {})}.items()
    }
    return Outcome(**merged)
