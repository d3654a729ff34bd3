"""Report -> Page: the recommendation first, then what it rests on, each section by its own function."""

from __future__ import annotations

from selfhost.report.money import cost_section, tornado_section, ways_section
from selfhost.report.page import Figure, Maker, Notes, Page, Point, Section, labelled
from selfhost.report.sections import (
    advice_section,
    assumptions_section,
    bill_section,
    curve_section,
    licence_section,
    options_section,
    risks_section,
)
from selfhost.report.types import Cost, Report
from selfhost.report.words import Lang, Words

_ADVISED = 3  # reasons of the advice at the top; all of them stand in a part of their own
_CHEAPER = 2  # APIs of other models that are named at the top; the table has them all


def lay_out(report: Report, *, lang: Lang, pictures: bool = True) -> Page:
    """The page in one language.

    Args:
        report: its facts.
        lang: en or zh.
        pictures: draw the charts, which takes the extra `selfhost[report]`.

    Raises:
        UnsupportedError: pictures are wanted and the extra is not installed.
    """
    words = Words(lang=lang, currency=report.cost.currency if report.cost else "USD")
    make = Maker(words=words, notes=Notes(), pictures=pictures)
    say, subject = words.say, report.subject
    # In reading order, as sources are numbered by where they appear.
    reasons = _reasons(make, report)
    figures = _figures(make, report)
    sections: list[Section] = []
    if report.cost is not None:
        sections.append(cost_section(make, report.cost))
        if report.cost.tornado is not None:
            sections.append(tornado_section(make, report.cost.tornado, report.cost.currency))
        if any(flow.cumulative for flow in report.cost.flows):
            sections.append(ways_section(make, report.cost))
    sections += [
        options_section(make, report.options, report.refused, costed=report.costed),
        *advice_section(make, report.recommendation.advised, shown=_ADVISED),
        risks_section(make, report),
        licence_section(make, report),
        curve_section(make, report.curve),
        bill_section(make, report.bill),
        assumptions_section(make, report),
    ]
    return Page(
        lang="zh-CN" if lang == "zh" else "en",
        title=say("page.title", model=subject.model),
        kicker=say("page.kicker"),
        model=subject.model,
        headline=_headline(make, report),
        reasons=reasons,
        figures=figures,
        sections=tuple(labelled(section) for section in sections),
        sources_title=say("page.sources"),
        sources=make.notes.listed(),
        how_to_read=say("page.how_to_read"),
        table_behind=say("page.table_behind"),
        made=say(
            "page.made", version=subject.version, created=subject.created[:10], planned=subject.planned[:10]
        ),
    )


def _forbidden(report: Report) -> bool:
    """The licence does not permit the use, and what is recommended is to run or to call this very model."""
    verdict = report.licence
    return verdict is not None and verdict.permission == "no" and not report.recommendation.foreign


def _headline(make: Maker, report: Report) -> str:
    if report.licence is not None and _forbidden(report):
        return make.words.say("headline.licence_no", licence=report.licence.name)
    return _decision(make, report)


def _decision(make: Maker, report: Report) -> str:
    say, found = make.words.say, report.recommendation
    if not found.fits:
        return say("headline.short", gpus=found.gpus, gpu=found.gpu)
    if found.kind is None:
        if found.advised is not None and report.cost is not None:
            return say("headline.advised", path=make.words.known("path", found.advised.path))
        name = "headline.unpriced" if report.costed else "headline.uncosted"
        return say(name, gpus=found.gpus, gpu=found.gpu)
    if found.kind == "api":
        return say("headline.api", option=make.words.option(found.option or ""))
    return say(f"headline.{found.kind}", gpus=found.taken, gpu=found.gpu)


def _reasons(make: Maker, report: Report) -> tuple[Point, ...]:
    say, found, subject = make.words.say, report.recommendation, report.subject
    reasons = [say("why.permitted", headline=_decision(make, report))] if _forbidden(report) else []
    reasons += _of_money(make, report)
    if found.taken > found.gpus and found.kind == "buy":
        reasons.append(say("why.whole", taken=found.taken, gpus=found.gpus))
    if found.advised is not None:
        reasons.append(say("why.advised", path=make.words.known("path", found.advised.path)))
        reasons += found.advised.reasons[:_ADVISED]
    load = (
        say("why.load_clients", n=report.curve.asked or subject.concurrency)
        if subject.request_rate is None
        else say("why.load_rate", n=f"{subject.request_rate:g}")
    )
    reasons.append(
        say(
            "why.load", concurrency=subject.concurrency, context=subject.context_tokens, engine=subject.engine
        )
    )
    reasons.append(
        say("why.speed_load", prompt=subject.prompt_tokens, output=subject.output_tokens, load=load)
    )
    return tuple(Point(text=reason) for reason in reasons)


def _of_money(make: Maker, report: Report) -> list[str]:
    """Why this way on cost: what it costs, what the next one does, when buying pays, and what else would be cheaper."""
    say, found, cost = make.words.say, report.recommendation, report.cost
    if cost is None or found.option is None or found.total.value is None:
        return []
    total = found.total.value.typical
    tokens = (
        say("word.unknown") if cost.tokens_per_month is None else make.words.number(cost.tokens_per_month)
    )
    shown = {"time": make.span_of_months(cost.months), "tokens": tokens, "total": make.words.money(total)}
    reasons = []
    if found.option == found.cheapest:
        name = "why.cheapest_bought" if found.kind == "buy" else "why.cheapest"
        reasons.append(say(name, model=report.subject.model, **shown))
        reasons += _next(make, cost, found.option, total)
    else:
        reasons.append(say("why.costs", **shown))
        if found.cheapest is not None:
            reasons.append(say("why.not_cheapest", cheapest=make.words.way(found.cheapest)))
    reasons += _pays(make, cost, found.option)
    if found.foreign:
        reasons.append(say("why.foreign", model=report.subject.model))
    if found.cheaper:
        listed = say("word.list_join").join(
            say("why.priced", name=make.words.option(name), total=make.words.money(money))
            for name, money in found.cheaper[:_CHEAPER]
        )
        reasons.append(say("why.cheaper", list=listed))
    return reasons


def _next(make: Maker, cost: Cost, option: str, total: float) -> list[str]:
    """The way to serve the same model that comes after the cheapest."""
    name, money = _best_other(cost, option)
    if name is None:
        return []
    shown = make.words.money
    return [
        make.words.say("why.next", name=make.words.way(name), total=shown(money), more=shown(money - total))
    ]


def _best_other(cost: Cost, option: str) -> tuple[str | None, float]:
    """The cheapest of the other ways to serve the same model, and its total."""
    others = [
        (flow.total.value.typical, flow.name)
        for flow in cost.flows
        if flow.total.value is not None and flow.name != option and not flow.foreign
    ]
    money, name = min(others, default=(0.0, None))
    return name, money


def _pays(make: Maker, cost: Cost, option: str) -> list[str]:
    """When what is bought pays back, or from which volume on GPUs are cheaper: the first that are."""
    say, way = make.words.say, make.words.way
    kinds = {flow.name: flow.kind for flow in cost.flows}
    if kinds.get(option) == "buy":
        against, _ = _best_other(cost, option)
        met = next((one for one in cost.break_evens if (one.option, one.against) == (option, against)), None)
        if met is None or kinds.get(met.against) == "buy":
            return []
        if met.months is None or met.months > cost.months:
            time = make.span_of_months(cost.months)
            return [say("why.pays_never", against=way(met.against), time=time)]
        return [say("why.pays", against=way(met.against), months=f"{met.months:,.1f}")]
    own = ("buy", "rent") if kinds.get(option) == "api" else ("buy",)
    rivals = [one for one in cost.break_evens if kinds.get(one.option) in own and one.against == option]
    turns = [(one.tokens_per_month, one) for one in rivals if one.tokens_per_month is not None]
    if turns:
        volume, first = min(turns, key=lambda turn: turn[0])
        many = "" if first.copies is None or first.copies < 2 else say("why.copies", n=first.copies)
        tokens = make.words.number(volume)
        return [say("why.volume", option=way(first.option), tokens=tokens, copies=many)]
    never = next((one for one in rivals if kinds.get(one.option) == "buy"), None)
    return [] if never is None else [say("why.volume_never", option=way(never.option))]


def _figures(make: Maker, report: Report) -> tuple[Figure, ...]:
    say, found = make.words.say, report.recommendation
    where = f"{found.gpus} × {found.gpu}"
    figures = []
    if report.cost is not None:  # first, as sources are numbered by where they appear
        total = say("figure.total", time=make.span_of_months(report.cost.months))
        figures = [
            make.figure(total, found.total),
            make.figure(say("figure.per_million"), found.per_million),
        ]
    figures += [
        make.figure(say("figure.speed", where=where), found.speed),
        make.figure(say("figure.first_token", where=where), found.first_token),
    ]
    if report.cost is None:
        figures.append(make.figure(say("figure.per_token", where=where), found.per_token))
    return tuple(figures)
