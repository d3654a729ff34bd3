"""Which way to go: answers -> Advice (open or closed, private or cloud, hybrid, hosted), by rules that are data.

The rules, questions and texts (English and Chinese) stand in the TOML files of this folder; the modules only evaluate.
"""

from __future__ import annotations

from selfhost.advise.answers import parse_answers, parse_value
from selfhost.advise.decide import advise, wished
from selfhost.advise.types import LANGUAGES, PATHS, Advice, Answers, Language, Path

__all__ = [
    "LANGUAGES",
    "PATHS",
    "Advice",
    "Answers",
    "Language",
    "Path",
    "advise",
    "parse_answers",
    "parse_value",
    "wished",
]
