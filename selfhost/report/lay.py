"""Report -> Page: the recommendation first, then what it rests on, each section by its own function."""

from __future__ import annotations

from selfhost.report.money import cost_section, tornado_section, ways_section
from selfhost.report.page import Figure, Maker, Notes, Page, Point, Section, labelled
from selfhost.report.sections import (
    assumptions_section,
    bill_section,
    curve_section,
    licence_section,
    options_section,
    risks_section,
)
from selfhost.report.types import Report
from selfhost.report.words import Lang, Words


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
        options_section(make, report.options, report.refused),
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


def _headline(make: Maker, report: Report) -> str:
    say, found = make.words.say, report.recommendation
    if not found.fits:
        return say("headline.short", gpus=found.gpus, gpu=found.gpu)
    if found.kind is None:
        return say("headline.unpriced", gpus=found.gpus, gpu=found.gpu)
    if found.kind == "api":
        return say("headline.api", option=make.words.option(found.option or ""))
    return say(f"headline.{found.kind}", gpus=found.taken, gpu=found.gpu)


def _reasons(make: Maker, report: Report) -> tuple[Point, ...]:
    say, found, subject, cost = make.words.say, report.recommendation, report.subject, report.cost
    reasons: list[str] = []
    if cost is not None and found.option is not None and found.total.value is not None:
        if found.option == found.cheapest:
            tokens = (
                say("word.unknown")
                if cost.tokens_per_month is None
                else make.words.number(cost.tokens_per_month)
            )
            total = make.words.money(found.total.value.typical)
            reasons.append(
                say("why.cheapest", time=make.span_of_months(cost.months), tokens=tokens, total=total)
            )
        elif found.cheapest is not None:
            reasons.append(say("why.not_cheapest", cheapest=make.words.option(found.cheapest)))
    if found.taken > found.gpus and found.kind == "buy":
        reasons.append(say("why.whole", taken=found.taken, gpus=found.gpus))
    if found.advised is not None:
        reasons.append(say("why.advised", path=make.words.known("path", found.advised.path)))
        reasons += found.advised.reasons
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


def _figures(make: Maker, report: Report) -> tuple[Figure, ...]:
    say, found = make.words.say, report.recommendation
    where = f"{found.gpus} × {found.gpu}"
    figures = [
        make.figure(say("figure.speed", where=where), found.speed),
        make.figure(say("figure.first_token", where=where), found.first_token),
    ]
    if report.cost is None:
        return (*figures, make.figure(say("figure.per_token", where=where), found.per_token))
    total = say("figure.total", time=make.span_of_months(report.cost.months))
    return (
        make.figure(total, found.total),
        make.figure(say("figure.per_million"), found.per_million),
        *figures,
    )
