"""Frozen dataclasses <-> JSON, strictly: an unknown or missing field and another type are refused by name.

A field that came later (`metadata={"later": True}`, with a default) may be missing, so that older files are still read.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache

from selfhost.errors import SelfhostError

_LARGEST_INT = 1 << 62

Refuse = Callable[[str], SelfhostError]


def encode(value: object) -> object:
    """A dataclass as plain objects and lists, ready for `json.dumps`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def parse(text: str, refuse: Refuse) -> dict[str, object]:
    """JSON text as an object without keys that stand twice, NaN or endless nesting.

    Args:
        text: the file's text.
        refuse: makes the error from a sentence's end, such as `is not JSON`.
    """
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = (
            "nests too deep" if isinstance(error, RecursionError) else str(error).partition(": value has")[0]
        )
        raise refuse(f"is not JSON: {reason}") from None
    if not isinstance(data, dict):
        raise refuse("is not a JSON object")
    return data


def decode(kind: object, data: object, path: str, refuse: Refuse) -> object:
    """Plain data as a value of a dataclass, or of what its fields are made of.

    Args:
        kind: the type: a dataclass, tuple[X, ...], Literal, X | None, str, int, float or bool.
        data: what JSON gave.
        path: dotted name of the value, for the error.
        refuse: makes the error from a sentence without its full stop.

    Raises:
        SelfhostError: what `refuse` made.
    """
    try:
        return _quick(kind)(data)
    except (_MisfitError, SelfhostError, RecursionError):
        # Again with a path, for the error; a fleet of nodes and a long recording are read without one.
        return _decode(kind, data, path, refuse)


def _decode(kind: object, data: object, path: str, refuse: Refuse) -> object:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        if data is None and type(None) in typing.get_args(kind):
            return None
        return _decode(_fitting(options, data), data, path, refuse)
    if origin is typing.Literal:
        allowed = typing.get_args(kind)
        if not isinstance(data, str) or data not in allowed:
            raise _wrong(path, f"one of {', '.join(map(repr, allowed))}", data, refuse)
        return data
    if origin is tuple:
        if not isinstance(data, list):
            raise _wrong(path, "a list", data, refuse)
        item = typing.get_args(kind)[0]
        return tuple(_decode(item, value, f"{path}[{number}]", refuse) for number, value in enumerate(data))
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_object(kind, data, path, refuse)
    return _decode_scalar(kind, data, path, refuse)


class _MisfitError(Exception):
    """Data that does not fit; which and where is for `_decode` to say."""


@cache
def _quick(kind: object) -> Callable[[object], object]:
    """What reads one type, made once: the rules of `_decode`, which says what is wrong where this one gives up."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _quick_union(typing.get_args(kind))
    if origin is typing.Literal:
        allowed = frozenset(typing.get_args(kind))
        return lambda data: data if isinstance(data, str) and data in allowed else _misfit()
    if origin is tuple:
        item = _quick(typing.get_args(kind)[0])
        return lambda data: tuple(map(item, data)) if isinstance(data, list) else _misfit()
    if isinstance(kind, type) and is_dataclass(kind):
        return _quick_object(kind)
    return lambda data: _decode_scalar(kind, data, "", _misfit)


def _quick_union(options: tuple[object, ...]) -> Callable[[object], object]:
    nullable = type(None) in options
    rest = [option for option in options if option is not type(None)]
    only = _quick(rest[0]) if len(rest) == 1 else None

    def read(data: object) -> object:
        if data is None and nullable:
            return None
        return only(data) if only is not None else _quick(_fitting(rest, data))(data)

    return read


def _quick_object(kind: type) -> Callable[[object], object]:
    hints = _hints(kind)
    readers = {field.name: _quick(hints[field.name]) for field in fields(kind)}
    needed = {field.name for field in fields(kind) if not field.metadata.get("later")}

    def read(data: object) -> object:
        if not isinstance(data, dict) or not needed <= data.keys() <= readers.keys():
            return _misfit()
        return kind(**{name: readers[name](value) for name, value in data.items()})

    return read


def _misfit(_sentence: str = "") -> typing.NoReturn:
    raise _MisfitError


def _fitting(options: list[object], data: object) -> object:
    """The member of a union to read: the dataclass whose fields the object has, else the first that is not such."""
    if isinstance(data, dict):
        for option in options:
            if (
                isinstance(option, type)
                and is_dataclass(option)
                and set(data) <= {f.name for f in fields(option)}
            ):
                return option
    plain = [option for option in options if not (isinstance(option, type) and is_dataclass(option))]
    return (plain or options)[0]


def _decode_scalar(kind: object, data: object, path: str, refuse: Refuse) -> object:
    if kind is bool:
        if isinstance(data, bool):
            return data
        raise _wrong(path, "true or false", data, refuse)
    if kind is int:
        if isinstance(data, int) and not isinstance(data, bool) and abs(data) <= _LARGEST_INT:
            return data
        raise _wrong(path, "a whole number", data, refuse)
    if kind is float:
        if isinstance(data, (int, float)) and not isinstance(data, bool) and abs(data) <= _LARGEST_INT:
            return float(data)
        raise _wrong(path, "a number", data, refuse)
    if isinstance(data, str) and _is_text(data):
        return data
    raise _wrong(path, "text", data, refuse)


def _decode_object(kind: type, data: object, path: str, refuse: Refuse) -> object:
    if not isinstance(data, dict):
        raise _wrong(path, "an object", data, refuse)
    hints = _hints(kind)
    own = {field.name: field for field in fields(kind)}
    unknown = sorted(set(data) - set(own))
    if unknown:
        raise refuse(f"{path}.{unknown[0][:80]} is not a field of a {path.partition('.')[0]}")
    for name, field in own.items():
        if name not in data and not field.metadata.get("later"):
            raise refuse(f"{path}.{name} is missing")
    values = {
        name: _decode(hints[name], data[name], f"{path}.{name}", refuse) for name in own if name in data
    }
    try:
        return kind(**values)
    except SelfhostError as error:
        against = refuse(f"{path}: {error.message.rstrip('.')}")
        against.hint = error.hint
        raise against from None


@cache
def _hints(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice in one object")
        found[key] = value
    return found


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in value


def _wrong(path: str, wanted: str, data: object, refuse: Refuse) -> SelfhostError:
    shown = json.dumps(data, default=str)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return refuse(f"{path} must be {wanted}, not {shown}")
