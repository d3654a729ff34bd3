"""Answers from a file or a mapping, checked: unknown keys with the closest name, values by what the question takes."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping

from selfhost.advise.tables import Question, question, questions
from selfhost.advise.types import Answers, Value
from selfhost.errors import UsageError

UNKNOWN = frozenset({"unknown", "?", "", "don't know", "dont know", "not sure", "不知道", "未知", "不确定"})
YES = frozenset({"yes", "true", "y", "是"})
NO = frozenset({"no", "false", "n", "否"})
# Names of countries that are typed most, beside the two letters of ISO 3166-1.
COUNTRIES = {
    "china": "CN", "中国": "CN", "prc": "CN", "germany": "DE", "德国": "DE", "usa": "US", "united states": "US",
    "美国": "US", "uk": "GB", "united kingdom": "GB", "英国": "GB", "france": "FR", "法国": "FR", "japan": "JP",
    "日本": "JP", "india": "IN", "印度": "IN", "singapore": "SG", "新加坡": "SG",
}  # fmt: skip
MOST = 1e15  # of any figure, as bad input rather than a load
_NUMBER = re.compile(
    r"([+-]?[\d_,]*\.?\d+(?:e[+-]?\d+)?)\s*(k|m|b|万|亿|million|billion)?\s*"
    r"(ms|毫秒|people|人|次|个|requests|tokens|词元)?",
    re.IGNORECASE,
)
# Amounts as people write them, before or behind the figure.
_MONEY = {
    "¥": "CNY", "￥": "CNY", "元": "CNY", "人民币": "CNY", "rmb": "CNY", "cny": "CNY", "$": "USD", "usd": "USD",
    "美元": "USD", "€": "EUR", "eur": "EUR", "欧元": "EUR",
}  # fmt: skip
_SCALE = {"k": 1e3, "m": 1e6, "b": 1e9, "million": 1e6, "billion": 1e9, "万": 1e4, "亿": 1e8}


def parse_answers(given: Mapping[str, object]) -> Answers:
    """Answers from plain data, as YAML, TOML or JSON gives it.

    Args:
        given: key -> value. A key may be spelled with - for _, or by one of its other names.

    Raises:
        UsageError: a key or a value is not one of those that `selfhost advise --list-questions` names, or a key stands
            twice under two names with two values.
    """
    values: dict[str, Value] = {}
    unknown: set[str] = set()
    seen: dict[str, str] = {}
    told: dict[str, str] = {}
    for name, raw in given.items():
        if name == "schema":  # a file may say what it is
            continue
        raw, currency = _amount(raw)
        key = _meant(_key(str(name)), raw)
        if key in seen:
            raise UsageError(
                f"{seen[key]} and {name} are the same question.", hint=f"Keep one of them; its name is {key}."
            )
        seen[key] = str(name)
        value = parse_value(key, raw)
        if currency is not None and question(key).unit != "currency":
            raise UsageError(
                f"{key} cannot be an amount of money.", hint="it takes a plain number, or unknown."
            )
        if currency is not None:
            told[currency] = key
        if value is None:
            unknown.add(key)
        else:
            values[key] = value
    for currency, key in told.items():
        if values.setdefault("currency", currency) != currency:
            raise UsageError(
                f"{key} is in {currency} and another amount, or currency, in {values['currency']}.",
                hint="Give all amounts in one currency.",
            )
    return Answers(values=values, unknown=frozenset(unknown))


def _amount(raw: object) -> tuple[object, str | None]:
    """A figure without the sign of money about it, and the currency that it means."""
    if not isinstance(raw, str):
        return raw, None
    text = raw.strip()
    for sign, currency in _MONEY.items():
        low = text.lower()
        bare = text[len(sign) :] if low.startswith(sign) else text[: -len(sign)] if low.endswith(sign) else ""
        if _NUMBER.fullmatch(bare.strip()):
            return bare.strip(), currency
    return raw, None


def _meant(key: str, raw: object) -> str:
    """The key that is answered: a figure for the size of a team answers how many people it has."""
    figure = question(key).figure
    text = str(raw).strip()
    is_number = not isinstance(raw, bool) and (
        isinstance(raw, (int, float)) or _NUMBER.fullmatch(text) is not None
    )
    return figure if figure is not None and is_number else key


def _key(name: str) -> str:
    """The key that a name means."""
    spelled = name.strip().replace("-", "_").lower()
    names = {one.key: one.key for one in questions()}
    for one in questions():
        for other in one.also:
            names.setdefault(other.replace("-", "_"), one.key)
    if spelled in names:
        return names[spelled]
    close = difflib.get_close_matches(spelled, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(
        f"{name[:60]!r} is not a question of `selfhost advise`.",
        hint=f"{hint}`selfhost advise --list-questions` has all.",
    )


def parse_value(key: str, raw: object) -> Value | None:
    """One answer as the question takes it; None where it is unknown.

    Raises:
        UsageError: it is not an answer to that question.
    """
    asked = question(key)
    if raw is None or (isinstance(raw, str) and raw.strip().lower() in UNKNOWN):
        return None
    if asked.kind == "number":
        return _number(asked, raw)
    if asked.kind == "list":
        several = raw if isinstance(raw, (list, tuple)) else str(raw).split(",")
        return tuple(dict.fromkeys(_choice(asked, each) for each in several))
    if asked.kind == "text":
        return _plain(asked, raw)
    return _choice(asked, raw)


def _choice(asked: Question, raw: object) -> str:
    said = ("yes" if raw else "no") if isinstance(raw, bool) else str(raw).strip()
    word = _spelled(said)
    word = "yes" if word in YES else "no" if word in NO else word
    names: dict[str, str] = {}
    for choice in asked.choices:
        short = (text.partition("（")[0].partition(" (")[0] for text in choice.text.values())
        for name in (choice.value, *choice.also, *choice.text.values(), *short):
            names.setdefault(_spelled(name), choice.value)
    if word in names:
        return names[word]
    allowed = ", ".join(choice.value for choice in asked.choices)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    hint = f"did you mean {names[close[0]]}? " if close else ""
    raise UsageError(f"{asked.key} cannot be {said[:60]!r}.", hint=f"{hint}it takes {allowed} or unknown.")


def _spelled(text: str) -> str:
    return "-".join(text.lower().replace("_", " ").replace("-", " ").split())


def _number(asked: Question, raw: object) -> float:
    unit = f" {asked.unit}" if asked.unit and asked.unit != "currency" else ""
    found: float | None = None
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        found = float(raw) if abs(raw) <= MOST else math.inf  # an int may be more than any float
    elif isinstance(raw, str) and (match := _NUMBER.fullmatch(raw.strip())):
        found = float(match[1].replace(",", "").replace("_", "")) * _SCALE.get((match[2] or "").lower(), 1.0)
    if found is None or not math.isfinite(found) or abs(found) > MOST:
        raise UsageError(
            f"{asked.key} cannot be {str(raw)[:60]!r}.",
            hint=f"it takes a number{' of' + unit if unit else ''}, or unknown.",
        )
    if asked.least is not None and found < asked.least:
        raise UsageError(f"{asked.key} cannot be {found:g}.", hint=f"it takes {asked.least:g}{unit} or more.")
    if asked.over is not None and found <= asked.over:
        raise UsageError(
            f"{asked.key} cannot be {found:g}.", hint=f"it takes more than {asked.over:g}{unit}."
        )
    return found


def _plain(asked: Question, raw: object) -> str:
    if raw is False and asked.key == "country":
        raw = "NO"  # Norway, as YAML 1.1 reads it without quotes
    text = str(raw).strip()
    if isinstance(raw, (dict, list, bool)) or not text.isprintable() or len(text) > 200:
        raise UsageError(
            f"{asked.key} cannot be {str(raw)[:60]!r}.", hint="it takes one line of text, or unknown."
        )
    return _country(text) if asked.key == "country" else text


def _country(text: str) -> str:
    code = COUNTRIES.get(text.lower(), text.upper())
    if len(code) != 2 or not code.isascii() or not code.isalpha():
        raise UsageError(
            f"country cannot be {text[:60]!r}.", hint="it takes two letters, such as CN, DE or US."
        )
    return code
