"""The model that somebody has in mind: how open and how large it is, what its licence permits; from the catalogue."""

from __future__ import annotations

import re
from dataclasses import dataclass

from selfhost.advise.tables import read
from selfhost.licence.types import Openness, Permission, Use

# How the names of models begin that are sold as an API alone (makers' price lists, 2026-11).
CLOSED = (
    "gpt-",
    "o1",
    "o3",
    "o4",
    "claude",
    "gemini",
    "ernie-",
    "ernie bot",
    "文心一言",
    "doubao",
    "豆包",
    "hunyuan-t",
    "chatgpt",
    "grok-",
    "qwen-max",
    "qwen-plus",
)
OPEN_BUT_SO_NAMED = ("gpt-oss", "gpt2", "gpt-neo", "gpt-j", "grok-1", "ernie-4.5")
LEVEL: dict[str, int | None] = {"closed": 1, "open-weight": 2, "open-source": 3, "unknown": None}
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)(b|t)(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is known of the model.

    Args:
        name: as it was given, or its repository where the catalogue has it.
        parameters_b: billions of parameters, all of them, None where that is not known.
        openness: how open it is, and because of what.
        level: 1 closed, 2 open weight, 3 open source (rules 63-65), None where that is not known.
        licence: its id, None where that is not known.
        permission: whether the licence permits the use.
        obligations: what it asks for.
        source: where its terms stand.
    """

    name: str
    parameters_b: float | None
    openness: Openness
    openness_because: str
    level: int | None
    licence: str | None
    permission: Permission
    obligations: tuple[str, ...]
    source: str


def wish_of(
    name: str, *, licence: str | None = None, parameters_b: float | None = None, use: Use = "commercial"
) -> Wish:
    """What the catalogue knows of a model.

    Args:
        name: a repository, the last part of one, or the name of an API's model.
        licence: the licence where the catalogue does not know the model.
        parameters_b: its size where the name and the catalogue do not say it.
        use: what it is for.
    """
    from selfhost.catalog.models import find
    from selfhost.licence import Declared, judge

    bundled = find(name)
    if bundled is None and licence is None and _is_closed(name):
        return Wish(
            name=name,
            parameters_b=parameters_b,
            openness="closed",
            openness_because="Closed: it is sold as an API and its weights are not published.",
            level=LEVEL["closed"],
            licence="proprietary",
            permission="conditional",
            obligations=("The vendor's terms of service apply.",),
            source="the vendor's terms of service",
        )
    name = name if bundled is not None else "-".join(name.split())  # as people write it: Llama 2 70B
    line = _line_of(name) if bundled is None else None
    repo = bundled.id if bundled is not None else name
    if line is not None and "/" not in name:
        repo = f"{line['owner']}/{name}"
    declared = licence or (bundled.licence if bundled is not None else line["licence"] if line else None)
    verdict = judge(Declared(licence=declared), use=use, repo=repo)
    counted = bundled.entry.parameters if bundled is not None else None
    return Wish(
        name=repo,
        parameters_b=parameters_b or (counted / 1e9 if counted else size_in(repo)),
        openness=verdict.openness,
        openness_because=verdict.openness_because,
        level=LEVEL[verdict.openness],
        licence=verdict.licence,
        permission=verdict.permission,
        obligations=verdict.obligations,
        source=verdict.source,
    )


def _line_of(name: str) -> dict[str, str] | None:
    """The line that a model belongs to by its name; None for a copy by somebody else, whose licence may be another."""
    owner, _, short = name.lower().rpartition("/")
    lines: dict[str, dict[str, str]] = read("lines")
    fitting = [prefix for prefix in lines if f"{short}-".startswith(prefix)]
    line = lines[max(fitting, key=len)] if fitting else None
    return line if line is not None and owner in ("", line["owner"].lower()) else None


def _is_closed(name: str) -> bool:
    """Whether it is sold as an API alone: the catalogue of API prices, else how such names begin."""
    from selfhost.api_prices.rows import own_models

    kinds = {
        one.kind
        for one in own_models().values()
        if name.lower() in (one.model.lower(), one.name.lower(), f"{one.provider}/{one.model}".lower())
    }
    if kinds:
        return kinds == {"closed"}
    short = name.lower().rpartition("/")[2]
    return short.startswith(CLOSED) and not short.startswith(OPEN_BUT_SO_NAMED)


def size_in(name: str) -> float | None:
    """Billions of parameters that a model's name says, the largest where it says several; None where it says none."""
    found = [
        float(number) * (1e3 if unit in "tT" else 1)
        for number, unit in _SIZE.findall(name.rpartition("/")[2])
    ]
    return max(found, default=None)
