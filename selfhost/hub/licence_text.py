"""What a LICENSE file speaks of, for who has to read it: hints from its words, never a permission."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from selfhost.errors import SelfhostError
from selfhost.licence import Declared

FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE")
TEXT_BYTES = 1 << 16  # the longest model licences have some 30 kB

# What is said of a text, and the words that show it. Each pattern looks no further than a sentence, so that a hostile
# text costs no time.
_CLAUSES = {
    "Its text speaks of {} million monthly active users.": r"(\d{1,4}) million monthly active users",
    "Its text speaks of non-commercial use.": r"non-?commercial (?:purposes? |use )?only|for non-?commercial"
    r"|research purposes only",
    "Its text speaks of a revenue of {} USD.": r"(?:revenue|turnover)[^.]{0,80}(?:US\$|USD|\$) ?"
    r"([\d.,]{1,20} ?(?:million|billion))",
    "Its text excludes the European Union.": r"(?:not apply|excluding|not granted)[^.]{0,80}European Union",
    "Its text speaks of offering the model as a service.": r"model[- ]as[- ]a[- ]service",
    "Its text asks to display a name prominently.": r"prominently display",
}


def clauses(text: bytes) -> tuple[str, ...]:
    """What a licence's text speaks of, one sentence each."""
    plain = " ".join(text[:TEXT_BYTES].decode("utf-8", errors="replace").split())
    found = ((sentence, re.search(words, plain, re.IGNORECASE)) for sentence, words in _CLAUSES.items())
    return tuple(sentence.format(*match.groups()) for sentence, match in found if match is not None)


def with_clauses(declared: Declared, read: Callable[[str], bytes]) -> Declared:
    """A declaration that does not say which licence it is, with what its LICENSE file speaks of.

    Args:
        declared: what the repository says; one that names a licence is given back as it is.
        read: the first `TEXT_BYTES` of a file, empty where there is none. What it cannot read is left out.
    """
    if declared.licence not in (None, "other", "unknown"):
        return declared
    for name in FILES:
        try:
            text = read(name)
        except SelfhostError:
            continue
        if text:
            return replace(declared, clauses=clauses(text))
    return declared
