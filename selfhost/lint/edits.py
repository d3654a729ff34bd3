"""Safe edits of somebody's text: a key added, a scalar replaced, lines taken out; comments and formatting stay.

Each function returns no edit where the text is not of the plain form it knows (flow style, aliases, several lines): a
fix that is not made is better than one that breaks the file.
"""

from __future__ import annotations

from collections.abc import Iterable

from selfhost.lint.nodes import Map, Seq, Span
from selfhost.lint.types import Edit

# Line ends that YAML counts and an editor does not: with one of them in the text, places are not to be trusted.
_ODD_BREAKS = ("\x85", "\u2028", "\u2029")


def add_key(mapping: Map, lines: str) -> tuple[Edit, ...]:
    """Put `key: value` before the first key of a block mapping; further lines are indented with it."""
    if mapping.flow or not mapping.keys_at:
        return ()
    first = min(mapping.keys_at.values())
    indent = " " * first.column
    text = "".join(f"{line}\n{indent}" for line in lines.split("\n"))
    return (
        Edit(line=first.line, column=first.column, end_line=first.line, end_column=first.column, text=text),
    )


def add_item(items: Seq, lines: str) -> tuple[Edit, ...]:
    """Put an item before the first of a block list; `lines` without the leading dash."""
    if items.flow or not items:
        return ()
    indent = " " * items.span.column
    first, *rest = lines.split("\n")
    text = f"- {first}\n" + "".join(f"{indent}  {line}\n" for line in rest) + indent
    at = items.span
    return (Edit(line=at.line, column=at.column, end_line=at.line, end_column=at.column, text=text),)


def add_after(items: Seq, index: int, text: str) -> tuple[Edit, ...]:
    """Put a one-line item behind item `index` of a block list of one-line items."""
    span = items.spans[index]
    if items.flow or span.end_line != span.line or span.column <= items.span.column:
        return ()
    line = span.line + 1
    written = " " * items.span.column + f"- {text}\n"
    return (Edit(line=line, column=0, end_line=line, end_column=0, text=written),)


def replace_value(span: Span | None, text: str) -> tuple[Edit, ...]:
    """Write another value in place of a scalar on one line."""
    if span is None or span.line != span.end_line or span.end_column <= span.column:
        return ()
    return (
        Edit(line=span.line, column=span.column, end_line=span.line, end_column=span.end_column, text=text),
    )


def set_key(mapping: Map, key: str, text: str) -> tuple[Edit, ...]:
    """Give a key of a block mapping a scalar value, whether it is there or not."""
    if key in mapping:
        return replace_value(mapping.values_at.get(key), text)
    return add_key(mapping, f"{key}: {text}")


def drop_key(mapping: Map, key: str) -> tuple[Edit, ...]:
    """Take out a key that stands alone on its line with a null or one-line value, and is not the only one."""
    at, value = mapping.keys_at.get(key), mapping.values_at.get(key)
    if at is None or value is None or mapping.flow or len(mapping) < 2 or value.end_line != at.line:
        return ()
    if at == min(mapping.keys_at.values()):
        return ()  # it may follow the dash of a list
    return (Edit(line=at.line, column=0, end_line=at.line + 1, end_column=0, text=""),)


def drop_item(items: Seq, index: int) -> tuple[Edit, ...]:
    """Take out an item of a block list, from its dash to the line before the next item."""
    if items.flow or not 0 <= index < len(items) - 1:
        return ()
    start, after = items.spans[index], items.spans[index + 1]
    if after.line <= start.line:
        return ()
    return (Edit(line=start.line, column=0, end_line=after.line, end_column=0, text=""),)


def apply_edits(text: str, edits: Iterable[Edit]) -> tuple[str, int]:
    """Write edits into a text; of two that overlap the first by place wins, equal ones are written once.

    Returns:
        The new text and how many edits were written.
    """
    wanted = sorted(
        set(edits), key=lambda each: (each.line, each.column, each.end_line, each.end_column, each.text)
    )
    if not wanted or any(mark in text for mark in _ODD_BREAKS):
        return text, 0
    starts = [0]
    while (found := text.find("\n", starts[-1])) >= 0:
        starts.append(found + 1)
    shift = 1 if text.startswith("\ufeff") else 0
    pieces: list[str] = []
    done, written = 0, 0
    for edit in wanted:
        begin = _place(text, starts, edit.line, edit.column, shift)
        end = _place(text, starts, edit.end_line, edit.end_column, shift)
        if begin < done or end < begin:
            continue
        new = edit.text
        if begin == len(text) and text and not text.endswith("\n"):
            new = "\n" + new
        if "\r\n" in text:
            new = new.replace("\n", "\r\n")
        pieces += [text[done:begin], new]
        done, written = end, written + 1
    return "".join(pieces) + text[done:], written


def _place(text: str, starts: list[int], line: int, column: int, shift: int) -> int:
    if line > len(starts):
        return len(text)
    return min(len(text), starts[line - 1] + column + (shift if line == 1 else 0))
