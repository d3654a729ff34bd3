"""Advice for people and for programs: the path first, what it rests on second, what to do next last."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from selfhost.cli._output import headline, next_step, width

if TYPE_CHECKING:
    from selfhost.advise import Advice, Answers, Language
    from selfhost.advise.onward import Onward
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


def show(
    answers: Answers, advice: Advice, wish: Wish | None, onward: Onward | None, language: Language
) -> None:
    """Print the advice."""
    from selfhost.advise.tables import word

    def heading(name: str) -> None:
        click.echo(f"\n{word(name, language)}")

    headline(word("recommended", language).format(title=advice.title), good=True)
    if advice.confidence == "provisional":
        _line(word("provisional", language), indent=0)
    for odd in advice.contradictions:
        heading("at-odds")
        _line(f"{odd.because} ({', '.join(odd.keys)})", mark="!")
        for way in odd.ways:
            _line(f"{word('way-out', language)}: {way}", indent=4, mark="-")
    heading("because")
    for reason in advice.reasons:
        _line(reason.because, mark=f"{reason.number:>2}")
    if wish is not None:
        heading("model-head")
        _line(_of_wish(wish, language), mark=" •")
    if advice.warnings:
        heading("watch")
        for warned in advice.warnings:
            _line(warned.because, mark=f"{warned.number:>2}")
    heading("alternatives")
    for other in advice.alternatives:
        _line(other.title, mark=f"{other.number:>2}")
    if advice.questions:
        heading("open-questions")
        for asked in advice.questions:
            _line(f"{asked.ask} ({asked.key})", mark=" ?")
            for change in asked.changes:
                if change.path != advice.path or asked.key == "performance":
                    _line(f"{change.label} → {change.path}", indent=7, mark="")
    if onward is not None:
        heading("onward-head")
        for name, text in onward.lines:
            _line(f"{name}: {text}", mark=" •")
        if onward.commands:
            next_step(onward.commands[0], word("next-why", language))
            for more in onward.commands[1:]:
                click.echo(f"      {more}")


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
        if line and columns + wide > room and piece[0] not in _NOT_FIRST:
            lines.append(line.rstrip())
            line, columns, piece = "", 0, piece.lstrip()
            wide = columns_of(piece)
        line, columns = line + piece, columns + wide
    return [*lines, line.rstrip()]


_NOT_FIRST = "，。；：、！？）》”’％%,.;:!?)"


def _pieces(text: str) -> list[str]:
    found: list[str] = []
    for character in text:
        if found and not _is_wide(character) and character != " " and not _is_wide(found[-1][-1]):
            found[-1] += character
        else:
            found.append(character)
    return found


def columns_of(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(2 if _is_wide(character) else 1 for character in text)


def _is_wide(character: str) -> bool:
    import unicodedata

    return unicodedata.east_asian_width(character) in "WF"
