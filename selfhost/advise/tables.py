"""The rows of the rules as typed values, read from the TOML files beside this one, where both languages stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pkgutil import get_data
from typing import Any, Literal

from selfhost.advise.types import Language, Path

Text = Mapping[str, str]
Condition = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer to a question: its value, what a person reads, and other spellings."""

    value: str
    text: Text
    also: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One key of the answers file; questions.toml says what each column is."""

    key: str
    kind: Literal["choice", "number", "list", "text"]
    ask: Text
    why: Text
    rules: tuple[int, ...]
    also: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    unit: str | None = None
    least: float | None = None
    over: float | None = None
    figure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule or pitfall; rules.toml says what each column is."""

    id: str
    number: int
    kind: str
    text: Text
    when: Condition | None = None
    unless: Condition | None = None
    paths: tuple[Path, ...] = ()
    quantity: str | None = None
    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One row of the decision; decisions.toml says what each column is."""

    id: str
    path: Path
    when: Condition
    unless: Condition | None
    rules: tuple[int, ...]
    alternatives: tuple[tuple[Path, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """One row of answers at odds; contradictions.toml says what each column is."""

    id: str
    kind: Literal["conflict", "error"]
    keys: tuple[str, ...]
    rules: tuple[int, ...]
    when: Condition
    text: Text
    ways: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFacts:
    """One path; paths.toml says what each column is."""

    path: Path
    text: Text
    plan: int | None
    deploy_days: tuple[int, int]
    ranks: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One worked case with its budget in CNY; cases.toml says what each column is."""

    id: str
    rule: int
    path: Path
    text: Text
    upfront: int
    yearly: tuple[int, int]
    model_then: str | None = None
    per_thousand_calls: int | None = None
    note: Text = field(default_factory=dict)


def read(name: str) -> dict[str, Any]:
    """One of the TOML files beside this module."""
    import tomllib

    return tomllib.loads(
        (get_data("selfhost.advise", f"{name}.toml") or b"").decode()
    )  # also out of selfhost.pyz


def _text(row: Mapping[str, Any]) -> Text:
    return {"en": row["en"], "zh": row["zh"]}


@cache
def questions() -> tuple[Question, ...]:
    """Every question, in the order in which they are asked."""
    found = []
    for key, row in read("questions").items():
        choices = tuple(
            Choice(value=value, text=_text(one), also=tuple(one.get("also", ())))
            for value, one in row.get("choices", {}).items()
        )
        plain = {name: value for name, value in row.items() if name not in ("choices", "rules", "also")}
        found.append(
            Question(
                key=key, choices=choices, rules=tuple(row["rules"]), also=tuple(row.get("also", ())), **plain
            )
        )
    return tuple(found)


@cache
def question(key: str) -> Question:
    """The question of a key."""
    return next(one for one in questions() if one.key == key)


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, by number."""
    return tuple(_rule(name, row, row["kind"]) for name, row in read("rules").items())


@cache
def pitfalls() -> tuple[Rule, ...]:
    """Every pitfall, by number."""
    return tuple(_rule(name, row, "pitfall") for name, row in read("pitfalls").items())


def _rule(name: str, row: Mapping[str, Any], kind: str) -> Rule:
    return Rule(
        id=name,
        number=row["number"],
        kind=kind,
        text=_text(row),
        when=row.get("when"),
        unless=row.get("unless"),
        paths=tuple(row.get("paths", ())),
        quantity=row.get("quantity"),
        order=tuple(row.get("order", ())),
    )


@cache
def decisions() -> tuple[Decision, ...]:
    """The rows of the decision, in order."""
    return tuple(
        Decision(
            id=name,
            path=row["path"],
            when=row["when"],
            unless=row.get("unless"),
            rules=tuple(row["rules"]),
            alternatives=tuple((path, number) for path, number in row["alternatives"]),
        )
        for name, row in read("decisions").items()
    )


@cache
def odds() -> tuple[Odds, ...]:
    """Answers that are at odds."""
    return tuple(
        Odds(
            id=name,
            kind=row["kind"],
            keys=tuple(row["keys"]),
            rules=tuple(row.get("rules", ())),
            when=row["when"],
            text=_text(row),
            ways={language: tuple(texts) for language, texts in row.get("ways", {}).items()},
        )
        for name, row in read("contradictions").items()
    )


@cache
def paths() -> Mapping[str, PathFacts]:
    """The six paths by name."""
    return {
        name: PathFacts(
            path=name,  # type: ignore[arg-type]  # a test holds the names against PATHS
            text=_text(row),
            plan=row.get("plan"),
            deploy_days=(row["deploy_days"][0], row["deploy_days"][1]),
            ranks=row["ranks"],
        )
        for name, row in read("paths").items()
    }


@cache
def cases() -> tuple[Case, ...]:
    """The worked cases, by plan."""
    return tuple(
        Case(
            id=name,
            rule=row["rule"],
            path=row["path"],
            text=_text(row),
            upfront=row["upfront"],
            yearly=(row["yearly"][0], row["yearly"][1]),
            model_then=row.get("model_then"),
            per_thousand_calls=row.get("per_thousand_calls"),
            note=row.get("note", {}),
        )
        for name, row in read("cases").items()
    )


def word(name: str, language: Language) -> str:
    """A word or sentence of the screens, from words.toml."""
    text: str = _words()[name][language]
    return text


def unit(asked: Question, language: Language) -> str | None:
    """What a number is of, for people."""
    return None if asked.unit is None else word(f"unit-{asked.unit.replace(' ', '-')}", language)


@cache
def _words() -> dict[str, Any]:
    return read("words")


@cache
def onward() -> Mapping[str, Any]:
    """What a path goes on with: sizes of models, kinds of GPU, loads; onward.toml says what each is."""
    return read("onward")
