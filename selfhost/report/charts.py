"""Values of a report -> pictures: Vega-Lite 5 made into SVG by vl-convert, without a browser and without a network.

A chart is drawn 400 pixels wide, in letters of 12: beside a table, on a phone and in a column of A4 it is shown between
0.8 and 1.2 times that size, so that one picture serves all three. Its words stand in it as text, not as shapes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import ceil, floor, log2, log10
from typing import Any

from selfhost.errors import UnsupportedError

WIDTH = 400
# Words are measured with a narrow font when they are drawn; a reader's may be a sixth wider (DejaVu Sans, Verdana).
_FITS = 320
INK, MUTED, HAIR, ACCENT, AMBER = "#1b2733", "#5c6975", "#dfe4e8", "#0f5f63", "#b8690b"
# Told apart in grey print and by the colour-blind: after Okabe and Ito 2008, darkened until each stands 3:1 on white
# (WCAG 2.2, 1.4.11); lines differ in their dashes besides.
PALETTE = ("#0f5f63", "#b8690b", "#4a5fa5", "#8f3d64", "#5d7a1f", "#7a5a3a", "#3f7f9f", "#8a8f98")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 4), (1, 3), (10, 4), (3, 1))
_FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif"
_CONFIG: dict[str, Any] = {
    "font": _FONT,
    "background": None,
    "padding": {"left": 2, "right": 10, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "gridColor": HAIR, "domainColor": HAIR, "tickColor": HAIR, "labelPadding": 6, "titlePadding": 8, "ticks": False,
    },
    "axisY": {
        "domain": False, "minExtent": 58, "titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": 0,
        "titleY": -10,
    },
    "axisX": {"grid": False},
    "legend": {
        "labelColor": INK, "labelFontSize": 12, "orient": "bottom", "direction": "vertical", "columns": 1,
        "title": None,
        "symbolSize": 120, "labelLimit": 310, "rowPadding": 4, "offset": 14,
    },
}  # fmt: skip
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Values by place on the axis, with their bounds where they have any."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point with a word beside it."""

    x: float
    y: float
    text: str


def available() -> bool:
    """Whether the extra that draws is installed."""
    from importlib.util import find_spec

    return find_spec("vl_convert") is not None


def _plain(value: Any) -> Any:
    """A specification whose words hold nothing invisible: the renderer ends the process on a NUL (vl-convert 1.9)."""
    if isinstance(value, str):
        return (
            value if value.isprintable() else "".join(char if char.isprintable() else " " for char in value)
        )
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def draw(spec: dict[str, Any]) -> str:
    """The SVG of a Vega-Lite specification.

    Raises:
        UnsupportedError: the extra is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise UnsupportedError(
            "Charts need vl-convert-python, which is not installed.",
            hint="`pip install 'selfhost[report]'`, or --no-charts for tables alone.",
        ) from None
    whole = _plain({"$schema": _SCHEMA, "config": _CONFIG, **spec})
    # No address is allowed to it: a specification of ours names none.
    return str(
        vl_convert.vegalite_to_svg(
            json.dumps(whole, allow_nan=False), vl_version="5.20", allowed_base_urls=[]
        )
    )


_OPENING = re.compile(r"<svg[^>]*>")
_SIZE = re.compile(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')
_SPOKEN = re.compile(r' (?:aria-[a-z]+|role|pointer-events|class)="[^"]*"')


def inlined(svg: str, name: str, title: str, description: str) -> str:
    """An SVG for the middle of a page: its names made unique, its words for people who do not see it.

    Args:
        svg: as it was drawn.
        name: letters and dashes, unlike that of any other chart of the page.
        title, description: plain text.
    """
    from html import escape

    size = _SIZE.search(svg)
    assert size is not None
    body = svg[_OPENING.search(svg).end() :]  # type: ignore[union-attr]
    body = _SPOKEN.sub("", body)  # an image is read out by its title, not by its parts
    body = re.sub(r'id="([a-z_A-Z0-9-]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([a-z_A-Z0-9-]+)\)", rf"url(#{name}-\1)", body)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[1]} {size[2]}" width="{size[1]}" '
        f'height="{size[2]}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(_plain(title))}</title>'
        f'<desc id="{name}-desc">{escape(_plain(description))}</desc>'
    )
    return head + body


def _rows(line: Line) -> list[dict[str, Any]]:
    lows = line.lows or line.ys
    highs = line.highs or line.ys
    return [
        {"x": x, "y": y, "low": low, "high": high, "s": line.name}
        for x, y, low, high in zip(line.xs, line.ys, lows, highs, strict=True)
    ]


_NEAR = 0.3  # of the width: of two words closer than this the second stands lower, or higher where that is the axis
_LEFT = (
    0.45  # of the width: a word left of this stands right of its point, so that it does not leave the picture
)


def _text_marks(
    marks: tuple[Mark, ...], places: tuple[float, ...], *, highest: float
) -> list[dict[str, Any]]:
    """A dot and a word at each mark.

    Args:
        marks: the points.
        places: where they lie on the width, from 0 to 1.
        highest: value of the picture; the lower half has no room below a point for a word.
    """
    layers: list[dict[str, Any]] = []
    usual = True
    for number, (mark, at) in enumerate(zip(marks, places, strict=True)):
        near = number > 0 and abs(at - places[number - 1]) < _NEAR
        usual = not (near and usual)
        lift = -10 if usual else 16 if mark.y > highest / 2 else -27
        place = {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}}
        data = {"values": [{"x": mark.x, "y": mark.y, "t": mark.text}]}
        dot = {"type": "point", "filled": True, "size": 70, "color": INK, "opacity": 1}
        word = {
            "type": "text",
            "dx": 8 if at < _LEFT else -8,
            "dy": lift,
            "align": "left" if at < _LEFT else "right",
            "fontSize": 12,
            "fontWeight": 600,
            "limit": 300,
        }
        written = {**place, "text": {"field": "t"}}
        layers += [
            {"data": data, "mark": dot, "encoding": place},
            {"data": data, "mark": {**word, "stroke": "#ffffff", "strokeWidth": 4}, "encoding": written},
            {"data": data, "mark": {**word, "color": INK}, "encoding": written},
        ]
    return layers


def over_requests(
    line: Line, *, x_title: str, y_title: str, labels: str, marks: tuple[Mark, ...], colour: str = ACCENT
) -> str:
    """A line with its range over requests at once, whose axis doubles from step to step.

    Args:
        line: by requests at once.
        x_title, y_title: of the axes.
        labels: Vega expression that writes a number of the other axis.
        marks: points with a word.
        colour: of the line.
    """
    x = {
        "field": "x", "type": "quantitative", "scale": {"type": "log", "base": 2, "nice": False},
        "axis": {"title": x_title, "values": _doubling(line.xs), "format": ",d"},
    }  # fmt: skip
    y = {
        "field": "y",
        "type": "quantitative",
        "axis": {
            "title": y_title,
            "tickCount": 4,
            "labelExpr": labels,
        },
    }
    width = log2(max(line.xs)) or 1.0
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "area", "opacity": 0.16, "color": colour},
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
        },
        {"mark": {"type": "line", "strokeWidth": 2.5, "color": colour}, "encoding": {"x": x, "y": y}},
        *_text_marks(
            marks, tuple(log2(mark.x) / width for mark in marks), highest=max(line.highs or line.ys)
        ),
    ]
    return draw({"width": WIDTH - 80, "height": 190, "data": {"values": _rows(line)}, "layer": layers})


def _doubling(xs: tuple[float, ...]) -> list[float]:
    """At most six places of the axis."""
    powers = [1.0]
    while powers[-1] * 2 <= max(xs, default=1.0):
        powers.append(powers[-1] * 2)
    step = -(-len(powers) // 6)
    return powers[::step]


def over_months(
    lines: tuple[Line, ...],
    *,
    x_title: str,
    y_title: str,
    labels: str,
    marks: tuple[Mark, ...],
    strong: str | None = None,
) -> str:
    """What each option has cost by the end of each month; the line of that name is drawn the widest."""
    names = [line.name for line in lines]
    most = max((x for line in lines for x in line.xs), default=12.0)
    x = {
        "field": "x", "type": "quantitative", "scale": {"domain": [0, most], "nice": False},
        "axis": {"title": x_title, "values": list(range(0, int(most) + 1, 6 if most <= 36 else 12))},
    }  # fmt: skip
    y = {
        "field": "y",
        "type": "quantitative",
        "axis": {"title": y_title, "tickCount": 5, "labelExpr": labels},
    }
    colour = {
        "field": "s",
        "type": "nominal",
        "scale": {"domain": names, "range": list(PALETTE[: len(names)])},
    }
    dash = {
        "field": "s", "type": "nominal",
        "scale": {"domain": names, "range": [list(one) for one in DASHES[: len(names)]]},
    }  # fmt: skip
    width = {"condition": {"test": f"datum.s === {json.dumps(strong)}", "value": 4.5}, "value": 2}
    layers = [
        {
            "mark": {"type": "line", "interpolate": "linear"},
            "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash, "strokeWidth": width},
        },
        *_text_marks(
            marks,
            tuple(mark.x / most for mark in marks),
            highest=max((max(line.ys) for line in lines), default=0.0),
        ),
    ]
    values = [row for line in lines for row in _rows(line)]
    return draw({"width": WIDTH - 80, "height": 230, "data": {"values": values}, "layer": layers})


def stacked(parts: tuple[tuple[str, float, str], ...]) -> str:
    """One bar of parts that add up, with their names below it.

    Args:
        parts: name, size and colour, from left to right.
    """
    names = [name for name, _, _ in parts]
    values = [{"s": name, "v": size, "n": number} for number, (name, size, _) in enumerate(parts)]
    return draw(
        {
            "width": WIDTH - 20,
            "height": 46,
            "data": {"values": values},
            "mark": {"type": "bar", "stroke": "#ffffff", "strokeWidth": 1.5},
            "encoding": {
                "x": {"field": "v", "type": "quantitative", "stack": True, "axis": None, "scale": {"nice": False}},
                "order": {"field": "n", "type": "ordinal"},
                "color": {
                    "field": "s", "type": "nominal",
                    "scale": {"domain": names, "range": [colour for _, _, colour in parts]},
                    "legend": {"symbolType": "square", "offset": 10},
                },
            },
        }
    )  # fmt: skip


def _ticks(low: float, high: float) -> list[float]:
    """At most five round places between two values: more would stand in each other where amounts are long."""
    step = 10.0 ** floor(log10(max(high - low, 1e-9))) / 10
    while floor(high / step) - ceil(low / step) > 4:
        step *= 2.5 if round(step / 10 ** floor(log10(step))) == 2 else 2
    return [step * number for number in range(ceil(low / step), floor(high / step) + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """One bar of a tornado: its name, what both ends say, and the results there."""

    name: str
    low_text: str
    high_text: str
    low: float
    high: float


def tornado(swings: tuple[Swing, ...], *, base: float, x_title: str, labels: str) -> str:
    """Bars from the result at one end of each assumption to that at the other; zero is where the decision turns.

    The names stand above the bars, from the left edge on: no long word pushes the bars together.
    """
    order = [str(number) for number in range(len(swings))]
    values: list[dict[str, Any]] = []
    for number, swing in enumerate(swings):
        words = f"{swing.name}  ({swing.low_text} … {swing.high_text})"
        for end, result in (("low", swing.low), ("high", swing.high)):
            values.append({"k": str(number), "a": base, "b": result, "e": end, "t": words})
    spaced = {"paddingInner": 0.64, "paddingOuter": 0.7}
    y = {"field": "k", "type": "ordinal", "sort": order, "axis": None, "scale": spaced}
    ends_at = [0.0, base, *(end for swing in swings for end in (swing.low, swing.high))]
    ticks = _ticks(min(ends_at), max(ends_at))
    axis = {"title": x_title, "labelExpr": labels, "values": ticks, "grid": True}
    ends = {"domain": ["low", "high"], "range": [PALETTE[2], AMBER]}
    words_at = {"y": y, "x": {"value": 0}, "text": {"field": "t"}}
    words_as = {
        "type": "text",
        "align": "left",
        "baseline": "bottom",
        "dy": -11,
        "fontSize": 12,
        "limit": _FITS,
    }
    only_once = [{"filter": "datum.e == 'low'"}]
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [{"v": 0}]},
            "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
            "encoding": {"x": {"field": "v", "type": "quantitative"}},
        },
        {
            "mark": {"type": "bar", "cornerRadius": 1},
            "encoding": {
                "y": y,
                "x": {"field": "a", "type": "quantitative", "axis": axis, "scale": {"zero": True}},
                "x2": {"field": "b"},
                "color": {"field": "e", "type": "nominal", "legend": None, "scale": ends},
            },
        },
        {
            "data": {"values": [{"v": base}]},
            "mark": {"type": "rule", "color": INK, "strokeDash": [3, 3]},
            "encoding": {"x": {"field": "v", "type": "quantitative"}},
        },
        # The first writing is a white edge, so that lines do not cross the words.
        {
            "transform": only_once,
            "mark": {**words_as, "stroke": "#ffffff", "strokeWidth": 4},
            "encoding": words_at,
        },
        {"transform": only_once, "mark": {**words_as, "color": INK}, "encoding": words_at},
    ]
    return draw(
        {
            "width": WIDTH - 20,
            "height": 20 + 42 * max(1, len(swings)),
            "data": {"values": values},
            "layer": layers,
        }
    )
