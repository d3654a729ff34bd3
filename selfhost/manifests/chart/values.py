"""A view as the values file of the chart: what the templates print, under the view's own names, with its reasons."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfhost.manifests.chart.shapes import (
    Field,
    Group,
    Items,
    Pairs,
    Reasoned,
    Shape,
    Switch,
    Text,
    Whole,
    camel,
    shape_of,
)
from selfhost.manifests.environment import note, quote

# Words that YAML 1.1, which Helm reads, takes for something else than text.
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"))
_GONE = "not in this plan: the chart's own value goes away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A single value as YAML writes it, or None for null."""

    text: str | None
    block: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key, what stands there, and why."""

    key: str
    value: Tree
    because: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A map."""

    entries: tuple[Entry, ...]

    def get(self, key: str) -> Tree | None:
        """What stands under a key."""
        return next((one.value for one in self.entries if one.key == key), None)


@dataclass(frozen=True, slots=True)
class Row:
    """An item of a list, and why."""

    value: Tree
    because: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """A list."""

    rows: tuple[Row, ...]


Tree = Leaf | Table | Rows


def tree(view: Any, used: Collection[tuple[str, ...]]) -> Table:
    """The values that the templates use.

    Args:
        view: what the templates see.
        used: paths of the values that they print or look at.
    """
    prefixes = frozenset(path[:length] for path in used for length in range(1, len(path) + 1))
    return _Encoder(used=prefixes).group(view, shape_of(type(view)), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoder:
    used: frozenset[tuple[str, ...]]

    def group(self, value: object, shape: Group, path: tuple[str, ...]) -> Table:
        return Table(tuple(self.entries(value, shape, path)))

    def entries(self, value: object, shape: Group, path: tuple[str, ...]) -> Iterator[Entry]:
        made: list[Entry] = []
        for name, field in shape.fields.items():
            found, here = getattr(value, name), (*path, camel(name))
            if field.flat and isinstance(field.shape, Group):
                made += self.entries(found, field.shape, path)
            elif here in self.used:
                if found is not None:
                    because = _reason(found, field) or str(getattr(value, f"{name}_because", ""))
                    shown = self.value(found, field.shape, here)
                    made.append(Entry(key=here[-1], value=shown, because="" if _is_empty(shown) else because))
            elif _explains(name, shape) and made and not made[-1].because:
                made[-1] = replace(made[-1], because=str(found))
        return iter(made)

    def value(self, value: Any, shape: Shape, path: tuple[str, ...]) -> Tree:
        match shape:
            case Text():
                return _text(value)
            case Switch():
                return Leaf(text="true" if value else "false")
            case Whole():
                return Leaf(text=str(value))
            case Reasoned():
                return self.value(value.value, shape.value, path)
            case Pairs():
                return Table(tuple(Entry(key=str(quote(one.key)), value=_text(one.value)) for one in value))
            case Items():
                field, here = Field(shape=shape.item), (*path, "[]")
                return Rows(
                    tuple(Row(self.value(one, shape.item, here), _reason(one, field)) for one in value)
                )
            case Group():
                return self.group(value, shape, path)
            case _:
                raise TypeError(f"{'.'.join(path)} is printed, but its type is not known to charts")


def _explains(name: str, shape: Group) -> bool:
    """Whether a field is a reason without a value of its own name: that of the value before it."""
    return name.endswith("_because") and name.removesuffix("_because") not in shape.fields


def _is_empty(value: Tree) -> bool:
    return isinstance(value, Rows) and not value.rows


def _reason(value: object, field: Field) -> str:
    """What stands beside a value: its own reason, or that of the group."""
    if isinstance(field.shape, Reasoned) or (
        isinstance(field.shape, Group) and "because" in field.shape.fields
    ):
        return str(getattr(value, "because", "") or "")
    return ""


def _text(value: str) -> Leaf:
    lines = value.split("\n")
    if len(lines) > 2 and _stands_as_block(value, lines):
        return Leaf(
            text="|" if value.endswith("\n") else "|-", block=tuple(lines[: -1 if not lines[-1] else None])
        )
    return Leaf(text=_quoted(value))


def _stands_as_block(value: str, lines: Sequence[str]) -> bool:
    """Whether a text can be written line by line: nothing invisible, nothing that YAML would take away."""
    return (
        bool(lines[0])
        and not lines[0].startswith(" ")
        and not value.endswith("\n\n")
        and all(line.isprintable() and (not line or line.strip()) for line in lines)
    )


def _quoted(value: str) -> str:
    """Quoted as in the manifests, but letters of every script stand as themselves."""
    shown = (char if char.isprintable() and char not in '"\\' else str(quote(char))[1:-1] for char in value)
    return f'"{"".join(shown)}"'


def without(values: Table, names: Iterable[str]) -> Table:
    """Values without some of the outermost keys."""
    left_out = frozenset(names)
    return Table(tuple(one for one in values.entries if one.key not in left_out))


def over(values: Table, defaults: Table) -> Table:
    """Values that say null where the chart's defaults have a key and these have none: Helm merges maps."""
    entries: list[Entry] = []
    for one in values.entries:
        default = defaults.get(one.key)
        if isinstance(one.value, Table) and isinstance(default, Table):
            one = Entry(key=one.key, value=over(one.value, default), because=one.because)
        entries.append(one)
    here = {one.key for one in values.entries}
    entries += [
        Entry(key=one.key, value=Leaf(text="null"), because=_GONE)
        for one in defaults.entries
        if one.key not in here
    ]
    return Table(tuple(entries))


def to_yaml(values: Table) -> str:
    """The text of a values file."""
    return "".join(f"{line}\n" for line in _lines(values, ""))


def _lines(value: Table | Rows, space: str) -> Iterator[str]:
    if isinstance(value, Table):
        for one in value.entries:
            key = f'"{one.key}"' if one.key.lower() in _WORDS else one.key
            yield from _value(f"{space}{key}:", one.value, one.because, space + "  ")
        return
    for row in value.rows:
        if isinstance(row.value, Table) and row.value.entries:
            first, *rest = _lines(row.value, space + "  ")
            reason = _comment(row.because) if "#" not in first else ""
            yield f"{space}- {first.lstrip(' ')}{reason}"
            yield from rest
        else:
            yield from _value(f"{space}-", row.value, row.because, space + "  ")


def _value(head: str, value: Tree, because: str, space: str) -> Iterator[str]:
    reason = _comment(because)
    if isinstance(value, Leaf):
        yield f"{head} {value.text}{reason}"
        yield from (f"{space}{line}".rstrip(" ") if not line else f"{space}{line}" for line in value.block)
    elif (isinstance(value, Table) and value.entries) or (isinstance(value, Rows) and value.rows):
        yield f"{head}{reason}"
        yield from _lines(value, space)
    else:
        yield f"{head} {'{}' if isinstance(value, Table) else '[]'}{reason}"


def _comment(because: str) -> str:
    text = note(because)
    return f" # {text}" if text else ""
