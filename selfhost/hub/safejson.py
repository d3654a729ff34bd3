"""JSON from strangers: bounded in size, depth and digits, so that a hostile file is an error and never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator

from selfhost.errors import MalformedAnswerError

MAXIMUM_BYTES = 32 << 20  # the longest published configuration, of a per-expert mixed precision, has 3 MB
MAXIMUM_DEPTH = 64
MAXIMUM_DIGITS = 100  # 10^30 is read, so that the field it stands in can be named; a digit bomb is not


def parse_object(
    data: bytes,
    *,
    where: str,
    maximum_bytes: int = MAXIMUM_BYTES,
    strict_keys: bool = False,
) -> dict[str, object]:
    """Read one JSON object.

    `Infinity` is read, because Python writes it and published configurations have it (Nemotron-H's
    `time_step_limit`); `NaN` is not.

    Args:
        data: the whole file.
        where: what it is, for the error.
        maximum_bytes: longest accepted file.
        strict_keys: refuse every repeated key; otherwise only one that says something else the second time.

    Raises:
        MalformedAnswerError: not JSON, not UTF-8, not an object, too long, too deep, or ambiguous.
    """
    value = parse(data, where=where, maximum_bytes=maximum_bytes, strict_keys=strict_keys)
    if not isinstance(value, dict):
        raise MalformedAnswerError(f"{where} is not a JSON object.", hint=_HINT)
    return value


def parse(data: bytes, *, where: str, maximum_bytes: int, strict_keys: bool) -> object:
    """Read one JSON value; see `parse_object`."""
    if len(data) > maximum_bytes:
        raise MalformedAnswerError(
            f"{where} has {len(data):,} bytes, more than the {maximum_bytes:,} that selfhost reads.",
            hint=_HINT,
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedAnswerError(
            f"{where} is not UTF-8 text (byte {error.start:,}).", hint=_HINT
        ) from error
    if not text.strip():
        raise MalformedAnswerError(f"{where} is empty.", hint=_HINT)
    try:
        value: object = json.loads(
            text,
            parse_int=_whole,
            parse_constant=_constant,
            object_pairs_hook=_strict_pairs if strict_keys else _pairs,
        )
    except RecursionError as error:
        raise MalformedAnswerError(f"{where} nests too deeply.", hint=_HINT) from error
    except ValueError as error:
        raise MalformedAnswerError(f"{where} is not valid JSON: {_reason(error)}.", hint=_HINT) from error
    _check(value, where)
    return value


_HINT = "the file is damaged or not what its name says; fetch it again or name another revision."


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
    return str(error)


def _whole(digits: str) -> int:
    if len(digits) > MAXIMUM_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is not a number")
    return float(name)


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        for key, item in pairs:
            if value[key] != item or type(value[key]) is not type(item):
                raise ValueError(f"{key[:80]!r} stands twice with different values")
    return value


def _strict_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"{key[:80]!r} stands twice")
            seen.add(key)
    return value


def _check(value: object, where: str) -> None:
    """Bound the depth, and refuse text that cannot be written out again."""
    stack: list[Iterator[object]] = [iter((value,))]
    while stack:
        item = next(stack[-1], _END)
        if item is _END:
            stack.pop()
            continue
        if isinstance(item, str):
            _check_text(item, where)
        elif isinstance(item, dict):
            for key in item:
                _check_text(key, where)
            stack.append(iter(item.values()))
        elif isinstance(item, list):
            stack.append(iter(item))
        if len(stack) > MAXIMUM_DEPTH + 1:
            raise MalformedAnswerError(f"{where} nests deeper than {MAXIMUM_DEPTH} levels.", hint=_HINT)


def _check_text(text: str, where: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise MalformedAnswerError(
                f"{where} holds half a character (a lone surrogate).", hint=_HINT
            ) from error


_END = object()
