"""What `selfhost advise` tells of itself: its questions, an answers file to fill in, its rules, its worked cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from selfhost.cli._advice_output import wrapped
from selfhost.cli._output import columns_of, emit_json, headline, next_step

if TYPE_CHECKING:
    from selfhost.advise import Language
    from selfhost.advise.tables import Question

COLUMNS = 96  # of comments in the template


def show(listing: str, language: Language, *, as_json: bool) -> None:
    """Print one of the lists."""
    facts = {"questions": questions, "template": template_facts, "rules": rules, "cases": cases}[listing](
        language
    )
    if as_json:
        emit_json(f"advice-{listing}", facts)
        return
    {"questions": _show_questions, "template": _show_template, "rules": _show_rules, "cases": _show_cases}[
        listing
    ](facts, language)


def questions(language: Language) -> dict[str, Any]:
    """The object of `selfhost/advice-questions/v1`."""
    from selfhost.advise.tables import questions as every

    return {"questions": [_question(one, language) for one in every()]}


def _question(one: Question, language: Language) -> dict[str, Any]:
    return {
        "key": one.key,
        "also": list(one.also),
        "kind": one.kind,
        "ask": one.ask[language],
        "why": one.why[language],
        "choices": [
            {"value": choice.value, "label": choice.text[language], "also": list(choice.also)}
            for choice in one.choices
        ],
        "unit": one.unit,
        "least": one.least,
        "more_than": one.over,
        "rules": list(one.rules),
    }


def template_facts(language: Language) -> dict[str, Any]:
    """The object of `selfhost/advice-template/v1`."""
    return {"template": template(language)}


def template(language: Language) -> str:
    """An answers file with every key commented."""
    from selfhost.advise.tables import questions as every
    from selfhost.advise.tables import unit, word

    lines = [f"# {word('template-head', language)}", ""]
    for one in every():
        lines += [f"# {line}" for line in wrapped(f"{one.ask[language]} {one.why[language]}", COLUMNS)]
        if one.choices:
            lines += [f"#   {choice.value}: {choice.text[language]}" for choice in one.choices]
        elif one.unit:
            lines.append(f"#   {unit(one, language)}")
        lines += [f"{one.key}: unknown", ""]
    return "\n".join(lines)


def rules(language: Language) -> dict[str, Any]:
    """The object of `selfhost/advice-rules/v1`."""
    from selfhost.advise.tables import pitfalls
    from selfhost.advise.tables import rules as every

    rows = sorted((*every(), *pitfalls()), key=lambda rule: rule.number)
    return {
        "rules": [
            {
                "rule": one.id,
                "number": one.number,
                "kind": one.kind,
                "text": one.text[language],
                "quantity": one.quantity,
                "order": list(one.order),
                "paths": list(one.paths),
            }
            for one in rows
        ]
    }


def cases(language: Language) -> dict[str, Any]:
    """The object of `selfhost/advice-cases/v1`."""
    from dataclasses import asdict
    from itertools import permutations

    from selfhost.advise import figures
    from selfhost.advise.tables import cases as every

    known = every()
    one, four = known[0], known[3]
    meets = {years: figures.monthly_to_meet(one, four, years) for years in figures.YEARS}
    return {
        "currency": "CNY",
        "cases": [case_facts(plan, language) for plan in range(1, len(known) + 1)],
        "break_evens": [
            {**asdict(met), "rule": 33, "within_three_years": met.within_three_years}
            for met in (figures.meeting(a, b) for a, b in permutations(known, 2) if a.upfront > b.upfront)
        ],
        "plan_4_monthly_to_meet_plan_1": [
            {
                "years": years,
                "per_month": round(amount, 2),
                "calls_per_month": round(figures.calls_for(four, amount) or 0.0),
                "rule": 34,
            }
            for years, amount in meets.items()
        ],
    }


def case_facts(plan: int, language: Language) -> dict[str, Any]:
    """One worked case: its budget, and the totals of one to three years."""
    from selfhost.advise import figures
    from selfhost.advise.tables import cases as every

    case = every()[plan - 1]
    low, high = (yearly / figures.MONTHS for yearly in case.yearly)
    calls = [figures.calls_for(case, month) for month in (low, high)]
    totals = {years: figures.total(case, years) for years in figures.YEARS}
    return {
        "case": case.id,
        "rule": case.rule,
        "path": case.path,
        "text": case.text[language],
        "currency": "CNY",
        "model_then": case.model_then,
        "upfront": case.upfront,
        "per_year": {"low": case.yearly[0], "high": case.yearly[1]},
        "per_month": {"low": low, "high": high},
        "per_thousand_calls": case.per_thousand_calls,
        "calls_per_month": None if None in calls else dict(zip(("low", "high"), calls, strict=True)),
        "totals": [{"years": years, "low": span[0], "high": span[1]} for years, span in totals.items()],
        "note": case.note.get(language),
    }


def _show_questions(facts: dict[str, Any], language: Language) -> None:
    from selfhost.advise.tables import word

    headline(word("questions-head", language).format(count=len(facts["questions"])))
    for one in facts["questions"]:
        values = " | ".join((*(choice["value"] for choice in one["choices"]), "unknown"))
        takes = values if one["choices"] else one["unit"] or one["kind"]
        click.echo()
        for number, line in enumerate(wrapped(f"{one['key']}: {takes}", 74)):
            click.echo(f"{'  ' if number == 0 else '      '}{line}")
        for line in wrapped(f"{one['ask']} {one['why']}", 74):
            click.echo(f"      {line}")
    next_step("selfhost advise --template > answers.yaml", word("template-why", language))


def _show_template(facts: dict[str, Any], language: Language) -> None:
    click.echo(facts["template"], nl=False)


def _show_rules(facts: dict[str, Any], language: Language) -> None:
    from selfhost.advise.tables import word

    headline(word("rules-head", language).format(count=len({one["number"] for one in facts["rules"]})))
    click.echo()
    for one in facts["rules"]:
        for number, line in enumerate(wrapped(one["text"], 70)):
            click.echo(f"  {one['number'] if number == 0 else '':>2}  {line}")


def _show_cases(facts: dict[str, Any], language: Language) -> None:
    from selfhost.advise.tables import word

    headline(word("cases-head", language))
    for case in facts["cases"]:
        click.echo(f"\n  {case['rule']}  {case['path']}")
        totals = " · ".join(f"{one['years']}: {_span(one['low'], one['high'])}" for one in case["totals"])
        for text in (case["text"], f"{word('totals', language)} {totals}", case["note"]):
            for line in wrapped(text, 72) if text else ():
                click.echo(f"      {line}")
    click.echo()
    never = word("never", language)
    for met in facts["break_evens"]:
        years = sorted({met["years_at_least_cost"], met["years_at_most_cost"]} - {None})
        shown = "–".join(f"{one:.2f}" for one in years)
        if years:
            within = word("within-three" if met["within_three_years"] else "not-within-three", language)
            shown = word("after-years", language).format(years=shown, within=within)
        if None in (met["years_at_least_cost"], met["years_at_most_cost"]):
            shown = f"{shown}{word('or', language)}{never}" if years else never
        label = f"{met['plan']} → {met['against']}"
        click.echo(f"  {label}{' ' * max(1, 20 - columns_of(label))}{shown}")
    for one in facts["plan_4_monthly_to_meet_plan_1"]:
        click.echo(
            "  "
            + word("monthly-to-meet", language).format(
                years=one["years"],
                s="" if one["years"] == 1 else "s",
                amount=f"{one['per_month']:,.0f}",
                calls=f"{one['calls_per_month']:,}",
            )
        )


def _span(low: float, high: float) -> str:
    return f"{low:,.0f}" if low == high else f"{low:,.0f}–{high:,.0f}"
