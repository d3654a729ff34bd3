"""What `selfhost advise --json` printed -> the part of a report that rests on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selfhost.errors import UsageError
from selfhost.report.types import Advised

SCHEMA = "selfhost/advice/v1"
PATHS = ("open-private", "open-cloud", "closed-private", "closed-cloud", "hybrid", "hosted-open")
_LARGEST_BYTES = 1 << 20
_HINT = "Write it again with `selfhost advise --answers FILE --json > advice.json`."


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceFile:
    """The advice, the pitfalls it warns of, and what it asks back."""

    advised: Advised
    warnings: tuple[str, ...]
    questions: tuple[str, ...]


def read_advice(path: Path) -> AdviceFile:
    """Read the JSON of `selfhost advise`; `-` is standard input.

    Raises:
        UsageError: it cannot be read or is no such advice.
    """
    try:
        data = sys.stdin.buffer.read(_LARGEST_BYTES + 1) if str(path) == "-" else _bytes(path)
        found = json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.", hint=_HINT) from None
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise UsageError(f"{path} is not JSON.", hint=_HINT) from None
    if len(data) > _LARGEST_BYTES:
        raise UsageError(f"{path} is larger than any advice.", hint=_HINT)
    return parse_advice(found)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_BYTES + 1)


def parse_advice(found: object) -> AdviceFile:
    """Take what a report needs of an advice.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(found, Mapping) or found.get("schema") != SCHEMA:
        raise UsageError(f"This is not an advice of the schema {SCHEMA!r}.", hint=_HINT)
    path = found.get("path")
    if path not in PATHS:
        raise UsageError(f"The advice names no known path: {str(path)[:60]!r}.", hint=_HINT)
    alternatives = [
        one.get("path") if isinstance(one, Mapping) else one for one in _list(found, "alternatives")
    ]
    return AdviceFile(
        advised=Advised(
            path=str(path),
            reasons=_texts(found, "reasons", "because"),
            alternatives=tuple(str(one) for one in alternatives if one in PATHS),
        ),
        warnings=_texts(found, "warnings", "because"),
        questions=(*_texts(found, "questions", "ask"), *_texts(found, "contradictions", "because")),
    )


def _list(found: Mapping[str, object], name: str) -> list[object]:
    value = found.get(name, [])
    if not isinstance(value, list):
        raise UsageError(f"{name} of the advice is not a list.", hint=_HINT)
    return value


def _texts(found: Mapping[str, object], name: str, key: str) -> tuple[str, ...]:
    texts = (one.get(key) if isinstance(one, Mapping) else one for one in _list(found, name))
    return tuple(text for text in texts if isinstance(text, str) and text.strip())
