"""The list of checks, worst first: what each says, and what to do about it."""

from __future__ import annotations

from selfhost.health.types import LEVELS
from selfhost.live import words
from selfhost.live.glyphs import Glyphs
from selfhost.live.layout import DIM, LEVEL_STYLES, Cell, Column, Row
from selfhost.live.panels.gpus import Made
from selfhost.live.seen import Seen

COLUMNS = (
    Column(head="  level", width=10),
    Column(head="check", width=20, rank=2, grow=True, most=26),
    Column(head="gpu", width=3, rank=1, right=True),
    Column(head="what it says", width=50, grow=True, most=1000),
    Column(head="what to do", width=22, rank=3),
)


def rows(seen: Seen, glyphs: Glyphs) -> Made:
    """Rows of every check, in the order that health gave them: worst first."""
    made: Made = []
    for place, check in enumerate(seen.health.checks if seen.health else ()):
        action = words.ACTIONS[check.action]
        row = Row(
            key=f"check/{check.code}/{check.gpu}/{place}",
            cells=(
                Cell(
                    text=f"{glyphs.level(check.level)} {words.LEVEL_WORDS[check.level]}",
                    style=LEVEL_STYLES[check.level],
                ),
                Cell(text=check.code),
                Cell(text="" if check.gpu is None else str(check.gpu)),
                Cell(text=check.message, style=DIM if check.level in ("ok", "skipped") else ""),
                Cell(text=action, style="bold" if action else ""),
            ),
            searched=check.evidence,
        )
        values = (
            -LEVELS.index(check.level),
            check.code,
            None if check.gpu is None else -check.gpu,
            check.message,
            action or None,
        )
        made.append((values, [row]))
    return made
