"""Rows of the price catalogue, read from prices/*.toml: the observations of each, and the figures they give.

The rule by which low, typical and high follow from a row's observations stands in `figures_of`, once for all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from selfhost.catalog.price_types import KINDS, Confidence, Figure, Observation, first_day

FILES = ("gpu_purchase", "gpu_rental", "money", "power", "surroundings")
_ORDER: dict[str, int] = {"low": 0, "medium": 1, "high": 2, "yours": 3}


def catalogue_rows() -> dict[str, Figure]:
    """Every row by its key."""
    import tomllib
    from pkgutil import get_data

    found: dict[str, Figure] = {}
    for name in FILES:
        text = (
            get_data("selfhost.catalog", f"prices/{name}.toml") or b""
        ).decode()  # also out of selfhost.pyz
        for kind, tables in tomllib.loads(text).items():
            for keys, row in _rows(tables, len(KINDS[kind].keys)):
                key = ".".join((kind, *keys))
                found[key] = figures_of(key, row)
    return found


def _rows(tables: Mapping[str, Any], depth: int) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    for key, below in tables.items():
        if depth == 1:
            yield (key,), below
        else:
            for keys, row in _rows(below, depth - 1):
                yield (key, *keys), row


def figures_of(key: str, row: Mapping[str, Any]) -> Figure:
    """What a row's observations come to.

    Those count that are not set aside (`counts = false`, with a reason), and of low confidence only where there is no
    better one. `typical` is their median, `low` the least and `high` the greatest that any of them gives; the date is
    that of the newest, the source that of the newest of the best confidence, and that confidence is the row's: one
    step less where a single observation of medium confidence is all there is.

    Args:
        key: the row's kind and what it is of.
        row: its table in the catalogue.
    """
    seen = sorted(map(_observation, row["seen"]), key=lambda one: first_day(one.date), reverse=True)
    counted = [one for one in seen if one.counts]
    better = [one for one in counted if one.confidence != "low"]
    chosen = better or counted
    best = max(chosen, key=lambda one: (_ORDER[one.confidence], first_day(one.date)))
    kind = KINDS[key.partition(".")[0]]
    currency = row.get("currency", "USD") if kind.priced else None
    confidence: Confidence = best.confidence
    if confidence == "medium" and len(chosen) == 1:
        confidence = "low"
    return Figure(
        low=min(one.value if one.low is None else one.low for one in chosen),
        typical=median(one.value for one in chosen),
        high=max(one.value if one.high is None else one.high for one in chosen),
        unit=f"{currency}/{kind.unit}" if kind.priced else kind.unit,
        currency=currency,
        date=chosen[0].date,
        source=best.source,
        confidence=confidence,
        note=row.get("note"),
        key=key,
        seen=tuple(seen),
    )


def _observation(table: Mapping[str, Any]) -> Observation:
    low, high = table.get("low"), table.get("high")
    return Observation(
        value=table["value"] if "value" in table else (low + high) / 2,
        low=low,
        high=high,
        date=table["date"],
        source=table.get("source"),
        confidence=table["confidence"],
        counts=table.get("counts", True),
        note=table.get("note"),
    )
