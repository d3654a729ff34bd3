"""Page -> HTML or Markdown, by templates/report/, which hold loops and names alone.

Every value a template prints has come out of a filter: `t` makes text of HTML, `md` text of Markdown, `svg` lets a
picture of ours through, whose words were escaped when it was drawn.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from selfhost.assets import asset_dir
from selfhost.manifests.environment import Printable, finalize
from selfhost.report.charts import inlined
from selfhost.report.page import Page

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = "report"
# What begins something in Markdown or HTML, wherever it stands (CommonMark 0.31.2, 2.4; a table ends a cell at `|`).
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#!|~&])")


def _line(value: object) -> str:
    """Text in one line, without what cannot be seen or turns the direction of writing."""
    text = str(value)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())


def as_html(value: object) -> Printable:
    """Text between tags or in a quoted attribute."""
    from html import escape

    return Printable(escape(_line(value), quote=True))


def as_markdown(value: object) -> Printable:
    """Text of a paragraph or of a cell."""
    return Printable(_SPECIAL.sub(r"\\\1", _line(value)))


def as_picture(value: object) -> Printable:
    """An SVG of ours, as it is.

    Raises:
        TypeError: it is not one.
    """
    text = str(value)
    if not text.startswith("<svg ") or "<script" in text or "<image" in text:
        raise TypeError("svg takes a picture that selfhost/report/charts.py drew")
    return Printable(text)


FILTERS = {"t": as_html, "md": as_markdown, "svg": as_picture}


@cache
def environment() -> Environment:
    """Jinja over templates/report/, strict about names that do not exist."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(asset_dir("templates")),
        undefined=StrictUndefined,
        finalize=finalize,
        autoescape=False,  # `finalize` refuses what came out of no filter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters = dict(FILTERS)
    jinja.globals = {}
    return jinja


def to_html(page: Page) -> str:
    """One file that needs no other and asks nothing of a network."""
    sections = tuple(
        replace(
            section,
            charts=tuple(
                replace(one, svg=inlined(one.svg, one.name, one.title, one.description) if one.svg else "")
                for one in section.charts
            ),
        )
        for section in page.sections
    )
    text = (
        environment().get_template(f"{_FOLDER}/report.html.j2").render(page=replace(page, sections=sections))
    )
    return re.sub(r"\n\s*\n+", "\n", text)


def to_markdown(page: Page) -> str:
    """The same facts in tables; pictures are files beside it, by the names that `pictures` gives."""
    text = environment().get_template(f"{_FOLDER}/report.md.j2").render(page=page)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def pictures(page: Page) -> dict[str, str]:
    """File name -> SVG, of the charts that were drawn."""
    return {
        one.file: inlined(one.svg, one.name, one.title, one.description) + "\n"
        for section in page.sections
        for one in section.charts
        if one.svg
    }
