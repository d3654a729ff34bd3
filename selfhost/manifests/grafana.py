"""A Grafana dashboard's JSON from rows of panels: ids, places on the grid, units, the choice of data source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 39  # Grafana 10.4 and later read it; newer ones bring it up to date by themselves
_WIDTH = 24
Kind = Literal["timeseries", "stat", "table", "state-timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a panel and how its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `words` are (value, text, colour) where numbers stand for words."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    help: str = ""
    width: int = 8
    height: int = 7
    most: float | None = None
    words: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def to_text(board: dict[str, Any]) -> str:
    """Strict JSON, whose first line says who wrote it."""
    text = json.dumps(board, indent=1, ensure_ascii=True, allow_nan=False)
    return text.replace("{\n ", "{ ", 1) + "\n"


def source() -> dict[str, str]:
    """The data source that is chosen at the top of the dashboard."""
    return {"type": "prometheus", "uid": "${datasource}"}


def variable(name: str, query: str) -> dict[str, Any]:
    """A choice among a label's values; `All` also takes series without the label."""
    return {
        "name": name, "label": name.capitalize() if name != "gpu" else "GPU", "type": "query", "hide": 0,
        "datasource": source(), "definition": query, "query": {"query": query, "refId": name}, "refresh": 2,
        "regex": "", "sort": 3, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, "options": [],
    }  # fmt: skip


def laid_out(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Panels from left to right, each row below the last."""
    found: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        found.append(
            _panel_head(len(found) + 1, row.title, "row", 0, top, _WIDTH, 1)
            | {"collapsed": False, "panels": []}
        )
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _WIDTH:
                top, left, tallest = top + tallest, 0, 0
            found.append(_drawn(panel, len(found) + 1, left, top))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return found


def _panel_head(
    number: int, title: str, kind: str, x: int, y: int, width: int, height: int
) -> dict[str, Any]:
    return {"id": number, "title": title, "type": kind, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.most is not None:
        defaults |= {"min": 0, "max": panel.most}
    if panel.words:
        options = {str(value): {"text": text, "color": colour} for value, text, colour in panel.words}
        defaults["mappings"] = [{"type": "value", "options": options}]
    instant = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + index), "datasource": source(), "expr": query.expr,
            "legendFormat": query.legend, "instant": instant, "range": not instant,
        } | ({"format": "table"} if instant else {})
        for index, query in enumerate(panel.queries)
    ]  # fmt: skip
    head = _panel_head(number, panel.title, panel.kind, x, y, panel.width, panel.height)
    return head | {
        "description": panel.help,
        "datasource": source(),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
        "targets": targets,
    }


def _options(kind: Kind) -> dict[str, Any]:
    if kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind == "state-timeline":
        return {"showValue": "never", "mergeValues": True, "rowHeight": 0.8}
    return {"showHeader": True} if kind == "table" else {}
