"""JSON of an API server, read without trust: what is not of the expected kind counts as absent."""

from __future__ import annotations

import json
from typing import Any

# Ours: a sentence that is longer than this is none.
_LONGEST_TEXT = 1000


def printable(text: str) -> str:
    """A text without anything that moves a cursor, and not endless."""
    if text.isprintable() and len(text) <= _LONGEST_TEXT:
        return text
    return "".join(one if one.isprintable() else "?" for one in text[:_LONGEST_TEXT])


def json_object(body: bytes) -> dict[str, Any]:
    """JSON as an object, an empty one for anything else."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def part(item: dict[str, Any], name: str) -> dict[str, Any]:
    """An object's member that is an object, an empty one for anything else."""
    found = item.get(name)
    return found if isinstance(found, dict) else {}


def text(item: dict[str, Any], name: str) -> str:
    """An object's member that is text, "" for anything else."""
    value = item.get(name)
    return printable(value) if isinstance(value, str) else ""


def parts(item: dict[str, Any], name: str) -> tuple[dict[str, Any], ...]:
    """An object's member that is a list of objects, an empty one for anything else."""
    found = item.get(name)
    return tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()


def texts(item: dict[str, Any], name: str) -> dict[str, str]:
    """An object's member that maps names to texts, as labels and annotations do; values as they are."""
    return {key: value for key, value in part(item, name).items() if isinstance(value, str)}


def whole(item: dict[str, Any], name: str) -> int | None:
    """An object's member that is a whole number, None for anything else."""
    value = item.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
