"""The texts of a report in each language, from words.toml, and how numbers and money are written in it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from selfhost.throughput.types import Range

Lang = Literal["en", "zh"]
LANGS: tuple[Lang, ...] = ("en", "zh")
_FILE = os.path.join(os.path.dirname(__file__), "words.toml")
_TEN_THOUSANDS = re.compile("(?<=[0-9] )([万亿]) 个")  # a measure word stands at its number
_SIGNS = {"USD": "$", "EUR": "€", "CNY": "¥"}


@cache
def _texts() -> dict[str, dict[str, dict[str, str]]]:
    import tomllib

    with open(_FILE, "rb") as file:
        found = tomllib.load(file)
    return {name: table for name, table in found.items() if isinstance(table, dict)}


@cache
def _clauses() -> tuple[tuple[re.Pattern[str], str], ...]:
    import tomllib

    with open(_FILE, "rb") as file:
        return tuple((re.compile(row["match"]), row["zh"]) for row in tomllib.load(file)["clause"])


def keys() -> tuple[str, ...]:
    """Every text there is, as `section.name`."""
    return tuple(f"{section}.{name}" for section, rows in _texts().items() for name in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One language, and the currency that money is shown in."""

    lang: Lang
    currency: str = "USD"

    def say(self, key: str, **values: Any) -> str:
        """A text with its places filled in; whole numbers get their thousands apart."""
        section, _, name = key.partition(".")
        text = _texts()[section][name][self.lang]
        shown = {name: f"{value:,}" if type(value) is int else str(value) for name, value in values.items()}
        return (
            _TEN_THOUSANDS.sub(r"\1个", text.format_map(shown))
            if self.lang == "zh"
            else text.format_map(shown)
        )

    def setting(self, text: str) -> str:
        """A value with its unit, as selfhost/report/priced.py writes it, its unit in this language."""
        if self.lang == "en":
            return text
        for unit, row in _texts()["unit"].items():
            before = "" if unit.startswith("/") else "(?<![A-Za-z])"
            text = re.sub(f"{before}{re.escape(unit)}(?![A-Za-z])", row["zh"], text)
        return text

    def known(self, section: str, word: str) -> str:
        """A word of the program in this language, or itself where it has no text."""
        found = _texts().get(section, {}).get(word)
        return word if found is None else found[self.lang]

    def option(self, name: str) -> str:
        """An option of selfhost/cost/deployment.py in this language; another name as it is."""
        words = name.split(" ")
        if words[0] == "rent" and len(words) == 3:
            return self.say(
                "option.rent", tier=self.known("tier", words[1]), term=self.known("term", words[2])
            )
        return self.known("option", name) if name != "rent" else name

    def way(self, name: str) -> str:
        """An option inside a sentence: `buying new`."""
        words = name.split(" ")
        if words[0] == "rent" and len(words) == 3:
            return self.say("way.rent", tier=self.known("tier", words[1]), term=self.known("term", words[2]))
        return self.known("way", name) if name != "rent" else name

    def assumption(self, key: str) -> str:
        """An assumption of selfhost/cost/assumed.py or of the report in this language; another one as it is."""
        name, separator, part = key.rpartition(": ")
        if separator and part in ("input", "cached", "output"):
            return self.say("assumption.api", name=name, part=self.known("part", part))
        if key.startswith("GPU-hour, "):
            tier, _, term = key.removeprefix("GPU-hour, ").partition(" ")
            return self.say("assumption.hour", tier=self.known("tier", tier), term=self.known("term", term))
        if key.startswith("exchange rate "):
            return self.say("assumption.rate", pair=key.removeprefix("exchange rate ").replace(" to ", "/"))
        return key if key in ("hour", "api", "rate") else self.known("assumption", key)

    def reason(self, text: str) -> str:
        """A reason that another part gave in English, clause by clause; what has no text here stands as it is."""
        if self.lang == "en":
            return text
        clauses = [self._clause(clause) for clause in text.split("; ")]
        return "；".join(clauses)

    def _clause(self, text: str) -> str:
        known = self.known("reason", text)
        if known != text:
            return known
        for pattern, shown in _clauses():
            if found := pattern.fullmatch(text):
                return shown.format(*(self._phrase(word) for word in found.groups()))
        return text

    def _phrase(self, text: str) -> str:
        """What stands inside a clause: a word that is known whole, else its known parts."""
        known = self.known("clause_word", text)
        if known != text:
            return known
        for part, row in _texts()["phrase"].items():
            text = text.replace(part, row[self.lang])
        return text

    def number(self, value: float) -> str:
        """Three significant digits, thousands apart; large ones in millions, in Chinese in ten thousands."""
        size = abs(value)
        if self.lang == "zh" and size >= 1e8:
            return f"{_three(value / 1e8)} 亿"
        if self.lang == "zh" and size >= 1e4:
            return f"{_three(value / 1e4)} 万"
        if size >= 1e9:
            return f"{_three(value / 1e9)} bn"
        return f"{_three(value / 1e6)} M" if size >= 1e6 else _three(value)

    @property
    def axis(self) -> str:
        """How Vega writes a number beside an axis: thousands and millions, in Chinese ten thousands."""
        if self.lang == "zh":
            return (
                "abs(datum.value) >= 1e8 ? format(datum.value / 1e8, ',~r') + ' 亿' : abs(datum.value) >= 1e4 ? "
                "format(datum.value / 1e4, ',~r') + ' 万' : format(datum.value, ',~r')"
            )
        return (
            "abs(datum.value) >= 1e9 ? format(datum.value / 1e9, ',~r') + ' bn' : abs(datum.value) >= 1e6 ? "
            "format(datum.value / 1e6, ',~r') + ' M' : format(datum.value, ',~r')"
        )

    def money(self, value: float) -> str:
        """With the currency's sign, and cents where it is small."""
        sign = _SIGNS.get(self.currency, f"{self.currency} ")
        size = abs(value)
        if 0.1 <= size < 100:
            text = f"{size:,.2f}"
        else:
            text = f"{size:,.0f}" if 100 <= size < 1e6 and self.lang == "en" else self.number(size)
        return f"{'−' if value < 0 else ''}{sign}{text}"

    def amount(self, value: float, unit: str) -> str:
        """A value in its unit; `money` takes the currency's sign, another unit a text of its own."""
        return self.money(value) if unit == "money" else self.number(value)

    def span(self, value: Range | None, unit: str) -> tuple[str, str]:
        """The typical value, and its range in words; both say so where it is unknown."""
        if value is None:
            return self.say("word.unknown"), ""
        typical = self.amount(value.typical, unit)
        if value.low == value.high:
            return typical, ""
        return typical, f"{self.amount(value.low, unit)}–{self.amount(value.high, unit)}"


def _three(value: float) -> str:
    """Three significant digits at least, whole numbers whole."""
    size = abs(value)
    if size >= 100 or value == int(value):
        digits = len(str(int(size))) - 3
        return f"{round(value, -max(0, digits)) if size >= 10_000 else value:,.0f}"
    return f"{value:,.1f}" if size >= 10 else f"{value:,.2f}" if size >= 0.095 else f"{value:,.3g}"
