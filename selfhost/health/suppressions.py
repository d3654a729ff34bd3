"""Findings that somebody asked not to be told of for a while: a code, until when, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from selfhost.health.types import Check
from selfhost.observation import NodeSnapshot


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
        message=f"suppressed until {row.until_text} ({row.reason}): {check.message}",
        evidence=f"would be {check.level}; {check.evidence}" if check.evidence else f"would be {check.level}",
        wants_history=False,
    )
