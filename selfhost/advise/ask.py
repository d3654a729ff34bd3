"""Which question comes next: those that can still change the path, in the order of the gates, then what sizes it."""

from __future__ import annotations

from dataclasses import replace

from selfhost.advise.decide import deciding
from selfhost.advise.tables import Question, question
from selfhost.advise.types import Answers

# Asked of everybody, as each of them decides or sizes much: the order of the gates and criteria.
_FIRST = ("privacy", "need", "team", "budget", "stage", "size", "performance")
# Asked once the way is clear, as they size it.
_LAST = (
    "sector",
    "country",
    "model",
    "requests_per_day",
    "latency_ms",
    "cost_view",
    "vendor_support",
    "security",
)


def next_question(answers: Answers, skipped: frozenset[str]) -> Question | None:
    """The next question, None when there is none left.

    Args:
        answers: so far.
        skipped: keys that were asked already, answered or not.
    """
    done = skipped | answers.values.keys()
    for key in (*_FIRST, *deciding(answers), *_LAST):
        if key not in done:
            return question(key)
    return None


def asked_back(key: str, answers: Answers) -> Question | None:
    """The question again without the answer that says too little (rule 49), None where what was answered is clear."""
    if key != "performance" or answers.choice(key) != "critical":
        return None
    one = question(key)
    return replace(one, choices=tuple(choice for choice in one.choices if choice.value != "critical"))
