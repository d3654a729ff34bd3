"""Text to documents: a YAML or JSON stream of anybody's, read event by event so that every node keeps its place.

PyYAML's events alone are used, from its C parser where the wheel has one: nothing is constructed from tags, aliases
share one value, and what they would expand to is counted before anything walks it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selfhost.lint.model import Unread
from selfhost.lint.nodes import Map, Seq, Span, Value

# What people write by hand or a chart renders is far below; above, a document is refused before anything walks it.
DEEPEST = 100
MOST_ALIASED = 200_000  # values that aliases add to a document
MOST_ERRORS = 20  # broken documents of one file that are told of

_WORDS: dict[str, Value] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
for _word in ("true", "yes", "on"):
    _WORDS |= {_word: True, _word.title(): True, _word.upper(): True}
for _word in ("false", "no", "off"):
    _WORDS |= {_word: False, _word.title(): False, _word.upper(): False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$")
_HEX = re.compile(r"0x[0-9a-fA-F]+$")
_new_span = tuple.__new__  # a Span without the call of its own __new__: there is one for every node
_START = re.compile(r"^---(?:\s|$)", re.MULTILINE)
_TABS = re.compile(r"^[ \t]*\t[ \t]*", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a stream.

    Args:
        body: its value.
        line: of its first node.
        duplicates: keys that stand twice in one mapping: span of the later one, the key, line of the first.
    """

    body: Value
    line: int
    duplicates: tuple[tuple[Span, str, int], ...] = ()


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    node: Map | Seq
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_span: Span | None = None
    merges: list[Value] = field(default_factory=list)


class _TooMuchError(Exception):
    """Deeper or larger than anything is walked."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def read(file: str, text: str) -> tuple[list[Document], list[Unread]]:
    """Every document of a text, and one sentence for each that is broken.

    After a broken document reading goes on at the next `---` at the start of a line.

    Args:
        file: name for the sentences.
        text: YAML or JSON.
    """
    import yaml

    documents: list[Document] = []
    broken: list[Unread] = []
    text, offset = _cleaned(text), 0
    while True:
        try:
            documents.extend(_stream(text, offset))  # keeps what came before an error
            return documents, broken
        except _TooMuchError as error:
            broken.append(Unread(file=file, line=error.line, message=str(error)))
            line = error.line - 1 - offset
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = min(mark.line, text.rstrip().count("\n")) if mark is not None else 0
            what = " ".join(part for part in (error.context, error.problem) if part)
            broken.append(Unread(file=file, line=line + offset + 1, message=f"not YAML: {what}"))
        except yaml.YAMLError as error:  # a character YAML has no place for
            line = _line_of(text, getattr(error, "position", 0))
            reason = getattr(error, "reason", None) or "unreadable"
            broken.append(Unread(file=file, line=line + offset + 1, message=f"not YAML: {reason}"))
        after = _after(text, line)
        if after is None or len(broken) >= MOST_ERRORS:
            return documents, broken
        offset += text.count("\n", 0, after)
        text = text[after:]


def _cleaned(text: str) -> str:
    """Without a byte order mark; JSON that is indented with tabs, which YAML forbids, with blanks in their place."""
    text = text.removeprefix("﻿")
    if "\t" in text and text.lstrip()[:1] in ("{", "["):
        return _TABS.sub(lambda found: " " * len(found[0]), text)
    return text


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, max(0, position))


def _after(text: str, line: int) -> int | None:
    """Where the next document starts at or after a line (from 0) of the text; None where there is no further one."""
    start = 0
    for _ in range(line):
        found = text.find("\n", start)
        if found < 0:
            return None
        start = found + 1
    next_one = _START.search(text, max(1, start))
    return next_one.start() if next_one else None


def _stream(text: str, offset: int) -> Iterator[Document]:
    import yaml

    loader: Any = getattr(yaml, "CLoader", yaml.Loader)(text)
    builder: _Builder | None = None
    try:
        while True:
            event = loader.get_event()
            kind = type(event)
            if kind is yaml.DocumentStartEvent:
                builder = _Builder(offset + 1)
            elif kind is yaml.DocumentEndEvent and builder is not None:
                yield builder.document()
            elif kind is yaml.StreamEndEvent:
                return
            elif builder is not None:
                builder.take(kind.__name__, event)
    finally:
        loader.dispose()


class _Builder:
    """Events of one document to its value."""

    def __init__(self, first_line: int) -> None:
        self.first_line = first_line  # lines of events count from 0
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Value, Span, int]] = {}
        self.root: Value = None
        self.root_line = first_line
        self.aliased = 0
        self.duplicates: list[tuple[Span, str, int]] = []

    def document(self) -> Document:
        return Document(body=self.root, line=self.root_line, duplicates=tuple(self.duplicates))

    def _span(self, event: Any) -> Span:
        start, end, first = event.start_mark, event.end_mark, self.first_line
        return _new_span(Span, (start.line + first, start.column, end.line + first, end.column))

    def take(self, kind: str, event: Any) -> None:
        if kind == "ScalarEvent":
            span = self._span(event)
            value = _scalar(event)
            if event.anchor:
                self.anchors[event.anchor] = (value, span, 1)
            self._put(value, span, 1, key=event.value)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            node: Map | Seq = Map() if kind == "MappingStartEvent" else Seq()
            node.span = self._span(event)
            node.flow = bool(event.flow_style)
            if len(self.stack) >= DEEPEST:
                raise _TooMuchError(f"nested more than {DEEPEST} deep", node.span.line)
            self.stack.append(_Open(node, event.anchor))
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._close(event)
        elif kind == "AliasEvent":
            span = self._span(event)
            if event.anchor not in self.anchors:
                raise _TooMuchError(f"not YAML: found undefined alias {event.anchor!r}", span.line)
            value, anchored, size = self.anchors[event.anchor]
            self._put(value, anchored, size, key=str(value), at=span)

    def _close(self, event: Any) -> None:
        done = self.stack.pop()
        node, end = done.node, event.end_mark
        node.span = node.span._replace(end_line=end.line + self.first_line, end_column=end.column)
        if isinstance(node, Map):
            for merged in done.merges:
                _merge(node, merged)
        if done.anchor:
            self.anchors[done.anchor] = (node, node.span, done.size)
        self._put(node, node.span, done.size, key="")

    def _put(self, value: Value, span: Span, size: int, *, key: str, at: Span | None = None) -> None:
        """Give a value to whatever is being read; `at` is the alias it came by."""
        if not self.stack:
            self.root, self.root_line = value, (at or span).line
            return
        top = self.stack[-1]
        top.size += size
        if at is not None:
            self.aliased += size
            if self.aliased > MOST_ALIASED:
                raise _TooMuchError(f"aliases expand it by more than {MOST_ALIASED:,} values", at.line)
        if isinstance(top.node, Seq):
            top.node.append(value)
            top.node.spans.append(span)
        elif top.key_span is None:
            top.key, top.key_span = key, at or span
        else:
            self._entry(top, top.node, value, span)

    def _entry(self, top: _Open, node: Map, value: Value, span: Span) -> None:
        name, key_span = top.key or "", top.key_span or span
        top.key = top.key_span = None
        if name == "<<":
            top.merges.append(value)
            return
        if name in node:
            self.duplicates.append((key_span, name, node.keys_at[name].line))
        node[name] = value
        node.keys_at[name] = key_span
        node.values_at[name] = span


def _merge(node: Map, merged: Value) -> None:
    """`<<: *defaults`, or a list of them: what the mapping does not say itself."""
    for source in merged if isinstance(merged, Seq) else (merged,):
        if isinstance(source, Map):
            for key, value in source.items():
                if key not in node:
                    node[key] = value
                    node.keys_at[key] = source.keys_at[key]
                    node.values_at[key] = source.values_at[key]


def _scalar(event: Any) -> Value:
    text: str = event.value
    tag = event.tag
    if event.style or (tag and tag != "!" and not tag.startswith("tag:yaml.org,2002:")):
        return text  # quoted, a block, or of a kind of its own
    if tag and tag.endswith(":str"):
        return text
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first in "0123456789-+.":
        if _INT.match(text):
            return int(text) if len(text) < 40 else text
        if _HEX.match(text):
            return int(text, 16) if len(text) < 40 else text
        if _FLOAT.match(text):
            return float(text)
    return text
