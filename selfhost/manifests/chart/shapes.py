"""Types of a view as what the values of a chart are made of: text, numbers, switches, maps, lists and groups."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

FLAT = "flat"  # Annotated[View, FLAT]: the group's fields stand where the group would

_SHAPES: dict[type[Any], Group] = {}


@dataclass(frozen=True, slots=True)
class ChartFile:
    """Annotated[str, ChartFile("files/x")]: a file of the chart, and no value at all.

    Args:
        path: in the chart.
        word: it is a word of a container's command, in which Kubernetes reads `$`; else its bytes in base64.
    """

    path: str
    word: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A string; `among` lists what it may be, nothing for any. `file` is that of a ChartFile."""

    among: tuple[str, ...] = ()
    file: ChartFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """True or false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoned:
    """A value with its reason (`value` and `because`): in the values the value alone, its reason as a comment."""

    value: Text | Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A tuple of keys and values (`key` and `value`, both text): a map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A tuple of anything else: a list."""

    item: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A dataclass: a map with these keys and no other."""

    kind: type[Any]
    fields: Mapping[str, Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """What templates never print: files, bytes."""

    kind: object


Shape = Text | Whole | Switch | Reasoned | Pairs | Items | Group | Opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a group.

    Args:
        shape: what it holds.
        optional: it may be None, which is left out of the values.
        flat: its own fields stand beside this one's neighbours.
    """

    shape: Shape
    optional: bool = False
    flat: bool = False


def shape_of(kind: type[Any]) -> Group:
    """The shape of a dataclass.

    Raises:
        TypeError: it is none.
    """
    if kind not in _SHAPES:
        if not dataclasses.is_dataclass(kind):
            raise TypeError(f"{kind!r} is no dataclass")
        hints = get_type_hints(kind, include_extras=True)
        fields = {one.name: _field(hints[one.name]) for one in dataclasses.fields(kind)}
        for name, member in vars(kind).items():  # what it works out itself is a value like the others
            if isinstance(member, property):
                fields[name] = _field(get_type_hints(member.fget, include_extras=True).get("return"))
        _SHAPES[kind] = Group(kind=kind, fields=fields)
    return _SHAPES[kind]


def _field(hint: Any) -> Field:
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        for mark in marks:
            if isinstance(mark, ChartFile):
                return Field(shape=Text(file=mark))
        found = _field(inner)
        return dataclasses.replace(found, flat=FLAT in marks)
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return Field(shape=_field(members[0]).shape, optional=True)
        return Field(shape=Opaque(kind=hint))
    return Field(shape=_shape(hint))


def _shape(hint: Any) -> Shape:
    if hint is bool:
        return Switch()
    if hint is int:
        return Whole()
    if hint is str:
        return Text()
    if get_origin(hint) is Literal and all(isinstance(one, str) for one in get_args(hint)):
        return Text(among=get_args(hint))
    if get_origin(hint) is tuple and len(get_args(hint)) == 2 and get_args(hint)[1] is Ellipsis:
        item = _field(get_args(hint)[0]).shape
        return Pairs() if _is_pair(item) else Items(item=item)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        group = shape_of(hint)
        value = group.fields.get("value")
        if set(group.fields) == {"value", "because"} and value and isinstance(value.shape, Text | Whole):
            return Reasoned(value=value.shape)
        return group
    return Opaque(kind=hint)


def _is_pair(shape: Shape) -> bool:
    return (
        isinstance(shape, Group)
        and set(shape.fields) == {"key", "value"}
        and all(field == Field(shape=Text()) for field in shape.fields.values())
    )


def camel(name: str) -> str:
    """`max_surge` as values spell it: `maxSurge`. A trailing underscore, which Python needs, goes away."""
    first, *rest = name.strip("_").split("_")
    return first + "".join(word.capitalize() for word in rest)
