"""Tables out of a TOML, YAML or JSON file, read strictly: an unknown key or a wrong number is refused by name."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from selfhost.errors import UsageError
from selfhost.tables import exponent

_MOST = 1e18


class Table:
    """One table whose keys are taken one by one; what nobody took is unknown."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping):
            raise UsageError(f"{where} is not a table of names and values.")
        self._left: dict[str, Any] = {str(key): value for key, value in data.items()}
        self.where = where

    def has(self, key: str) -> bool:
        """Whether the key is there and was not taken yet."""
        return key in self._left

    def take(self, key: str) -> Any:
        """The value as it stands, None where there is none."""
        return self._left.pop(key, None)

    def text(self, key: str, default: str | None = None) -> str | None:
        """A line of text; dates, which TOML and YAML read, become their text."""
        value = self.take(key)
        if value is None:
            return default
        if hasattr(value, "isoformat"):
            value = value.isoformat()
        if not isinstance(value, str) or not value or not value.isprintable():
            raise UsageError(f"{self.where}: {key} must be a line of text.")
        return value

    def number(
        self, key: str, default: float | None = None, *, least: float = 0.0, most: float = _MOST
    ) -> float | None:
        """A finite number within bounds."""
        value = self.take(key)
        return default if value is None else number_of(value, f"{self.where}: {key}", least=least, most=most)

    def whole(self, key: str, default: int | None = None, *, least: int = 0) -> int | None:
        """A whole number."""
        value = self.number(key, least=least)
        if value is None:
            return default
        if value != int(value):
            raise UsageError(f"{self.where}: {key} must be a whole number, not {value:g}.")
        return int(value)

    def flag(self, key: str) -> bool:
        """true or false; false where it is absent."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise UsageError(f"{self.where}: {key} must be true or false.")
        return bool(value)

    def one_of(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value not in allowed:
            raise UsageError(
                f"{self.where}: {key} must be one of {', '.join(allowed)}, not {str(value)[:40]!r}."
            )
        return value

    def tables(self, key: str) -> list[Table]:
        """A list of tables; empty where it is absent."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise UsageError(f"{self.where}: {key} must be a list of tables.")
        return [Table(item, f"{self.where}: {key} {number}") for number, item in enumerate(value, 1)]

    def like(self, known: Iterable[str]) -> tuple[str, str] | None:
        """A key that is left and the known one that it looks like, None where none does."""
        import difflib

        names = tuple(known)
        for key in self._left:
            if close := difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.75):
                return key, close[0]
        return None

    def end(self) -> None:
        """Refuse what is left."""
        if self._left:
            raise UsageError(
                f"{self.where}: unknown key {next(iter(self._left))[:60]!r}.",
                hint="docs/cost.md lists the keys of a scenario and of an assumptions file.",
            )


def number_of(value: object, where: str, *, least: float = 0.0, most: float = _MOST) -> float:
    """A finite number within bounds.

    Raises:
        UsageError: it is something else.
    """
    value = exponent(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where} must be a number.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} must be a number.")
    if abs(value) > sys.float_info.max:  # an int that no float holds
        raise UsageError(f"{where} must be a number of fewer digits.")
    if value < least:
        what = "must not be negative" if least == 0 else f"must be at least {least:g}"
        raise UsageError(f"{where} {what}: {value:g}.")
    if value > most:
        raise UsageError(f"{where} must be at most {most:g}, not {value:g}.")
    return float(value)


def spread_of(
    value: object, where: str, *, least: float = 0.0, most: float = _MOST
) -> tuple[float, float, float]:
    """Low, typical and high of a number, of `[low, high]` or `[low, typical, high]`, or of a table of the three.

    Between two ends the typical value is their mean.

    Raises:
        UsageError: it is none of those, or they are out of order.
    """
    if isinstance(value, Mapping):
        table = Table(value, where)
        middle = table.number("typical", least=least, most=most)
        if middle is None:
            raise UsageError(f"{where} has no typical value.")
        low, high = (table.number(end, middle, least=least, most=most) for end in ("low", "high"))
        table.end()
        assert low is not None
        assert high is not None
    elif isinstance(value, list | tuple) and len(value) in (2, 3):
        ends = [number_of(item, where, least=least, most=most) for item in value]
        low, high = ends[0], ends[-1]
        middle = ends[1] if len(ends) == 3 else (low + high) / 2
    else:
        low = middle = high = number_of(value, where, least=least, most=most)
    if not low <= middle <= high:
        raise UsageError(f"{where}: {low:g}, {middle:g}, {high:g} are not in order from low to high.")
    return low, middle, high
