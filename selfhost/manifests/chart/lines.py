"""A template as lines and blocks of lines, on its way from Jinja's syntax to Go's.

Comments that hold a reason (`note`) end here: in a chart the reasons stand in the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from selfhost.manifests.chart.shapes import Shape

Way = Literal["text", "number", "note", "bytes", "word"]


class TranslationError(Exception):
    """A template says what a chart cannot: a fault of the template, not of anybody's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A value that a template names.

    Args:
        go: the expression in Go's templates.
        path: where it stands in the values: names, `[]` for an item of a list, `{key}` and `{value}` of a map.
        shape: what it holds; None for a reason, which is nowhere in the values.
        optional: it may be absent.
    """

    go: str
    path: tuple[str, ...]
    shape: Shape | None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Print:
    """A value printed in a line, and how."""

    ref: Ref
    way: Way


Part = str | Print


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end."""

    parts: tuple[Part, ...]

    @property
    def plain(self) -> str:
        """Its text, values as `{{}}`."""
        return "".join(part if isinstance(part, str) else "{{}}" for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What stands between two control words: `range …`, `if …`, `else`."""

    head: str
    refs: tuple[Ref, ...] = ()
    body: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A loop or a condition."""

    branches: tuple[Branch, ...]


Node = Line | Block


@dataclass(slots=True)
class Builder:
    """Collects text and values into lines."""

    nodes: list[Node] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    @property
    def at_start(self) -> bool:
        """Whether a new line begins here."""
        return not self.parts

    def text(self, text: str) -> None:
        """Add literal text, which may end lines."""
        *whole, rest = text.split("\n")
        for piece in whole:
            self._add(piece)
            self.nodes.append(Line(tuple(self.parts)))
            self.parts = []
        self._add(rest)

    def _add(self, text: str) -> None:
        if text:
            self.parts.append(text)

    def put(self, part: Print) -> None:
        """Add a value to the line."""
        self.parts.append(part)

    def done(self) -> tuple[Node, ...]:
        """All lines; one that was not ended ends here."""
        if self.parts:
            self.text("\n")
        return tuple(self.nodes)


def without_notes(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Without the comments that hold notes, and without lines and blocks of which nothing is left.

    Raises:
        TranslationError: a note stands outside of a comment.
    """
    return tuple(_without_notes(nodes))


def _without_notes(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, Line):
            kept = _strip(node)
            if kept is not None:
                yield kept
            continue
        branches = tuple(replace(one, body=without_notes(one.body)) for one in node.branches)
        if any(one.body for one in branches):
            yield Block(branches)


def _strip(line: Line) -> Line | None:
    at = next(
        (at for at, part in enumerate(line.parts) if isinstance(part, Print) and part.way == "note"), None
    )
    if at is None:
        return line
    for back in range(at - 1, -1, -1):
        part = line.parts[back]
        if isinstance(part, str) and "#" in part:
            before = part[: part.rindex("#")].rstrip(" ")
            kept = (*line.parts[:back], *((before,) if before else ()))
            return Line(kept) if kept else None
    raise TranslationError(f"a note outside of a comment: {line.plain!r}")


def emit(nodes: Iterable[Node], *, prose: bool = False) -> str:
    """The text of a Go template. Control words stand on lines of their own and take these lines away again."""
    return "".join(f"{line}\n" for line in _emit(nodes, prose=prose))


def _emit(nodes: Iterable[Node], *, prose: bool) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Line):
            yield "".join(_part(part, prose=prose) for part in node.parts)
            continue
        space = " " * indent_of(node)
        for branch in node.branches:
            yield f"{space}{{{{- {branch.head} }}}}"
            yield from _emit(branch.body, prose=prose)
        yield f"{space}{{{{- end }}}}"


def indent_of(node: Node) -> int:
    """Spaces before a line, or before the leftmost line of a block."""
    if isinstance(node, Line):
        return len(node.plain) - len(node.plain.lstrip(" "))
    return min((indent_of(child) for branch in node.branches for child in branch.body), default=0)


def _part(part: Part, *, prose: bool) -> str:
    if isinstance(part, str):
        return part.replace("{{", '{{ "{{" }}')
    match part.way:
        case "number":
            return f"{{{{ int64 {part.ref.go} }}}}"
        case "bytes":
            return f'{{{{ $.Files.Get "{part.ref.go}" | b64enc | quote }}}}'
        case "word":
            return f'{{{{ include "selfhost.q" ($.Files.Get "{part.ref.go}" | replace "$" "$$") }}}}'
        case "note":
            assert prose
            return f"{{{{ {part.ref.go} }}}}"
        case "text":
            return f'{{{{ include "selfhost.q" {part.ref.go} }}}}'
