"""Sections of a report about the machines: memory bill, GPU options, speed, licence, risks, assumptions."""

from __future__ import annotations

from selfhost.report import charts
from selfhost.report.page import Cell, Chart, Maker, Point, Row, Section, Table
from selfhost.report.types import Advised, Bill, Curve, GpuOption, Report, Source
from selfhost.throughput.types import Point as Speed
from selfhost.throughput.types import Range
from selfhost.units import GIB, gib

_FREE, _MISSING = "#e3e8ec", "#b3261e"
_REFUSED = 6  # named before the rest is counted


def bill_section(make: Maker, bill: Bill) -> Section:
    """What one GPU holds, as a bar and a table."""
    say = make.words.say
    total = sum(term.bytes for term in bill.terms)
    certain = bill.certainty_bytes
    lead = (
        say("bill.lead_uncertain", gpu=bill.gpu, total=gib(total))
        if certain is None
        else say("bill.lead", gpu=bill.gpu, total=gib(total), certainty=gib(certain))
    )
    names = [make.words.known("memory", term.name) for term in bill.terms]
    parts = [
        (
            say("bill.part", name=name, gib=gib(term.bytes)),
            term.bytes / GIB,
            _colour(number, term.name, term.bytes),
        )
        for number, (name, term) in enumerate(zip(names, bill.terms, strict=True))
    ]
    listed = say("word.list_join").join(part for part, _, _ in parts)
    chart = Chart(
        name="memory",
        title=say("bill.chart", gpu=bill.gpu),
        description=say("bill.described", total=gib(total), parts=listed),
        svg=charts.stacked(tuple((name, max(0.0, size), colour) for name, size, colour in parts))
        if make.pictures
        else "",
        file="memory.svg",
    )
    rows = tuple(
        Row(
            cells=(
                Cell(text=name, head=True),
                Cell(text=gib(term.bytes), numeric=True, notes=make.notes.of(term.source)),
                Cell(text=make.words.reason(term.because)),
            )
        )
        for name, term in zip(names, bill.terms, strict=True)
    )
    table = Table(
        caption=say("bill.chart", gpu=bill.gpu),
        heads=make.heads("bill.term", "#bill.gib", "bill.because"),
        rows=rows,
    )
    remarks = (Point(text=say("word.short", gib=gib(bill.short_bytes))),) if bill.short_bytes else ()
    return Section(
        id="memory",
        title=say("bill.title"),
        lead=lead,
        charts=(chart,),
        tables=(table,),
        remarks=remarks,
        layout="pair",
    )


def _colour(number: int, name: str, size: int) -> str:
    if name == "free":
        return _FREE if size >= 0 else _MISSING
    return charts.PALETTE[number % len(charts.PALETTE)]


def options_section(
    make: Maker, options: tuple[GpuOption, ...], refused: tuple[tuple[str, str], ...], *, costed: bool
) -> Section:
    """The kinds of GPU that carry the load; without prices where money was left out."""
    say = make.words.say
    rows = tuple(
        Row(
            chosen=option.chosen,
            cells=(
                Cell(
                    text=f"{option.count} × {option.name}", head=True,
                    badge=say("options.chosen") if option.chosen else "",
                ),
                Cell(
                    text=say("word.unknown") if option.room is None else say("options.times", n=f"{option.room:,.1f}"),
                    numeric=True, unknown=option.room is None,
                ),
                make.cell(option.speed),
                make.cell(option.first_token),
                *(make.cell(one) for one in (option.hour, option.purchase, option.per_million) if costed),
            ),
        )
        for option in options
    )  # fmt: skip
    money = ("#options.hour", "#options.purchase", "#options.per_million") if costed else ()
    heads = make.heads("options.gpus", "#options.room", "#options.speed", "#options.first", *money)
    remarks: tuple[Point, ...] = ()
    if refused:
        named = say("word.list_join").join(
            f"{name} ({make.words.reason(why)})" for name, why in refused[:_REFUSED]
        )
        if len(refused) > _REFUSED:
            named = say("options.refused_more", list=named, n=len(refused) - _REFUSED)
        remarks = (Point(text=say("options.refused", list=named)),)
    table = Table(caption=say("options.title"), heads=heads, rows=rows)
    return Section(
        id="options",
        title=say("options.title"),
        lead=say("options.lead" if len(options) > 1 else "options.lead_alone")
        + (say("word.sentence_join") + say("options.rents") if costed else ""),
        tables=(table,),
        remarks=remarks,
    )


def advice_section(make: Maker, advised: Advised | None, *, shown: int) -> tuple[Section, ...]:
    """Every reason of the advice, where the top of the page has not room for all of them."""
    if advised is None or len(advised.reasons) <= shown:
        return ()
    say, known = make.words.say, make.words.known
    others = say("word.list_join").join(known("path", one) for one in advised.alternatives)
    return (
        Section(
            id="advice",
            title=say("advice.title"),
            lead=say("advice.lead", path=known("path", advised.path)),
            points=tuple(Point(text=text) for text in advised.reasons),
            remarks=(Point(text=say("advice.others", list=others)),) if others else (),
        ),
    )


def curve_section(make: Maker, curve: Curve) -> Section:
    """Speed by requests at once, as two pictures and a table."""
    say = make.words.say
    if not curve.points:
        return Section(
            id="speed",
            title=say("curve.title"),
            lead=say("curve.unknown", because=make.words.reason(curve.because)),
        )
    admitted, bend = curve.admitted or 0, curve.knee or 0
    lead = say("curve.lead", knee=bend, admitted=admitted)
    if bend >= admitted:
        lead = say("curve.lead_all", admitted=admitted)
    # Beyond what is let in, requests wait outside: that is a queue, not a speed, and stands in the table alone.
    inside = tuple(
        point for point in curve.points if curve.admitted is None or point.concurrency <= curve.admitted
    )
    rests = Point(
        text=say("curve.rests", because=make.words.reason(curve.because)), notes=make.notes.of(*curve.sources)
    )
    return Section(
        id="speed",
        title=say("curve.title"),
        lead=lead,
        charts=(
            _speed_chart(make, curve, inside, "throughput", "curve.speed_chart", "curve.speed"),
            _speed_chart(make, curve, inside, "latency", "curve.wait_chart", "curve.token"),
        ),
        tables=(_speed_table(make, curve),),
        remarks=(rests,),
    )


def _value(point: Speed, name: str) -> Range:
    return point.output_tokens_per_second if name == "throughput" else point.tpot_ms


def _speed_chart(
    make: Maker, curve: Curve, points: tuple[Speed, ...], name: str, title: str, unit: str
) -> Chart:
    say, number = make.words.say, make.words.number
    values = [_value(point, name) for point in points]
    line = charts.Line(
        name=name,
        xs=tuple(float(point.concurrency) for point in points),
        ys=tuple(value.typical for value in values),
        lows=tuple(value.low for value in values),
        highs=tuple(value.high for value in values),
    )
    wanted: dict[int | None, str] = {curve.knee: say("curve.knee")}
    if curve.asked is not None:
        wanted[curve.asked] = say("curve.asked")
    marks = tuple(
        charts.Mark(x=float(point.concurrency), y=_value(point, name).typical, text=wanted[point.concurrency])
        for point in points
        if point.concurrency in wanted
    )
    described = say(
        "curve.described", **{"from": points[0].concurrency}, to=points[-1].concurrency,
        first=number(values[0].typical), last=number(values[-1].typical),
    )  # fmt: skip
    svg = ""
    if make.pictures:
        svg = charts.over_requests(
            line, x_title=say("curve.concurrency"), y_title=say(unit), labels=make.words.axis, marks=marks,
            colour=charts.ACCENT if name == "throughput" else charts.AMBER,
        )  # fmt: skip
    return Chart(name=name, title=say(title), description=described, svg=svg, file=f"{name}.svg")


def _speed_table(make: Maker, curve: Curve) -> Table:
    say = make.words.say

    def cell(value: Range) -> Cell:
        text, bounds = make.words.span(value, "number")
        return Cell(text=text, range=bounds, numeric=True)

    def badge(point: Speed) -> str:
        if curve.admitted is not None and point.concurrency > curve.admitted:
            return say("curve.waiting")
        if point.concurrency == curve.asked:
            return say("curve.asked")
        return say("curve.knee") if point.concurrency == curve.knee else ""

    rows = tuple(
        Row(
            chosen=point.concurrency == curve.asked,
            cells=(
                Cell(text=f"{point.concurrency:,}", head=True, numeric=True, badge=badge(point)),
                cell(point.output_tokens_per_second),
                cell(point.ttft_ms),
                cell(point.tpot_ms),
                Cell(text=make.words.known("binds", point.binds)),
            ),
        )
        for point in curve.points
    )
    heads = make.heads(
        "#curve.concurrency",
        "#curve.speed",
        "#curve.first",
        "#curve.token",
        "curve.binds",
        sources=curve.sources,
    )
    return Table(caption=say("page.table_behind"), heads=heads, rows=rows, folded=True)


def licence_section(make: Maker, report: Report) -> Section:
    """What the licence permits and asks for."""
    say, known = make.words.say, make.words.known
    verdict = report.licence
    if verdict is None:
        return Section(id="licence", title=say("licence.title"), lead=say("licence.missing"), layout="half")
    notes = make.notes.of(Source(text=verdict.name, url=verdict.source, date=verdict.checked))
    use = say("use.unnamed") if verdict.use is None else known("use", verdict.use)
    pairs: tuple[tuple[str, str, tuple[int, ...]], ...] = (
        ("licence.name", verdict.name, notes),
        ("licence.use", use, ()),
        ("licence.permission", known("permission", verdict.permission), notes),
        ("licence.openness", known("openness", verdict.openness), ()),
        ("licence.gate", known("gate", verdict.gate), ()),
        *(("licence.obligations", known("obligation", text), notes) for text in verdict.obligations),
    )
    rows = tuple(
        Row(cells=(Cell(text=say(name), head=True), Cell(text=value, notes=refs)))
        for name, value, refs in pairs
    )
    table = Table(caption=say("licence.title"), heads=(), rows=rows)
    return Section(
        id="licence",
        title=say("licence.title"),
        lead="",
        tables=(table,),
        remarks=(Point(text=say("licence.not_advice")),),
        layout="half",
    )


def risks_section(make: Maker, report: Report) -> Section:
    """What may go wrong, the severe first."""
    say = make.words.say
    points = tuple(
        Point(
            text=say(
                f"risk.{risk.key}",
                **{name: _worded(make, name, value) for name, value in risk.values},
            ),
            strong=say("risks.severe") if risk.severe else "",
        )
        for risk in sorted(report.risks, key=lambda risk: not risk.severe)
    )
    return Section(id="risks", title=say("risks.title"), lead="", points=points, layout="half")


def _worded(make: Maker, name: str, value: str) -> str:
    if name == "instead":
        return make.words.way(value)
    if name == "list":
        return make.words.say("word.list_join").join(make.words.way(one) for one in value.split(", "))
    return make.words.assumption(value) if name == "name" else value


def assumptions_section(make: Maker, report: Report) -> Section:
    """What the numbers rest on that somebody else might set otherwise, and what is still open."""
    say = make.words.say
    rows = tuple(
        Row(
            cells=(
                Cell(text=make.words.assumption(one.name), head=True),
                Cell(
                    text=make.words.setting(one.value), notes=make.notes.of(one.source) if one.source else ()
                ),
            )
        )
        for one in report.assumptions
    )
    points = tuple(Point(text=text, strong=say("assumptions.questions")) for text in report.questions)
    heads = make.heads("assumptions.name", "assumptions.value")
    table = Table(caption=say("assumptions.title"), heads=heads, rows=rows)
    return Section(id="assumptions", title=say("assumptions.title"), lead="", tables=(table,), points=points)
