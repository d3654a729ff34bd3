"""A user's own prices: a YAML, TOML or JSON file with the tables of the catalogue, checked key by key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from selfhost.catalog.gpus import CPUS, gpu_ids
from selfhost.catalog.price_types import (
    CONDITIONS,
    CURRENCIES,
    KINDS,
    TERMS,
    TIERS,
    Figure,
    Kind,
    PriceError,
    first_day,
)
from selfhost.catalog.prices import currency_of
from selfhost.tables import exponent, parse_tables

_MOST_BYTES = 1 << 20
_MOST = 1e15  # of any price, as bad input
_COLUMNS = ("typical", "low", "high", "currency", "date", "source", "note")
_FIXED = {
    "condition": CONDITIONS, "tier": TIERS, "term": TERMS, "from": CURRENCIES, "to": CURRENCIES,
}  # fmt: skip
_RATIOS_TO_ONE = frozenset({"residual", "discount"})
# Ours: rates of exchange that contradict each other by more than fees and a day's movement explain.
_MOST_APART = 0.02


def read_overrides(path: Path) -> dict[str, Figure]:
    """The rows of a user's file by their keys.

    Args:
        path: ends in .yaml, .yml, .toml or .json.

    Raises:
        PriceError: it cannot be read, or has an unknown key, an impossible price or an unknown currency.
    """
    data = dict(read_mapping(path))
    currency = data.pop("currency", "USD")
    if not isinstance(currency, str):
        raise PriceError(f"{path.name}: currency must be a text such as CNY.")
    currency = currency_of(currency)
    found: dict[str, Figure] = {}
    for name, tables in data.items():
        if name not in KINDS:
            raise _unknown(path, name, (*KINDS, "currency"))
        _collect(path, (name,), KINDS[name], tables, currency, found)
    _agree(path, found)
    return found


def _agree(path: Path, found: Mapping[str, Figure]) -> None:
    """Refuse rates of exchange by which money grows on its way there and back, or around."""
    given = {tuple(key.split(".")[1:]): one.typical for key, one in found.items() if key.startswith("fx.")}
    rates = {(to, of): 1 / rate for (of, to), rate in given.items()} | given
    for (of, to), rate in given.items():
        back = rates[to, of] * rate
        around = [
            rates[of, by] * rates[by, to] / rate
            for by in CURRENCIES
            if (of, by) in rates and (by, to) in rates and by not in (of, to)
        ]
        for factor in (back, *around):
            if abs(factor - 1) > _MOST_APART:
                raise PriceError(
                    f"{path.name}: the rates of fx contradict each other: {of} to {to} and back, or by way of the "
                    f"third currency, makes {factor:.3g} of 1.",
                    hint="Give one rate for each two currencies.",
                )


def read_mapping(path: Path) -> Mapping[str, Any]:
    """A YAML, TOML or JSON file as a mapping with text as its keys.

    Raises:
        PriceError: it cannot be read, is too long, or is no mapping.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise PriceError(f"{path} is longer than 1 MiB, which no price file is.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise PriceError(
            f"{path} cannot be read: {reason}.", hint="Name a YAML, TOML or JSON file."
        ) from None
    if not text.strip():
        raise PriceError(f"{path} is empty.", hint="Begin with `gpu_purchase:` or another kind.")
    try:
        data = parse_tables(path.suffix.lower(), text)
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        first = "it nests too deep" if deep else next(iter(str(error).splitlines()), "")
        raise PriceError(f"{path} is not what its name says: {first[:160]}.") from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise PriceError(
            f"{path} must hold tables by name.", hint="Begin with `gpu_purchase:` or another kind."
        )
    return data


def _collect(
    path: Path, keys: tuple[str, ...], kind: Kind, value: object, currency: str, found: dict[str, Figure]
) -> None:
    """Walk down to the prices of one kind."""
    if len(keys) > len(kind.keys):
        found[".".join(keys)] = _figure(path, keys, kind, value, currency)
        return
    wanted = kind.keys[len(keys) - 1]
    if not isinstance(value, dict):
        raise PriceError(f"{path.name}: {'.'.join(keys)} must be a table by {wanted}, not {_shown(value)}.")
    taken: set[str] = set()  # keys that differ for a parser alone, such as DE and de
    for key, below in value.items():
        # YAML 1.1 reads Norway's NO as false.
        text = _checked(path, keys, wanted, "NO" if key is False and wanted == "country" else str(key))
        if text in taken:
            raise PriceError(f"{path.name}: {'.'.join((*keys, text))} stands twice.")
        taken.add(text)
        _collect(path, (*keys, text), kind, below, currency, found)


def _checked(path: Path, keys: tuple[str, ...], wanted: str, key: str) -> str:
    if wanted == "gpu":
        known: tuple[str, ...] = (*gpu_ids(), *CPUS)
        if key not in known:
            raise _unknown(path, ".".join((*keys, key)), [".".join((*keys, one)) for one in known])
    elif wanted in _FIXED:
        if key not in _FIXED[wanted]:
            raise _unknown(path, ".".join((*keys, key)), [".".join((*keys, one)) for one in _FIXED[wanted]])
    elif wanted == "country":
        if not (len(key) == 2 and key.isascii() and key.isalpha()):
            raise PriceError(
                f"{path.name}: {'.'.join((*keys, key[:40]))}: a country is two letters, such as CN or DE."
            )
        return key.upper()
    elif wanted in ("months", "gpus"):
        if not (key.isascii() and key.isdigit() and 0 < int(key) <= 1200):
            raise PriceError(
                f"{path.name}: {'.'.join((*keys, key[:40]))}: {wanted} must be a whole number above 0."
            )
    elif (known := _kinds(keys[0])) and key not in known:
        raise _unknown(path, ".".join((*keys, key)), [".".join((*keys, one)) for one in known])
    return key


def _kinds(name: str) -> tuple[str, ...]:
    from selfhost.catalog.prices import load_prices

    return tuple(key.split(".", 1)[1] for key in load_prices().figures if key.startswith(f"{name}."))


def _figure(path: Path, keys: tuple[str, ...], kind: Kind, value: object, currency: str) -> Figure:
    name = f"{path.name}: {'.'.join(keys)}"
    table: dict[str, Any] = dict(value) if isinstance(value, dict) else {"typical": value}
    for column in table:
        if column not in _COLUMNS:
            raise _unknown(
                path, f"{'.'.join(keys)}.{column}", [f"{'.'.join(keys)}.{one}" for one in _COLUMNS]
            )
    if "typical" not in table:
        raise PriceError(f"{name} lacks `typical`, the price to reckon with.")
    typical = _number(name, table["typical"])
    low, high = _number(name, table.get("low", typical)), _number(name, table.get("high", typical))
    if not low <= typical <= high:
        raise PriceError(f"{name}: low {low:g}, typical {typical:g} and high {high:g} are not in this order.")
    if keys[0] in _RATIOS_TO_ONE and high > 1:
        raise PriceError(
            f"{name}: {high:g} is more than the whole.", hint="Give a share, such as 0.35 for 35 %."
        )
    if keys[0] == "pue" and low < 1:
        raise PriceError(f"{name}: a PUE is at least 1, not {low:g}.")
    if keys[0] == "fx" and low <= 0:
        raise PriceError(f"{name}: an exchange rate is more than 0, not {low:g}.")
    for column in ("date", "source", "note", "currency"):
        said = table.get(column)
        if isinstance(said, (dict, list, tuple, set)):
            raise PriceError(f"{name}: {column} must be a text, not {_shown(said)}.")
        table[column] = None if said is None else str(said)
    if table["currency"] is not None and not kind.priced:
        raise PriceError(f"{name} has no currency: it is in {kind.unit}.", hint="Leave `currency` out.")
    code = None if not kind.priced else currency_of(table["currency"] or currency)
    return Figure(
        low=low, typical=typical, high=high, unit=f"{code}/{kind.unit}" if code else kind.unit, currency=code,
        date=_day(name, table["date"]), source=table["source"] or path.name, confidence="yours", note=table["note"],
        key=".".join(keys),
    )  # fmt: skip


def _day(name: str, text: str | None) -> str:
    """The date of a price; a file that gives none is as fresh as whoever uses it says."""
    if text is None:
        return ""
    try:
        first_day(text)
    except ValueError:
        raise PriceError(
            f"{name}: {text[:40]!r} is no date.", hint="Write YYYY-MM-DD, YYYY-MM or YYYY."
        ) from None
    return text


def _number(name: str, value: object) -> float:
    value = exponent(value)
    wrong = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or wrong:
        raise PriceError(f"{name} must be a number, not {_shown(value)}.")
    if value > _MOST:  # also of an int that no float holds
        raise PriceError(f"{name} must be at most {_MOST:g}, not {_shown(value)}.")
    if value < 0:
        raise PriceError(f"{name} must not be negative, and is {_shown(value)}.")
    return float(value)


def _shown(value: object) -> str:
    if isinstance(value, (dict, list, tuple, set)):  # of which YAML's aliases can make a text without end
        return "a table" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _unknown(path: Path, name: str, known: Iterable[str]) -> PriceError:
    import difflib

    every = list(known)
    close = difflib.get_close_matches(name[:120], every, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(every[:20])}."
    return PriceError(f"{path.name}: {name[:120]!r} is no key of the price catalogue.", hint=hint)
