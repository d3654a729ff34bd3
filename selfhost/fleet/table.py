"""A fleet as text: one line a node, worst first, with the sentence that explains it; and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import NamedTuple

from selfhost.fleet.types import LEVELS, SCHEMA, NodeResult
from selfhost.observation.summary import GpuSummary, Summary, SummaryLevel
from selfhost.strict import encode
from selfhost.units import GIB


class _Column(NamedTuple):
    """A column's title, and how wide it is at least and at most."""

    title: str
    least: int
    most: int


_LEVEL = _Column("VERDICT", 8, 8)
_NODE = _Column("NODE", 12, 32)
# Numbers stand right; a narrow screen shows the first of them alone.
_NUMBERS = (
    _Column("GPUS", 5, 9),
    _Column("UTIL", 4, 4),
    _Column("MEM GiB", 7, 13),
    _Column("MAX °C", 6, 6),
    _Column("POWER W", 7, 9),
    _Column("RUN", 4, 6),
    _Column("WAIT", 4, 6),
    _Column("KV", 4, 4),
    _Column("TOK/S", 6, 9),
)
# What stands between two columns, and the width below which a sentence says nothing.
_GAP = 2
_LEAST_WHY = 30
_NARROW = 100
_WIDE = 140


def columns(width: int) -> tuple[str, ...]:
    """Titles of the columns that a terminal of this width has room for; the last is the reason."""
    return (_LEVEL.title, _NODE.title, *(column.title for column in _numbers(width)), "WHY")


def rows(results: tuple[NodeResult, ...], width: int = 80) -> tuple[tuple[str, ...], ...]:
    """A row of text for each node, in the order given, under the titles of `columns`; nothing is cut to a width."""
    shown = len(_numbers(width))
    return tuple(
        (result.level.upper(), result.name, *_cells(result.summary)[:shown], why(result))
        for result in results
    )


def why(result: NodeResult) -> str:
    """The sentence that explains a node's level, and how many more there are."""
    bad = [check for check in result.checks if check.level not in ("ok", "skipped")]
    if not bad:
        return "" if result.level == "ok" else "No check says why."
    first = bad[0]
    where = f"gpu {first.gpu}: " if first.gpu is not None and "gpu" not in first.message.lower() else ""
    more = f" (+{len(bad) - 1})" if len(bad) > 1 else ""
    return f"{where}{first.message}{more}"


def render(results: tuple[NodeResult, ...], width: int = 80, *, limit: int | None = None) -> tuple[str, ...]:
    """Lines of plain text: a count of all nodes, then the table, each line within the width.

    Args:
        results: worst first.
        width: of the terminal, in characters; from 100 and from 140 on, more columns are shown.
        limit: most nodes to list; what is left out is said.
    """
    lines = [headline(results), ""]
    listed = results if limit is None else results[:limit]
    shape = (_LEVEL, _NODE, *_numbers(width))
    table = rows(listed, width)
    widths = [
        max(column.least, min(column.most, max((len(row[at]) for row in table), default=0)))
        for at, column in enumerate(shape)
    ]
    rest = width - sum(widths) - _GAP * len(widths)
    if rest < _LEAST_WHY:  # long names give way to the reason, down to their least
        widths[1] = max(_NODE.least, widths[1] - (_LEAST_WHY - rest))
        rest = max(1, width - sum(widths) - _GAP * len(widths))
    for row in (columns(width), *table):
        cells = [
            fit(cell, wide).ljust(wide) if at < 2 else fit(cell, wide).rjust(wide)
            for at, (cell, wide) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append((" " * _GAP).join((*cells, fit(row[-1], rest))).rstrip())
    if len(listed) < len(results):
        left = Counter(result.level for result in results[len(listed) :])
        lines.append(f"… and {len(results) - len(listed)} more: {_counts(left)}")
    return tuple(lines)


def headline(results: tuple[NodeResult, ...]) -> str:
    """How many nodes there are of each level, and how many GPUs are up."""
    gpus = [gpu for result in results if result.summary for gpu in result.summary.gpus]
    up = sum(gpu.up for gpu in gpus)
    counted = Counter(result.level for result in results)
    nodes = f"{len(results):,} node{'s' if len(results) != 1 else ''}"
    return f"{nodes}: {_counts(counted)} · {up:,} of {len(gpus):,} GPUs up"


def fit(text: str, width: int) -> str:
    """A text cut to a width at a word, with a mark where it was cut."""
    if len(text) <= width:
        return text
    short = textwrap.shorten(text, width, placeholder=" …") if " " in text[:width] else ""
    return short if len(short) > width // 2 else text[: width - 1] + "…"


def to_json(results: tuple[NodeResult, ...], *, at: float) -> dict[str, object]:
    """The fleet as plain objects, schema `selfhost/fleet/v1`.

    Args:
        results: worst first.
        at: Unix time of the pass.
    """
    counted = Counter(result.level for result in results)
    return {
        "schema": SCHEMA,
        "at": at,
        "verdict": results[0].level if results else "unknown",
        "counts": {level: counted[level] for level in LEVELS if level != "skipped"},
        "nodes": [
            {
                "name": result.name,
                "address": result.address.url or result.address.name,
                "level": result.level,
                "seconds": round(result.seconds, 4),
                "findings": [encode(check) for check in result.findings],
                "summary": encode(result.summary) if result.summary else None,
            }
            for result in results
        ],
    }


def _numbers(width: int) -> tuple[_Column, ...]:
    return _NUMBERS[:1] if width < _NARROW else _NUMBERS[:5] if width < _WIDE else _NUMBERS


def _cells(summary: Summary | None) -> tuple[str, ...]:
    if summary is None:
        return ("–",) * len(_NUMBERS)
    gpus, engines = summary.gpus, summary.engines
    return (
        f"{sum(gpu.up for gpu in gpus)}/{len(gpus)}",
        _percent(_mean([gpu.utilization_ratio for gpu in gpus if gpu.up])),
        _memory(gpus),
        _whole(
            max(
                (gpu.temperature_celsius for gpu in gpus if gpu.temperature_celsius is not None), default=None
            )
        ),
        _whole(_total([gpu.power_watts for gpu in gpus])),
        _whole(_total([engine.running for engine in engines])),
        _whole(_total([engine.waiting for engine in engines])),
        _percent(
            max((one.kv_usage_ratio for one in engines if one.kv_usage_ratio is not None), default=None)
        ),
        _whole(_total([engine.tokens_per_second for engine in engines])),
    )


def _memory(gpus: tuple[GpuSummary, ...]) -> str:
    pairs = [
        (gpu.memory_used_bytes, gpu.memory_total_bytes)
        for gpu in gpus
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes is not None
    ]
    if not pairs:
        return "–"
    used, total = sum(used for used, _ in pairs), sum(total for _, total in pairs)
    return f"{used / GIB:,.0f}/{total / GIB:,.0f}"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _total(values: list[float | None] | list[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.0%}"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _counts(counted: Counter[SummaryLevel]) -> str:
    return " · ".join(f"{counted[level]:,} {level}" for level in LEVELS if counted[level]) or "none"
