"""What is asked and what is advised: plain values in the language that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Path = Literal["open-private", "open-cloud", "closed-private", "closed-cloud", "hybrid", "hosted-open"]
PATHS: tuple[Path, ...] = (
    "open-private", "open-cloud", "closed-private", "closed-cloud", "hybrid", "hosted-open",
)  # fmt: skip
Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
Value = str | float | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What somebody answered.

    Args:
        values: key -> value; what was not answered is absent.
        unknown: keys that were answered with `unknown`.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()

    def choice(self, key: str) -> str:
        """The answer to a question of choice or of text, `unknown` where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else "unknown"

    def number(self, key: str) -> float | None:
        """The answer to a question of number, None where there is none."""
        value = self.values.get(key)
        return float(value) if isinstance(value, (int, float)) else None

    def listed(self, key: str) -> tuple[str, ...]:
        """The answer to a question with a list, empty where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, tuple) else ()

    def having(self, key: str, value: Value) -> Answers:
        """The same answers with one more."""
        return Answers(values={**self.values, key: value}, unknown=self.unknown - {key})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A rule that speaks for the path: its id and number, and why."""

    rule: str
    number: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A pitfall that applies: its id and number, and what to do."""

    pitfall: str
    number: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another path, and the rule that speaks for it."""

    path: Path
    title: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an answer would lead to."""

    answer: str
    label: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question back.

    Args:
        key: what it is called in the answers file.
        ask: the question.
        why: what the answer decides, one sentence.
        changes: the path for each answer, where one of them changes it; empty where only a figure is wanted.
    """

    key: str
    ask: str
    why: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """Answers that pull in opposite directions.

    Args:
        id: its row.
        keys: the answers.
        rules: numbers of the rules that are at odds.
        because: what is at odds, one sentence.
        ways: ways out of it.
    """

    id: str
    keys: tuple[str, ...]
    rules: tuple[int, ...]
    because: str
    ways: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Which way to go, and why.

    Args:
        path: the recommended one.
        title: what it is, one line.
        plan: number of the worked cases' plan that it is, None for the two between.
        decided_by: id of the row that decided.
        rules: numbers of the rules that the row rests on.
        confidence: `firm`, or `provisional` while an open question could change the path.
        alternatives: other paths, the nearest first.
        reasons, warnings: rules and pitfalls that apply.
        questions: what is asked back.
        contradictions: answers at odds with each other.
    """

    path: Path
    title: str
    plan: int | None
    decided_by: str
    rules: tuple[int, ...]
    confidence: Literal["firm", "provisional"]
    alternatives: tuple[Alternative, ...]
    reasons: tuple[Reason, ...]
    warnings: tuple[Warned, ...]
    questions: tuple[Asked, ...]
    contradictions: tuple[Contradiction, ...]
