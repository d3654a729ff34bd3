"""Plan <-> plan.json, strictly: an unknown or missing field, another type or another version is refused by name."""

from __future__ import annotations

import json
import sys
import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

from selfhost.errors import OutputError, PlanFormatError, SelfhostError
from selfhost.plan.check import check
from selfhost.plan.types import SCHEMA, Plan

_LARGEST_FILE_BYTES = 4 << 20
_LARGEST_INT = 1 << 62
_HINT = "Write it again with `selfhost plan`."


def to_json(plan: Plan, *, indent: int | None = 2) -> str:
    """The text of plan.json, ending in a newline. Equal plans give equal text."""
    return json.dumps(_encode(plan), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Plan:
    """Read plan.json.

    Raises:
        PlanFormatError: names the field that is wrong.
    """
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "nests too deep" if isinstance(error, RecursionError) else str(error)
        raise PlanFormatError(f"The plan is not JSON: {reason}.", hint=_HINT) from None
    if not isinstance(data, dict):
        raise PlanFormatError("A plan is a JSON object.", hint=_HINT)
    schema = data.get("schema")
    if schema != SCHEMA:
        found = repr(schema)[:80] if "schema" in data else "no schema"
        raise PlanFormatError(f"The plan has {found}, this selfhost reads {SCHEMA!r}.", hint=_HINT)
    plan = _decode(Plan, data, "plan")
    assert isinstance(plan, Plan)
    check(plan)
    return plan


def read_plan(path: Path) -> Plan:
    """Read a plan file; `-` is standard input.

    Raises:
        PlanFormatError: it cannot be read, or it is not a plan.
    """
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(_LARGEST_FILE_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(_LARGEST_FILE_BYTES + 1)
        text = data.decode("utf-8-sig")  # some editors put a mark before the text
    except OSError as error:
        raise PlanFormatError(f"Cannot read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise PlanFormatError(f"{path} is not UTF-8 text.", hint=_HINT) from None
    if len(data) > _LARGEST_FILE_BYTES:
        raise PlanFormatError(f"{path} is larger than any plan.", hint=_HINT)
    return from_json(text)


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan file in one step: a reader sees the old one or the new one.

    A link is followed, and what is no file (a pipe, /dev/stdout) is written to, not replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    from tempfile import NamedTemporaryFile

    text, shown = to_json(plan), path
    temporary: Path | None = None
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".plan-", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise OutputError(f"Cannot write {shown}: {error.strerror or error}.") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice in one object")
        found[key] = value
    return found


def _encode(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


@cache
def _hints(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _decode(kind: object, data: object, path: str) -> object:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        if data is None and type(None) in typing.get_args(kind):
            return None
        return _decode(options[0], data, path)
    if origin is typing.Literal:
        allowed = typing.get_args(kind)
        if not isinstance(data, str) or data not in allowed:
            raise _wrong(path, f"one of {', '.join(map(repr, allowed))}", data)
        return data
    if origin is tuple:
        if not isinstance(data, list):
            raise _wrong(path, "a list", data)
        item = typing.get_args(kind)[0]
        return tuple(_decode(item, value, f"{path}[{number}]") for number, value in enumerate(data))
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_object(kind, data, path)
    return _decode_scalar(kind, data, path)


def _decode_scalar(kind: object, data: object, path: str) -> object:
    if kind is bool:
        if isinstance(data, bool):
            return data
        raise _wrong(path, "true or false", data)
    if kind is int:
        if isinstance(data, int) and not isinstance(data, bool) and abs(data) <= _LARGEST_INT:
            return data
        raise _wrong(path, "a whole number", data)
    if kind is float:
        if isinstance(data, (int, float)) and not isinstance(data, bool) and abs(data) <= _LARGEST_INT:
            return float(data)
        raise _wrong(path, "a number", data)
    if isinstance(data, str) and _is_text(data):
        return data
    raise _wrong(path, "text", data)


def _decode_object(kind: type, data: object, path: str) -> object:
    if not isinstance(data, dict):
        raise _wrong(path, "an object", data)
    hints = _hints(kind)
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(data) - set(names))
    if unknown:
        raise PlanFormatError(f"{path}.{unknown[0][:80]} is not a field of a plan.", hint=_HINT)
    missing = [name for name in names if name not in data]
    if missing:
        raise PlanFormatError(f"{path}.{missing[0]} is missing.", hint=_HINT)
    values = {name: _decode(hints[name], data[name], f"{path}.{name}") for name in names}
    try:
        return kind(**values)
    except SelfhostError as error:
        raise PlanFormatError(f"{path}: {error.message}", hint=error.hint) from None


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in value


def _wrong(path: str, wanted: str, data: object) -> PlanFormatError:
    shown = json.dumps(data, default=str)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return PlanFormatError(f"{path} must be {wanted}, not {shown}.", hint=_HINT)
