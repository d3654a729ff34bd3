"""Safe fixes: write the edits of findings, read the result again, and go on until nothing more can be mended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from selfhost.lint.edits import apply_edits
from selfhost.lint.files import Text
from selfhost.lint.read import read
from selfhost.lint.run import Report, lint
from selfhost.lint.types import Edit, Settings

_ROUNDS = 5  # an edit that makes way for another; two are usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """Texts after their safe fixes.

    Args:
        texts: all of them, changed or not.
        fixed: findings that are gone.
        report: what is left.
    """

    texts: tuple[Text, ...]
    fixed: int
    report: Report


def mend(
    texts: Iterable[Text],
    settings: Settings | None = None,
    *,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
) -> Mended:
    """Write every safe fix into the texts (not into files).

    A text in which the edits leave other documents than before, or broken ones, stays as it is.
    """
    now = tuple(texts)
    report = lint(now, settings, select=select, ignore=ignore)
    before = len(report.findings)
    for _ in range(_ROUNDS):
        edits: dict[str, list[Edit]] = {}
        for finding in report.findings:
            edits.setdefault(finding.where.file, []).extend(finding.edits)
        after = tuple(_edited(text, edits.get(text.name, [])) for text in now)
        if after == now:
            break
        later = lint(after, settings, select=select, ignore=ignore)
        if len(later.findings) >= len(report.findings):
            break  # not for the better
        now, report = after, later
    return Mended(texts=now, fixed=before - len(report.findings), report=report)


def _edited(text: Text, edits: list[Edit]) -> Text:
    if not edits:
        return text
    content, written = apply_edits(text.content, edits)
    if not written:
        return text
    old, broken = read(text.name, text.content)
    new, worse = read(text.name, content)
    if len(new) != len(old) or len(worse) > len(broken):
        return text
    return replace(text, content=content)
