"""Findings that somebody asked not to be told of for a while: a code, until when, and why.

A file of rows, in TOML (`[[suppress]]`) or in JSON (`{"suppress": [...]}`):

    [[suppress]]
    code = "persistence"
    gpu = "GPU-3f1c..."     # or an index; left out, it stands for every GPU and the node
    until = 2026-12-31      # a day in UTC, or a date and time with its zone
    reason = "the daemon comes with the next image"
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from selfhost.errors import SelfhostError
from selfhost.health.types import Check
from selfhost.observation import NodeSnapshot

_FIELDS = ("code", "gpu", "until", "reason")
_LARGEST_BYTES = 1 << 20


class SuppressionError(SelfhostError):
    """A file of suppressions that cannot be read, or a row in it without a code, an end or a reason."""


_SUPPRESSED = "suppressed until "


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One row.

    Args:
        code: of the check.
        gpu: UUID or index, None for every GPU and the node.
        until: Unix time from which it does not stand any more.
        until_text: the same as the file has it.
        reason: why.
    """

    code: str
    gpu: str | None = None
    until: float
    until_text: str
    reason: str


def default_path() -> Path:
    """Where suppressions are looked for: $XDG_CONFIG_HOME/selfhost/suppressions.toml."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "selfhost" / "suppressions.toml"


def read_suppressions(path: Path) -> tuple[Suppression, ...]:
    """Read a file of suppressions.

    Raises:
        SuppressionError: the file cannot be read, is neither TOML nor JSON, or has a row that is not complete.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise _refusal(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST_BYTES:
        raise _refusal(f"{path} is larger than 1 MiB")
    try:
        text = data.decode("utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both decoders' errors, and of the encoding
        raise _refusal(f"{path} is not {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from None
    if not isinstance(document, dict) or set(document) - {"suppress"}:
        raise _refusal(f"{path} may hold rows of `suppress` and nothing else")
    rows = document.get("suppress", [])
    if not isinstance(rows, list):
        raise _refusal(f"{path}: `suppress` is not a list of rows")
    return tuple(_row(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1))


def _row(row: object, where: str) -> Suppression:
    if not isinstance(row, dict):
        raise _refusal(f"{where} is not a table")
    unknown = sorted(set(row) - set(_FIELDS))
    if unknown:
        raise _refusal(f"{where}: {unknown[0]!r} is not one of {', '.join(_FIELDS)}")
    for name in ("code", "reason"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise _refusal(f"{where} has no {name}")
    gpu = row.get("gpu")
    if gpu is not None and (isinstance(gpu, bool) or not isinstance(gpu, int | str)):
        raise _refusal(f"{where}: gpu is neither an index nor a UUID")
    if "until" not in row:
        raise _refusal(f"{where} has no until: a suppression ends some day")
    until = _moment(row["until"], where)
    return Suppression(
        code=row["code"].strip(),
        gpu=None if gpu is None else str(gpu),
        until=until.timestamp(),
        until_text=str(row["until"]),
        reason=" ".join(row["reason"].split()),
    )


def _moment(value: object, where: str) -> datetime:
    """When a suppression ends. A day counts whole; without a zone it is UTC."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value) if len(value) > 10 else date.fromisoformat(value)
        if isinstance(value, datetime):
            return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime.combine(value, time(), tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        pass
    raise _refusal(f"{where}: until is not a date (2026-12-31) or a time (2026-12-31T08:00:00Z)")


def _refusal(sentence: str) -> SuppressionError:
    return SuppressionError(
        f"{sentence}.",
        hint='A row reads: [[suppress]] code = "persistence", until = 2026-12-31, reason = "…".',
    )


def expired(suppressions: tuple[Suppression, ...], *, now: float) -> list[Check]:
    """A check for the suppressions that have ended: what they covered is told of again."""
    over = [row for row in suppressions if row.until <= now]
    if not over:
        return []
    shown = "; ".join(f"{row.code} until {row.until_text} ({row.reason})" for row in over[:5])
    return [
        Check(
            code="suppressions",
            level="ok",
            message=f"{len(over)} suppressions have ended and do nothing: take them out of the file",
            evidence=shown,
            source="the file of suppressions",
        )
    ]


def unmatched(suppressions: tuple[Suppression, ...], checks: Iterable[Check]) -> list[Check]:
    """A warning for rows whose code no check has: they silence nothing, whatever they were meant for."""
    codes = {
        check.code for check in checks
    }  # every check says something on every node, if only that it is skipped
    wrong = sorted({row.code for row in suppressions} - codes)
    if not wrong:
        return []
    return [
        Check(
            code="suppressions",
            level="warn",
            message=f"no check is called {', '.join(wrong[:5])}: these suppressions silence nothing",
            evidence="selfhost health -v names every check",
            action="fix_configuration",
            source="the file of suppressions",
        )
    ]


def is_suppressed(check: Check) -> bool:
    """Whether it is a finding that a suppression silenced."""
    return check.level == "skipped" and check.message.startswith(_SUPPRESSED)


def apply(
    suppressions: tuple[Suppression, ...], checks: Iterable[Check], node: NodeSnapshot, *, now: float
) -> list[Check]:
    """Findings with those that a suppression covers made `skipped`; the finding stays in the evidence."""
    uuids = {gpu.identity.index: gpu.identity.uuid for gpu in node.gpus}
    standing = [row for row in suppressions if row.until > now]
    found = []
    for check in checks:
        row = next((row for row in standing if _covers(row, check, uuids)), None)
        found.append(_suppressed(check, row) if row and check.level not in ("ok", "skipped") else check)
    return found


def _covers(row: Suppression, check: Check, uuids: dict[int, str]) -> bool:
    if row.code != check.code:
        return False
    if row.gpu is None:
        return True
    return check.gpu is not None and row.gpu in (str(check.gpu), uuids.get(check.gpu))


def _suppressed(check: Check, row: Suppression) -> Check:
    return replace(
        check,
        level="skipped",
        action="none",
        message=f"{_SUPPRESSED}{row.until_text} ({row.reason}): {check.message}",
        evidence=f"would be {check.level}; {check.evidence}" if check.evidence else f"would be {check.level}",
        wants_history=False,
    )
