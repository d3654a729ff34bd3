"""Comments that silence a rule: `# selfhost: ignore SH014 reason`, for the line, the block below, or the document."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMMENT = re.compile(r"(?:^|\s)#\s*selfhost:\s*ignore\s+(SH\d{3}(?:\s*,\s*SH\d{3})*)")
_CODE = re.compile(r"SH\d{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Lines, both included, on which some codes are not told of."""

    codes: frozenset[str]
    first: int
    last: int


def silences(text: str) -> tuple[Silence, ...]:
    """Read the comments of a file.

    A comment behind a value or above it counts for that entry and all that is indented below it; one above the first
    line of a document counts for the document.
    """
    if "selfhost:" not in text:
        return ()
    lines = text.split("\n")
    found = []
    for number, line in enumerate(lines):
        comment = _COMMENT.search(line)
        if comment is None:
            continue
        codes = frozenset(_CODE.findall(comment[1]))
        first, last = _block(lines, number)
        found.append(Silence(codes=codes, first=first + 1, last=last + 1))
    return tuple(found)


def silenced(found: tuple[Silence, ...], code: str, line: int) -> bool:
    """A finding of this code on this line is not told of."""
    return any(code in each.codes and each.first <= line <= each.last for each in found)


def _block(lines: list[str], number: int) -> tuple[int, int]:
    """First and last line (from 0) that a comment on a line counts for."""
    if lines[number].lstrip().startswith("#"):
        if _at_top(lines, number):
            return number, _end(lines, number)
        start = next((at for at in range(number + 1, len(lines)) if _content(lines[at])), number)
    else:
        start = number
    indent = _indent(lines[start])
    item = lines[start].lstrip().startswith("- ")
    last = start
    for at in range(start + 1, len(lines)):
        line = lines[at]
        if line.startswith("---"):
            break
        if not _content(line):
            continue
        if _indent(line) < indent or (
            _indent(line) == indent and (item or not line.lstrip().startswith("- "))
        ):
            break
        last = at
    return min(number, start), last


def _content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _at_top(lines: list[str], number: int) -> bool:
    """Nothing but comments between the comment and the start of its document."""
    for at in range(number - 1, -1, -1):
        if lines[at].startswith("---"):
            return True
        if _content(lines[at]):
            return False
    return True


def _end(lines: list[str], number: int) -> int:
    """Last line of the document: the line before the next `---` that follows content."""
    seen = False
    for at in range(number + 1, len(lines)):
        if lines[at].startswith("---") and seen:
            return at - 1
        seen |= _content(lines[at]) and not lines[at].startswith("---")
    return len(lines) - 1
