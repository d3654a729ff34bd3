"""What a YAML document becomes: plain mappings, lists and scalars that remember where each stood.

A rule reads `document.map("spec").seq("containers")` without asking first whether they are there: what is missing or of
another kind is empty, so a rule is total over whatever people write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias, Union

Value: TypeAlias = Union[str, int, float, bool, "Map", "Seq", None]


class Span(NamedTuple):
    """A piece of the original text: lines from 1, columns from 0, the end just past its last character."""

    line: int
    column: int
    end_line: int
    end_column: int


NOWHERE = Span(1, 0, 1, 0)


def text_of(value: Value) -> str | None:
    """A scalar as Kubernetes would read it as a string; None for null, a mapping or a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


def number_of(value: Value) -> int | None:
    """A whole number, also one written as a string; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) < 19 and value.strip().lstrip("-").isdecimal():
        try:
            return int(value)
        except ValueError:  # "--5", or digits of another script
            return None
    return None


class Map(dict[str, Value]):
    """A mapping. `keys_at` and `values_at` say where each key and value stand (an alias: its anchor)."""

    __slots__ = ("flow", "keys_at", "span", "values_at")

    def __init__(self) -> None:
        super().__init__()
        self.span: Span = NOWHERE
        self.flow = False
        self.keys_at: dict[str, Span] = {}
        self.values_at: dict[str, Span] = {}

    def map(self, key: str) -> Map:
        """The mapping under `key`, an empty one where there is none."""
        value = self.get(key)
        return value if isinstance(value, Map) else _empty_map(self.line(key))

    def seq(self, key: str) -> Seq:
        """The list under `key`, an empty one where there is none."""
        value = self.get(key)
        return value if isinstance(value, Seq) else _empty_seq(self.line(key))

    def text(self, key: str) -> str | None:
        """The scalar under `key` as text; None where it is missing, null, a mapping or a list."""
        return text_of(self.get(key))

    def number(self, key: str) -> int | None:
        """The whole number under `key`, None where there is none."""
        return number_of(self.get(key))

    def line(self, key: str | None = None) -> int:
        """Line of `key`, or of the mapping itself where it has no such key."""
        found = self.keys_at.get(key) if key is not None else None
        return (found or self.span).line

    def at(self, *path: str) -> Map:
        """The mapping at the end of a path of keys, an empty one where it stops before."""
        here = self
        for key in path:
            here = here.map(key)
        return here


class Seq(list[Value]):
    """A list. `spans[i]` says where item i stands."""

    __slots__ = ("flow", "span", "spans")

    def __init__(self) -> None:
        super().__init__()
        self.span: Span = NOWHERE
        self.flow = False
        self.spans: list[Span] = []

    def maps(self) -> Iterator[tuple[int, Map]]:
        """Index and mapping of the items that are mappings."""
        for index, item in enumerate(self):
            if isinstance(item, Map):
                yield index, item

    def line(self, index: int | None = None) -> int:
        """Line of item `index`, or of the list itself."""
        if index is not None and 0 <= index < len(self.spans):
            return self.spans[index].line
        return self.span.line


def _empty_map(line: int) -> Map:
    empty = Map()
    empty.span = Span(line, 0, line, 0)
    return empty


def _empty_seq(line: int) -> Seq:
    empty = Seq()
    empty.span = Span(line, 0, line, 0)
    return empty
