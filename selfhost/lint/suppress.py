"""Comments that silence a rule: `# selfhost: ignore SH014 reason`, for the line, the block below, or the document."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_COMMENT = re.compile(r"(?:^|\s)#\s*selfhost:\s*ignore\s+(SH\d{3}(?:\s*,\s*SH\d{3})*)")
_CODE = re.compile(r"SH\d{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silences:
    """Where a file's comments keep rules quiet.

    Args:
        starts: for each code the first lines of its silences, in order.
        ends: beside each first line the last line that it or an earlier silence reaches.
    """

    starts: Mapping[str, Sequence[int]]
    ends: Mapping[str, Sequence[int]]

    def quiet(self, code: str, line: int) -> bool:
        """A finding of this code on this line is not told of."""
        at = bisect_right(self.starts.get(code, ()), line) - 1
        return at >= 0 and self.ends[code][at] >= line


def silences(text: str) -> Silences:
    """Read the comments of a file.

    A comment behind a value or above it counts for that entry and all that is indented below it; one above the first
    line of a document counts for the document.
    """
    starts: dict[str, list[int]] = {}
    ends: dict[str, list[int]] = {}
    lines = text.split("\n") if "selfhost:" in text else []
    found: list[tuple[int, int, str]] = []
    for number, line in enumerate(lines):
        comment = _COMMENT.search(line) if "selfhost:" in line else None
        if comment is not None:
            first, last = _block(lines, number)
            found.extend((first + 1, last + 1, code) for code in _CODE.findall(comment[1]))
    for first, last, code in sorted(found):
        starts.setdefault(code, []).append(first)
        reached = ends.setdefault(code, [])
        reached.append(max(last, reached[-1]) if reached else last)
    return Silences(starts=starts, ends=ends)


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
