"""Symbols of the view in two sets: Unicode, and ASCII for consoles that cannot show it. Colour is never needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfhost.health.types import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """One set of symbols.

    Args:
        spark: steps of a small history, lowest first.
        full, empty: cells of a bar.
        missing: what stands for a reading that is not there.
        cut: end of a text that was too long.
    """

    ok: str
    warn: str
    critical: str
    unknown: str
    skipped: str
    spark: str
    full: str
    empty: str
    missing: str
    cut: str
    rule: str
    pointer: str
    branch: str
    inward: str
    outward: str
    degree: str
    dot: str
    arrow: str
    ascii_only: bool = False

    def level(self, level: Level) -> str:
        """Symbol of a level; it differs in shape, so that colour only repeats it."""
        return {
            "ok": self.ok, "warn": self.warn, "critical": self.critical, "unknown": self.unknown,
            "skipped": self.skipped,
        }[level]  # fmt: skip

    def plain(self, text: str) -> str:
        """Text that can be drawn: nothing in it moves the cursor, and ASCII stays ASCII.

        Names come from processes, pods and engines: they may hold anything.
        """
        if self.ascii_only:
            text = text.translate(_TO_ASCII)
            return "".join(char if " " <= char <= "~" else "?" for char in text)
        return "".join(char if char.isprintable() else "�" for char in text)


UNICODE = Glyphs(
    ok="✓", warn="!", critical="✗", unknown="?", skipped="·", spark="▁▂▃▄▅▆▇█", full="█", empty="░", missing="–",
    cut="…", rule="─", pointer="▸", branch="└", inward="↓", outward="↑", degree="°", dot="·", arrow="→",
)  # fmt: skip
ASCII = Glyphs(
    ok="+", warn="!", critical="X", unknown="?", skipped=".", spark="_.-:=+*#", full="#", empty=".", missing="-",
    cut="~", rule="-", pointer=">", branch="`", inward="in ", outward="out ", degree="", dot=".", arrow="->",
    ascii_only=True,
)  # fmt: skip
# Signs of our own sentences that have a plain spelling.
_TO_ASCII = str.maketrans({
    "–": "-", "—": "-", "…": "...", "×": "x", "→": "->", "°": "", "·": ".", "≥": ">=", "≤": "<=", "≠": "!=",
    "’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " ", "µ": "u",
})  # fmt: skip


def glyphs_for(environ: Mapping[str, str]) -> Glyphs:
    """The set that a terminal can show.

    Args:
        environ: TERM and the locale's variables. The Linux console's font lacks the blocks, and a locale that is not
            UTF-8 says that the terminal would show several signs for each.
    """
    if environ.get("TERM") == "linux":
        return ASCII
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "")
    return UNICODE if locale.lower().replace("-", "").endswith("utf8") else ASCII


def spark(values: Sequence[float | None], width: int, top: float, glyphs: Glyphs) -> str:
    """A history as one line of `width` signs, the newest at the right end.

    Args:
        values: oldest first; None where there was no reading, which leaves a gap.
        width: signs.
        top: what the highest step stands for; values above it show as the highest.
    """
    steps = glyphs.spark
    shown = []
    for value in values[-width:] if width > 0 else ():
        if value is None or value != value:
            shown.append(" ")
            continue
        share = max(0.0, min(1.0, value / top)) if top > 0 else 0.0
        shown.append(steps[min(len(steps) - 1, int(share * len(steps)))])
    return "".join(shown).rjust(max(width, 0))


def bar(share: float | None, width: int, glyphs: Glyphs) -> str:
    """A share of 0 to 1 as a bar; empty space where it is not known."""
    if share is None or share != share or width <= 0:
        return " " * max(width, 0)
    filled = round(max(0.0, min(1.0, share)) * width)
    return glyphs.full * filled + glyphs.empty * (width - filled)
