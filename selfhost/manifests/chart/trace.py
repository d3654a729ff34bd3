"""Where in the objects each value of a chart ends up: what its schema asks of it, and what its description says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from selfhost.manifests.chart.lines import Line, Node, Print, Ref, indent_of

# `guard`: an `if` looks at it; `loop`: it is gone through; `sole`: always, and nothing stands beside its items.
Role = Literal["key", "value", "guard", "loop", "sole"]
_KEY = re.compile(
    r"""(?P<key>"[^"]*"|'[^']*'|\x00\d+\x00|[^\s:#"'\[\]{}-][^:#\x00]*?|-[^\s:][^:#]*?):(?:\s+(?P<rest>.*))?$"""
)
_MARK = re.compile(r"\x00(\d+)\x00")
_BLOCK = re.compile(r"[|>][-+]?\d?\s*(?:#.*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One place of a value.

    Args:
        object: kind of the object, empty where there is none.
        place: keys down to it, `[]` for an item of a list, `*` for a key that is a value itself.
        role: whether it is the key, the value, or how it decides what is written.
    """

    object: str
    place: tuple[str, ...]
    role: Role

    @property
    def where(self) -> str:
        """`Deployment spec.replicas`, for people."""
        return f"{self.object} {'.'.join(self.place).replace('.[]', '[]')}".strip()


@dataclass(slots=True)
class _Walk:
    object: str = ""
    stack: list[tuple[int, str]] = field(default_factory=list)
    literal: int | None = None  # indentation of the line that began a block of text
    found: list[tuple[tuple[str, ...], Use]] = field(default_factory=list)
    guards: list[Ref] = field(default_factory=list)  # what the conditions around look at

    def nodes(self, nodes: Sequence[Node]) -> None:
        for at, node in enumerate(nodes):
            if isinstance(node, Line):
                self.line(node)
                continue
            indent = indent_of(node)
            self._pop(indent, item=_begins_item(node))
            place = tuple(name for _, name in self.stack)
            around = len(self.guards)
            self.guards += [ref for branch in node.branches for ref in branch.refs]
            for branch in node.branches:
                for ref in branch.refs:
                    role: Role = "guard"
                    if branch.head.startswith("range"):
                        role = "sole" if _is_alone(nodes, at) and self._is_always(ref) else "loop"
                    self.use(ref, role, place)
                self.nodes(branch.body)
            del self.guards[around:]

    def _is_always(self, ref: Ref) -> bool:
        """Whether a loop is gone through wherever its value is there: no condition around looks at another value."""
        return all(ref.path[: len(one.path)] == one.path for one in self.guards)

    def use(self, ref: Ref, role: Role, place: tuple[str, ...]) -> None:
        self.found.append((ref.path, Use(object=self.object, place=place, role=role)))

    def line(self, line: Line) -> None:
        prints = [part for part in line.parts if isinstance(part, Print)]
        numbers = iter(range(len(prints)))
        text = "".join(part if isinstance(part, str) else f"\x00{next(numbers)}\x00" for part in line.parts)
        indent = len(text) - len(text.lstrip(" "))
        rest = text.strip(" ")
        if self.literal is not None and (not rest or indent > self.literal):
            return
        self.literal = None
        if not rest or rest.startswith("#"):
            return
        self._pop(indent, item=rest.startswith("- ") or rest == "-")
        while rest.startswith("- ") or rest == "-":
            self.stack.append((indent, "[]"))
            indent, rest = indent + 2, rest[2:]
        match = _KEY.match(rest)
        if match is None:
            self._values(rest, prints)
            return
        key = match["key"]
        marked = _MARK.fullmatch(key)
        self.stack.append((indent, "*" if marked else key.strip("\"'")))
        if marked:
            self.use(prints[int(marked[1])].ref, "key", tuple(name for _, name in self.stack))
        value = match["rest"] or ""
        self._values(value, prints)
        if _BLOCK.match(value):
            self.literal = indent

    def _values(self, text: str, prints: list[Print]) -> None:
        place = tuple(name for _, name in self.stack)
        if text.startswith("["):
            place = (*place, "[]")
        for number in _MARK.findall(text):
            self.use(prints[int(number)].ref, "value", place)

    def _pop(self, indent: int, *, item: bool) -> None:
        while self.stack:
            at, name = self.stack[-1]
            if at < indent or (item and at == indent and name != "[]"):
                return
            self.stack.pop()


def _begins_item(node: Node) -> bool:
    """Whether the first line of a block is an item of a list."""
    while not isinstance(node, Line):
        node = node.branches[0].body[0]
    return node.plain.lstrip(" ").startswith("-")


def _is_alone(nodes: Sequence[Node], at: int) -> bool:
    """Whether a loop's lines are all that stands below the key before it."""
    before = nodes[at - 1] if at else None
    after = nodes[at + 1] if at + 1 < len(nodes) else None
    if not isinstance(before, Line) or not before.plain.split(" #")[0].rstrip().endswith(":"):
        return False
    return after is None or indent_of(after) <= indent_of(before)


def trace(
    templates: Mapping[str, tuple[Node, ...]], *, prose: Mapping[str, tuple[Node, ...]]
) -> dict[tuple[str, ...], tuple[Use, ...]]:
    """Every value that the templates print or look at, with its places.

    Args:
        templates: name -> lines without notes, of objects.
        prose: the same of texts, in which a value has no place.

    Returns:
        Path in the values -> its places, in order and each once.
    """
    found: dict[tuple[str, ...], dict[Use, None]] = {}
    for nodes in templates.values():
        for path, use in _uses(nodes):
            found.setdefault(path, {})[use] = None
    for name, nodes in prose.items():
        for path, use in _uses(nodes):
            found.setdefault(path, {})[Use(object=name, place=(), role=use.role)] = None
    return {path: tuple(uses) for path, uses in found.items()}


def _uses(nodes: Iterable[Node]) -> Iterator[tuple[tuple[str, ...], Use]]:
    """Uses of one template; several objects in one are told apart by `---`."""
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if isinstance(node, Line) and node.plain.strip() == "---":
            parts.append([])
        else:
            parts[-1].append(node)
    for part in parts:
        walk = _Walk(object=next(_kinds(part), ""))
        walk.nodes(part)
        yield from walk.found


def _kinds(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Line):
            if node.plain.startswith("kind:"):
                yield node.plain.removeprefix("kind:").split("#")[0].strip()
        else:
            for branch in node.branches:
                yield from _kinds(branch.body)
