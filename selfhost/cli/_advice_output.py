"""Advice for people and for programs: the path first, what it rests on second, what to do next last."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from selfhost.cli._output import columns_of, headline, is_wide, width

if TYPE_CHECKING:
    from selfhost.advise import Advice, Answers, Language
    from selfhost.advise.onward_types import Onward
    from selfhost.advise.wishes import Wish


def as_facts(
    answers: Answers, advice: Advice, wish: Wish | None, onward: Onward | None, language: Language
) -> dict[str, object]:
    """The object of `selfhost/advice/v1`."""
    from selfhost.advise.tables import paths

    return {
        "language": language,
        "path": advice.path,
        "title": advice.title,
        "plan": advice.plan,
        "confidence": advice.confidence,
        "decided_by": advice.decided_by,
        "decided_by_rules": list(advice.rules),
        "alternatives": [one.path for one in advice.alternatives],
        "alternatives_because": [asdict(one) for one in advice.alternatives],
        "reasons": [asdict(one) for one in advice.reasons],
        "warnings": [asdict(one) for one in advice.warnings],
        "questions": [asdict(one) for one in advice.questions],
        "contradictions": [asdict(one) for one in advice.contradictions],
        "worked_case": None if advice.plan is None else worked_case(advice.plan, language),
        "model": None if wish is None else asdict(wish),
        "comparison": [
            {
                "path": one.path,
                "title": one.text[language],
                "plan": one.plan,
                "deploy_days": {"low": one.deploy_days[0], "high": one.deploy_days[1]},
                "ranks": dict(one.ranks),
            }
            for one in paths().values()
        ],
        "answers": {
            key: list(value) if isinstance(value, tuple) else value for key, value in answers.values.items()
        },
        "unknown": sorted(answers.unknown),
        "onward": None if onward is None else asdict(onward),
    }


def worked_case(plan: int, language: Language) -> dict[str, object]:
    """The worked case of a plan with its budget, by which its figures were printed."""
    from selfhost.cli._advice_lists import case_facts

    return case_facts(plan, language)


def show(advice: Advice, wish: Wish | None, onward: Onward | None, language: Language) -> None:
    """Print the advice."""
    from selfhost.advise.tables import word

    headline(word("recommended", language).format(title=advice.title), good=True)
    if advice.confidence == "provisional":
        _line(word("provisional", language), indent=0)
    _show_odds(advice, language)
    reasons = [(f"{one.number:>2}", one.because) for one in advice.reasons if _kind(one.rule) not in _BESIDE]
    beside = [(f"{one.number:>2}", one.because) for one in advice.reasons if _kind(one.rule) in _BESIDE]
    _show_items("because", reasons, language)
    if wish is not None:
        _show_items("model-head", [(" •", _of_wish(wish, language))], language)
    _show_items("watch", [(f"{one.number:>2}", one.because) for one in advice.warnings], language)
    _show_items("beside", beside, language)
    _show_items("alternatives", [(f"{one.number:>2}", one.title) for one in advice.alternatives], language)
    _show_questions(advice, language)
    if onward is not None:
        _show_items(
            "onward-head",
            [(" •", f"{name}{_COLON[language]}{text}") for name, text in onward.lines],
            language,
        )
        click.echo()
        for number, each in enumerate(onward.commands):
            head = word("next", language) + _COLON[language]
            head = head if number == 0 else " " * columns_of(head)
            click.echo(f"{head}{each}")


_COLON = {"en": ": ", "zh": "："}
_BRACKETS = {"en": " ({})", "zh": "（{}）"}
# Kinds of rules that say what to know of the path rather than why it was taken.
_BESIDE = frozenset({"break-even", "metric", "openness", "operation", "ordering", "scenario"})


def _kind(rule: str) -> str:
    from selfhost.advise.tables import rules

    return next(one.kind for one in rules() if one.id == rule)


def _show_items(heading: str, items: list[tuple[str, str]], language: Language) -> None:
    """A heading and marked items under it, nothing where there are none."""
    from selfhost.advise.tables import word

    if items:
        click.echo(f"\n{word(heading, language)}")
    for mark, text in items:
        _line(text, mark=mark)


def _show_odds(advice: Advice, language: Language) -> None:
    from selfhost.advise.tables import word

    if advice.contradictions:
        click.echo(f"\n{word('at-odds', language)}")
    for odd in advice.contradictions:
        _line(odd.because + _BRACKETS[language].format(", ".join(odd.keys)), mark=" !")
        for way in odd.ways:
            _line(f"{word('way-out', language)}{_COLON[language]}{way}", indent=6, mark="-")


def _show_questions(advice: Advice, language: Language) -> None:
    from selfhost.advise.tables import word

    if advice.questions:
        click.echo(f"\n{word('open-questions', language)}")
    for asked in advice.questions:
        _line(asked.ask + _BRACKETS[language].format(asked.key), mark=" ?")
        leads = {change.path for change in asked.changes}
        for change in asked.changes:
            if change.path != advice.path or (asked.key == "performance" and len(leads) > 1):
                _line(f"{change.label} → {change.path}", indent=6)


def _of_wish(wish: Wish, language: Language) -> str:
    from selfhost.advise.tables import word

    parts = [wish.name] if wish.name else []
    if wish.level is not None:
        parts.append(word("level", language).format(level=wish.level))
    parts.append(f"{wish.licence or '–'}: {word(f'permission-{wish.permission}', language)}")
    return " · ".join(parts)


def _line(text: str, *, mark: str = "", indent: int = 2) -> None:
    """One item, wrapped; Chinese text counts two columns a character and breaks anywhere."""
    head = f"{' ' * indent}{mark}{'  ' if mark else ''}"
    room = width() - len(head)
    for number, line in enumerate(wrapped(text, room)):
        click.echo(f"{head if number == 0 else ' ' * len(head)}{line}")


def wrapped(text: str, room: int) -> list[str]:
    """A text in lines of so many columns, broken between words, and between Chinese characters but not before stops."""
    lines, line, columns = [], "", 0
    for piece in _pieces(text):
        wide = columns_of(piece)
        if line and columns + wide > room:
            lines.append(line.rstrip())
            line, columns, piece = "", 0, piece.lstrip()
            wide = columns_of(piece)
        line, columns = line + piece, columns + wide
    return [*lines, line.rstrip()]


_NOT_FIRST, _NOT_LAST = "，。；：、！？）》”’％%,.;:!?)", "（《“‘("


def _pieces(text: str) -> list[str]:
    found: list[str] = []
    for character in text:
        before = found[-1][-1] if found else " "
        glued = character in _NOT_FIRST or before in _NOT_LAST
        if before != " " and character != " " and (glued or not (is_wide(character) or is_wide(before))):
            found[-1] += character
        else:
            found.append(character)
    return found
