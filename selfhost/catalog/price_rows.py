"""Rows of the price catalogue, read from prices/*.toml: the observations of each, and the figures they give.

The rule by which low, typical and high follow from a row's observations stands in `figures_of`, once for all rows. Only
the tables that are asked for are parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from statistics import median
from typing import Any

from selfhost.catalog.price_types import KINDS, Figure, Observation, first_day

FILES = ("gpu_purchase", "gpu_rental", "money", "power", "surroundings")
_TABLE = re.compile(r"^\[([A-Za-z0-9._-]+)\]$", re.MULTILINE)
_ORDER: dict[str, int] = {"low": 0, "medium": 1, "high": 2, "yours": 3}


class Rows(Mapping[str, Figure]):
    """Every row of the catalogue by its key; a table is parsed when its row is asked for."""

    def __getitem__(self, key: str) -> Figure:
        return _figure(key)

    def __iter__(self) -> Iterator[str]:
        return iter(_index())

    def __len__(self) -> int:
        return len(_index())

    def __contains__(self, key: object) -> bool:
        return key in _index()


@cache
def _index() -> dict[str, str]:
    """Key of each row -> its table as text, without parsing TOML."""
    from pkgutil import get_data

    found: dict[str, str] = {}
    for name in FILES:
        text = (
            get_data("selfhost.catalog", f"prices/{name}.toml") or b""
        ).decode()  # also out of selfhost.pyz
        heads = list(_TABLE.finditer(text))
        for number, head in enumerate(heads):
            end = heads[number + 1].start() if number + 1 < len(heads) else len(text)
            found[head[1]] = text[head.end() : end]
    return found


@cache
def _figure(key: str) -> Figure:
    import tomllib

    return figures_of(key, tomllib.loads(_index()[key]))


def figures_of(key: str, row: Mapping[str, Any]) -> Figure:
    """What a row's observations come to.

    Those count that are not set aside (`counts = false`, with a reason), of low confidence only where there is no
    better one, and of those the ones that are at most as much older than the newest as its kind stays fresh. `typical`
    is their median, `low` the least and `high` the greatest that any of them gives; the date is that of the newest, the
    source that of the newest of the best confidence, and that confidence is the row's.

    Args:
        key: the row's kind and what it is of.
        row: its table in the catalogue.
    """
    seen = sorted(map(_observation, row["seen"]), key=lambda one: first_day(one.date), reverse=True)
    counted = [one for one in seen if one.counts]
    better = [one for one in counted if one.confidence != "low"]
    kind = KINDS[key.partition(".")[0]]
    since = first_day((better or counted)[0].date) - timedelta(days=kind.fresh_days)
    chosen = [one for one in better or counted if first_day(one.date) >= since]
    best = max(chosen, key=lambda one: (_ORDER[one.confidence], first_day(one.date)))
    currency = row.get("currency", "USD") if kind.priced else None
    return Figure(
        low=float(min(one.value if one.low is None else one.low for one in chosen)),
        typical=round(float(median(one.value for one in chosen)), 6),
        high=float(max(one.value if one.high is None else one.high for one in chosen)),
        unit=f"{currency}/{kind.unit}" if kind.priced else kind.unit,
        currency=currency,
        date=chosen[0].date,
        source=best.source,
        confidence=best.confidence,
        note=row.get("note"),
        key=key,
        seen=tuple(seen),
    )


def _observation(table: Mapping[str, Any]) -> Observation:
    return Observation(
        value=table["value"],
        low=table.get("low"),
        high=table.get("high"),
        date=table["date"],
        source=table.get("source"),
        confidence=table["confidence"],
        counts=table.get("counts", True),
        note=table.get("note"),
    )
