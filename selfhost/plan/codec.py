"""Plan <-> plan.json, strictly: an unknown or missing field, another type or another version is refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from selfhost import strict
from selfhost.errors import OutputError, PlanFormatError
from selfhost.plan.check import check
from selfhost.plan.types import SCHEMA, Plan

_LARGEST_FILE_BYTES = 4 << 20
_ASKED_FOR = ("estimate", "cost")
_HINT = "Write it again with `selfhost plan`."


def to_json(plan: Plan, *, indent: int | None = 2) -> str:
    """The text of plan.json, ending in a newline. Equal plans give equal text.

    Speed and cost are left out where nobody asked for them: the text of such a plan, which a cluster keeps, stays what
    it was before they existed.
    """
    encoded = strict.encode(plan)
    assert isinstance(encoded, dict)
    kept = {name: value for name, value in encoded.items() if value is not None or name not in _ASKED_FOR}
    return json.dumps(kept, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Plan:
    """Read plan.json.

    Raises:
        PlanFormatError: names the field that is wrong.
    """
    data = strict.parse(text, lambda end: _refuse(f"The plan {end}"))
    schema = data.get("schema")
    if schema != SCHEMA:
        found = repr(schema)[:80] if "schema" in data else "no schema"
        raise PlanFormatError(f"The plan has {found}, this selfhost reads {SCHEMA!r}.", hint=_HINT)
    plan = strict.decode(Plan, data, "plan", _refuse)
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
        raise PlanFormatError(f"Cannot read {path}: {error.strerror or error}.", hint=_HINT) from None
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


def _refuse(sentence: str) -> PlanFormatError:
    return PlanFormatError(f"{sentence}.", hint=_HINT)
