"""Sections of a report about money: cost over time with break-even, and what would change the decision."""

from __future__ import annotations

from selfhost.report import charts
from selfhost.report.page import Cell, Chart, Head, Maker, Point, Row, Section, Table
from selfhost.report.types import BreakEven, CashFlow, Cost, Tornado

_BARS = 8  # of the tornado; what moves the result less is in the table alone
_OPEN = 12  # break-evens that stand open; more are folded on a screen, and printed
_MARKS = 2  # break-evens named in the chart: of the recommended way, the earliest first


def cost_section(make: Maker, cost: Cost) -> Section:
    """Money spent by the end of each month, as a picture."""
    say = make.words.say
    priced = tuple(flow for flow in cost.flows if flow.cumulative)
    if not priced:
        return Section(
            id="cost",
            title=say("cost.title"),
            lead=say("cost.nothing"),
            points=_unpriced(make, cost),
            layout="half",
        )
    tokens = (
        say("word.unknown") if cost.tokens_per_month is None else make.words.number(cost.tokens_per_month)
    )
    return Section(
        id="cost",
        title=say("cost.title"),
        lead=say("cost.lead", tokens=tokens),
        charts=(_chart(make, cost, priced),),
        layout="half",
    )


def ways_section(make: Maker, cost: Cost) -> Section:
    """Every way with what it costs, and when one has become cheaper than another."""
    say = make.words.say
    tables = [_flows(make, cost)]
    if cost.break_evens:
        tables.append(_break_evens(make, cost.break_evens))
    if cost.tornado is not None:
        tables.append(_swings(make, cost.tornado))
    return Section(
        id="ways",
        title=say("ways.title"),
        lead=say("ways.lead"),
        points=_unpriced(make, cost),
        tables=tuple(tables),
    )


def _unpriced(make: Maker, cost: Cost) -> tuple[Point, ...]:
    return tuple(
        Point(
            text=make.words.say(
                "cost.unknown",
                because=make.words.reason(flow.because) if flow.because else make.words.say("word.unknown"),
            ),
            strong=make.words.option(flow.name),
        )
        for flow in cost.flows
        if not flow.cumulative
    )


def _chart(make: Maker, cost: Cost, priced: tuple[CashFlow, ...]) -> Chart:
    say, money = make.words.say, make.words.money
    described = say(
        "cost.described", n=cost.months,
        parts=say("word.list_join").join(
            say("cost.part", name=make.words.option(flow.name), total=money(flow.cumulative[-1])) for flow in priced
        ),
    )  # fmt: skip
    svg = ""
    if make.pictures:
        svg = charts.over_months(
            tuple(
                charts.Line(
                    name=make.words.option(flow.name),
                    xs=tuple(float(month) for month in range(len(flow.cumulative))),
                    ys=flow.cumulative,
                )
                for flow in _distinct(priced)
            ),
            strong=next((make.words.option(flow.name) for flow in priced if flow.chosen), None),
            x_title=say("cost.month"),
            y_title=say("cost.money", currency=cost.currency),
            labels=make.words.axis,
            marks=_marks(make, cost, priced),
        )  # fmt: skip
    return Chart(name="cost", title=say("cost.chart"), description=described, svg=svg, file="cost.svg")


def _distinct(flows: tuple[CashFlow, ...]) -> tuple[CashFlow, ...]:
    """One line a name, as many as colours tell apart."""
    return tuple({flow.name: flow for flow in flows}.values())[: len(charts.PALETTE)]


def _marks(make: Maker, cost: Cost, priced: tuple[CashFlow, ...]) -> tuple[charts.Mark, ...]:
    by_name = {flow.name: flow.cumulative for flow in priced}
    chosen = next((flow.name for flow in priced if flow.chosen), None)
    met = sorted(
        (
            one
            for one in cost.break_evens
            if one.months is not None
            and one.option in by_name
            and 0 < one.months <= cost.months
            and chosen in (None, one.option, one.against)
        ),
        key=lambda one: one.months or 0.0,
    )
    # Against the best of the other ways, as the words at the top have it; else the earliest.
    others = {flow.name: flow.cumulative[-1] for flow in priced if not (flow.chosen or flow.foreign)}
    nearest = min(others, key=others.__getitem__, default="")
    telling = [one for one in met if chosen is not None and nearest in (one.option, one.against)]
    marks = []
    for one in (telling or met)[:_MARKS]:
        at = one.months or 0.0
        flow = by_name[one.option]
        month = min(int(at), len(flow) - 2)
        money = flow[month] + (flow[month + 1] - flow[month]) * (at - month)
        marks.append(charts.Mark(x=at, y=money, text=make.words.say("cost.even_mark", n=f"{at:.0f}")))
    return tuple(marks)


def _flows(make: Maker, cost: Cost) -> Table:
    say = make.words.say
    years = range(1, cost.months // 12 + 1)
    heads = (
        *make.heads("cost.option", "#cost.start"),
        *(Head(text=say("cost.end_year", n=year), numeric=True) for year in years),
        *make.heads("#cost.total", "#cost.net_present", "#cost.per_million"),
    )
    rows = []
    for flow in cost.flows:
        notes = make.notes.of(*flow.sources)
        spent = [_spent(make, flow, month) for month in (0, *(12 * year for year in years))]
        rows.append(
            Row(
                chosen=flow.chosen,
                cells=(
                    Cell(
                        text=make.words.option(flow.name),
                        head=True,
                        notes=notes,
                        badge=say("options.recommended") if flow.chosen else "",
                        range=say("cost.foreign") if flow.foreign else "",
                    ),
                    *spent,
                    make.cell(flow.total),
                    make.cell(flow.net_present),
                    make.cell(flow.per_million),
                ),
            )
        )
    return Table(caption=say("ways.caption"), heads=heads, rows=tuple(rows))


def _spent(make: Maker, flow: CashFlow, month: int) -> Cell:
    if month >= len(flow.cumulative):
        return Cell(text=make.words.say("word.unknown"), unknown=True, numeric=True)
    return Cell(text=make.words.money(flow.cumulative[month]), numeric=True)


def _months(make: Maker, months: float | None) -> str:
    say = make.words.say
    if months is None:
        return say("word.never")
    return say("word.at_once") if months == 0 else say("word.months", n=f"{months:,.1f}")


def _used(make: Maker, one: BreakEven) -> str:
    """How busy the copies are at a break-even volume, or how busy they would have to be."""
    if one.utilization is None:
        return ""
    say, share = make.words.say, f"{one.utilization:.0%}"
    if one.tokens_per_month is None:
        return say("cost.even_needed", share=share) if one.utilization > 1 else ""
    if one.copies is not None and one.copies > 1:
        return say("cost.even_copies", share=share, n=one.copies)
    return say("cost.even_used", share=share)


def _break_evens(make: Maker, found: tuple[BreakEven, ...]) -> Table:
    say, option = make.words.say, make.words.option
    rows = []
    for one in found:
        spread = (
            "" if one.soonest == one.latest else f"{_months(make, one.soonest)} … {_months(make, one.latest)}"
        )
        tokens = (
            say("word.never") if one.tokens_per_month is None else make.words.number(one.tokens_per_month)
        )
        used = _used(make, one)
        rows.append(
            Row(
                cells=(
                    Cell(text=option(one.option), head=True),
                    Cell(text=option(one.against)),
                    Cell(text=_months(make, one.months), range=spread, numeric=True),
                    Cell(text=tokens, range=used, numeric=True),
                    Cell(text=make.words.reason(one.because)),
                )
            )
        )
    heads = make.heads(
        "cost.even_title", "cost.even_against", "#cost.even_months", "#cost.even_tokens", "cost.even_because"
    )
    return Table(caption=say("cost.even_caption"), heads=heads, rows=tuple(rows), folded=len(rows) > _OPEN)


def tornado_section(make: Maker, found: Tornado, currency: str) -> Section:
    """What each assumption alone does to what the cheapest way saves."""
    say, money = make.words.say, make.words.money
    named = [make.words.assumption(bar.name) for bar in found.bars if bar.instead]
    flips = (
        say("tornado.flips", list=say("word.list_join").join(named)) if named else say("tornado.flips_none")
    )
    parts = say("word.list_join").join(
        say("tornado.part", name=make.words.assumption(bar.name), low=money(bar.low), high=money(bar.high))
        for bar in found.bars
    )
    svg = ""
    if make.pictures:
        swings = tuple(
            charts.Swing(
                name=make.words.assumption(bar.name), low_text=make.words.setting(bar.low_setting),
                high_text=make.words.setting(bar.high_setting),
                low=bar.low, high=bar.high,
            )
            for bar in found.bars[:_BARS]
        )  # fmt: skip
        svg = charts.tornado(
            swings, base=found.base, x_title=say("tornado.axis", currency=currency), labels=make.words.axis
        )
    chart = Chart(
        name="tornado",
        title=say("tornado.chart"),
        svg=svg,
        file="tornado.svg",
        description=say("tornado.described", base=money(found.base), parts=parts),
    )
    return Section(
        id="sensitivity",
        title=say("tornado.title"),
        lead=say("tornado.lead", option=make.words.way(found.option), flips=flips),
        charts=(chart,),
        layout="half",
    )


def _swings(make: Maker, found: Tornado) -> Table:
    """The numbers of the tornado; below both charts, as they are too many beside one on paper."""
    say, money = make.words.say, make.words.money
    rows = tuple(
        Row(
            cells=(
                Cell(text=make.words.assumption(bar.name), head=True),
                Cell(text=make.words.setting(f"{bar.low_setting} … {bar.high_setting}")),
                Cell(text=f"{money(bar.low)} … {money(bar.high)}", numeric=True),
                Cell(text=make.words.option(bar.instead or found.option)),
            )
        )
        for bar in found.bars
    )
    heads = make.heads("tornado.assumption", "tornado.setting", "#tornado.result", "tornado.turns")
    return Table(caption=say("tornado.behind"), heads=heads, rows=rows, folded=True)
