"""Prometheus text -> the few samples that are asked for.

prometheus_client's parser reads every line of a page into families; of the thousands of lines of a vLLM page some
thirty are wanted, and this reader looks at nothing but the name of the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: its labels and its value, which may be NaN or infinite."""

    labels: dict[str, str]
    value: float


def read_samples(text: str, wanted: frozenset[str]) -> dict[str, list[Sample]]:
    """The samples of the wanted names, by name, in the page's order. Lines that are no samples are passed over.

    Args:
        text: exposition format 0.0.4.
        wanted: sample names, with the suffixes of histograms and counters.
    """
    found: dict[str, list[Sample]] = {}
    for line in text.split("\n"):
        brace = line.find("{")
        name = line[:brace] if brace >= 0 else line.partition(" ")[0]
        if name in wanted:
            sample = _sample(line, brace, len(name))
            if sample is not None:
                found.setdefault(name, []).append(sample)
    return found


def _sample(line: str, brace: int, end: int) -> Sample | None:
    labels: dict[str, str] = {}
    if brace >= 0:
        end = line.rfind("}") + 1
        if not end:
            return None
        labels = {key: _plain(value) for key, value in _LABEL.findall(line[brace:end])}
    words = line[end:].split()
    try:
        return Sample(labels, float(words[0]))
    except (IndexError, ValueError):
        return None


def _plain(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[0]), value)
