"""A report in one language, laid out: what its templates see. Nothing is left to compute or to translate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from selfhost.report.types import Number, Source
from selfhost.report.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Footnote:
    """A source, by its number on the page. `url` is a page that a browser may open, else None."""

    number: int
    text: str
    url: str | None
    date: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a table.

    Args:
        text: the typical value, or words.
        range: bounds below it, or words that explain the head of a row; empty where there are none.
        notes: numbers of its sources.
        unknown: nothing is known of it.
        head: it names its row.
        numeric: it is a number, set to the right.
        badge: a word beside it, empty for none.
        label: head of its column, which a phone shows beside it; set by `labelled`.
        blank: there is nothing in it, so that a phone leaves it out; set by `labelled`.
    """

    text: str
    range: str = ""
    notes: tuple[int, ...] = ()
    unknown: bool = False
    head: bool = False
    numeric: bool = False
    badge: str = ""
    label: str = ""
    blank: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Head of a column; `notes` are the sources of all its numbers."""

    text: str
    numeric: bool
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Cells, and whether the row is the one that was chosen."""

    cells: tuple[Cell, ...]
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with its caption; `folded` ones stand behind a chart and are opened by who asks.

    `unseen` captions say what the title of the section says: they are for readers that do not see; set by `labelled`.
    """

    caption: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    folded: bool = False
    unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture.

    Args:
        name: letters and dashes, unlike that of any other on the page.
        title: what it shows.
        description: its content in words.
        svg: the picture, empty where none was drawn.
        file: where Markdown finds it.
    """

    name: str
    title: str
    description: str
    svg: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A line of a list."""

    text: str
    strong: str = ""
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page: lead, charts, tables, a list, remarks.

    `layout` is `wide`, `pair` (a chart with its first table beside it) or `half` (beside the next such section).
    """

    id: str
    title: str
    lead: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    points: tuple[Point, ...] = ()
    remarks: tuple[Point, ...] = ()
    layout: Literal["wide", "pair", "half"] = "wide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One of the large numbers at the top."""

    label: str
    value: str
    range: str
    notes: tuple[int, ...]
    unknown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything on the page, in reading order."""

    lang: str
    title: str
    kicker: str
    model: str
    headline: str
    reasons: tuple[Point, ...]
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]
    sources_title: str
    sources: tuple[Footnote, ...]
    how_to_read: str
    table_behind: str
    made: str


def labelled(section: Section) -> Section:
    """A section whose cells know the heads of their columns."""

    def row(found: Row, table: Table) -> Row:
        names = [head.text for head in table.heads] or [""] * len(found.cells)
        return replace(
            found,
            cells=tuple(
                replace(cell, label=name, blank=not cell.text)
                for cell, name in zip(found.cells, names, strict=True)
            ),
        )

    tables = tuple(
        replace(
            table, rows=tuple(row(one, table) for one in table.rows), unseen=table.caption == section.title
        )
        for table in section.tables
    )
    return replace(section, tables=tables)


@dataclass(slots=True)
class Notes:
    """Sources by order of appearance, each once."""

    found: dict[Source, int] = field(default_factory=dict)

    def of(self, *sources: Source) -> tuple[int, ...]:
        """Numbers of sources, new ones added."""
        return tuple(dict.fromkeys(self.found.setdefault(source, len(self.found) + 1) for source in sources))

    def listed(self) -> tuple[Footnote, ...]:
        """All of them, by number."""
        return tuple(
            Footnote(number=number, text=source.text, url=openable(source.url), date=source.date)
            for source, number in self.found.items()
        )


def openable(url: str | None) -> str | None:
    """An address that may be a link: of the web alone, since `javascript:` is an address too."""
    plain = url is not None and url.isprintable() and not any(char in url for char in " \"'<>\\^`{|}")
    return url if url is not None and plain and url.lower().startswith(("https://", "http://")) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """What every section is made with."""

    words: Words
    notes: Notes
    pictures: bool

    def cell(self, number: Number, *, head: bool = False) -> Cell:
        """A number with its range and its sources."""
        text, bounds = self.words.span(number.value, number.unit)
        unknown = number.value is None
        return Cell(
            text=text,
            range=bounds,
            notes=self.notes.of(*number.sources),
            unknown=unknown,
            head=head,
            numeric=True,
        )

    def figure(self, label: str, number: Number) -> Figure:
        """A number for the top of the page."""
        cell = self.cell(number)
        bounds = self.words.say("word.range", range=cell.range) if cell.range else ""
        return Figure(label=label, value=cell.text, range=bounds, notes=cell.notes, unknown=cell.unknown)

    def heads(self, *columns: str, sources: tuple[Source, ...] = ()) -> tuple[Head, ...]:
        """Heads of a table.

        Args:
            columns: names of texts, those of numbers with a `#` before them.
            sources: of all numbers in the table, named at each but the first column.
        """
        notes = self.notes.of(*sources)
        heads = []
        for place, name in enumerate(columns):
            numeric = name.startswith("#")
            text = self.words.say(name.removeprefix("#"))
            heads.append(Head(text=text, numeric=numeric, notes=notes if numeric and place else ()))
        return tuple(heads)

    def span_of_months(self, months: int) -> str:
        """`3 years`, `18 months`."""
        if months % 12:
            return self.words.say("word.months", n=months)
        return self.words.say("word.year") if months == 12 else self.words.say("word.years", n=months // 12)
