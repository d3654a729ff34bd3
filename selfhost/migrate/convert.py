"""One setting of TGI to words and variables of another engine: a function for each way a value is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from selfhost.catalog.flags import known_flags, release
from selfhost.catalog.flags import table as known
from selfhost.engines import EngineVersion
from selfhost.engines.tgi.tables import WIGGLE_ROOM
from selfhost.migrate.table import NAMES, Outcome, Row

_LEVEL = re.compile(r"(?:^|,)\s*(?:\w+=)?(trace|debug|info|warn|error|off)\b", re.IGNORECASE)
_LEVELS = {"trace": "DEBUG", "warn": "WARNING", "off": "CRITICAL"}
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a setting becomes.

    Args:
        words: of the command line.
        env: variables; None for the value that was there, wherever it came from.
        because: why, or why nothing is needed.
        instead: what to do where there is no equivalent; None where there is one, or none is needed.
    """

    words: tuple[str, ...] = ()
    env: tuple[tuple[str, str | None], ...] = ()
    because: str = ""
    instead: str | None = None


class _NoneHereError(Exception):
    """The value has no equivalent; the text says what to do."""


def convert(row: Row, value: str, version: EngineVersion) -> Converted:
    """What a setting becomes in a release.

    Args:
        row: of the table.
        value: its value; of a switch `true`. It may refer to a variable: `$(NAME)`.
        version: the new engine.
    """
    outcome = row.outcomes[version.engine]
    if outcome.via == "values":
        return _by_value(outcome, value, version)
    if outcome.to is None:
        return Converted(because=outcome.because, instead=outcome.instead)
    try:
        words, env = _VIAS[outcome.via](outcome.to, value, version.engine)
    except _NoneHereError as none:
        return Converted(because=outcome.because, instead=str(none))
    missing = _missing(words, env, version)
    if missing is not None:
        instead = outcome.instead or f"take a release that has {missing}, or leave it out"
        return Converted(because=f"{NAMES[version.engine]} {version.text} has no {missing}", instead=instead)
    return Converted(words=words, env=env, because=outcome.because)


def _missing(
    words: tuple[str, ...], env: tuple[tuple[str, str | None], ...], version: EngineVersion
) -> str | None:
    """The first option or variable that the release does not have."""
    flags = known_flags(version.engine, version.text)
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in flags:
            return word.partition("=")[0]
    variables = known(version.engine).variables
    for name, _ in env:
        if name in variables and variables[name].has(version.text) is False:
            return name
    return None


def _by_value(outcome: Outcome, value: str, version: EngineVersion) -> Converted:
    found = outcome.values.get(value.strip().lower())
    if found is None:
        return Converted(because=outcome.because, instead=f"{_shown(value)!r} is no value that TGI knows")
    gone = release(found.before) if found.before is not None else None
    if found.instead is not None and (gone is None or version.number >= gone):
        because = f"{NAMES[version.engine]} {version.text} neither reads nor makes {_shown(value)}"
        return Converted(because=because, instead=found.instead)
    missing = _missing(found.words, (), version)
    if missing is not None:
        return Converted(because=outcome.because, instead=f"this release has no {missing}")
    return Converted(words=found.words, because=found.because or outcome.because)


def _shown(value: str) -> str:
    return value if len(value) <= 40 else value[:40] + "…"


_Written = tuple[tuple[str, ...], tuple[tuple[str, str | None], ...]]


def _same(to: str, value: str, engine: str) -> _Written:
    return ((to, value), ()) if to.startswith("-") else ((), ((to, None),))


def _switch(to: str, value: str, engine: str) -> _Written:
    return ((to,) if _true(value) else (), ())


def _above_one(to: str, value: str, engine: str) -> _Written:
    # TGI's own default is 2; SGLang with several tokenizers takes another path, which is worth it under load alone.
    number = _whole(value)
    return ((to, str(number)) if number > 2 else (), ())


def _sharded(to: str, value: str, engine: str) -> _Written:
    return ((), ()) if _true(value) else ((to, "1"), ())


def _speculate(to: str, value: str, engine: str) -> _Written:
    count = _whole(value)
    if count == 0:
        return (), ()
    if engine == "vllm":
        config = {"method": "ngram", "num_speculative_tokens": count, "prompt_lookup_max": 4}
        return (to, json.dumps(config)), ()
    return (to, "NGRAM", "--speculative-num-draft-tokens", str(count + 1)), ()


def _graphs(to: str, value: str, engine: str) -> _Written:
    sizes = _NUMBER.findall(value)
    if not sizes:
        raise _NoneHereError("name the batch sizes as numbers")
    if all(int(size) == 0 for size in sizes):
        return ("--enforce-eager" if engine == "vllm" else "--disable-cuda-graph",), ()
    return (to, *sizes), ()


def _memory(to: str, value: str, engine: str) -> _Written:
    try:
        share = float(value)
    except ValueError:
        raise _NoneHereError(f"give {to} a share of the GPU") from None
    if not 0 < share <= 1:
        raise _NoneHereError(f"give {to} a share of the GPU between 0 and 1")
    return (to, f"{share * WIGGLE_ROOM:.3f}".rstrip("0")), ()


def _origins(to: str, value: str, engine: str) -> _Written:
    return (to, json.dumps([part.strip() for part in value.split(",") if part.strip()])), ()


def _grammar(to: str, value: str, engine: str) -> _Written:
    return ((to, "none") if _true(value) else (), ())


def _trace(to: str, value: str, engine: str) -> _Written:
    return ("--enable-trace", to, value.partition("://")[2] or value), ()


def _lora(to: str, value: str, engine: str) -> _Written:
    found = []
    for part in value.split(","):
        name, equals, path = part.strip().partition("=")
        if not name:
            continue
        place = (path if equals else name).partition("@")[0]
        found.append(f"{name.partition('@')[0]}={place}")
    if not found:
        return (), ()
    return ("--enable-lora", to, *found), ()


def _usage(to: str, value: str, engine: str) -> _Written:
    return (), ((to, "1"),) if value.strip().lower() in ("off", "true", "1") else ()


def _prefix(to: str, value: str, engine: str) -> _Written:
    if _true(value):
        return (), ()
    return ("--no-enable-prefix-caching" if engine == "vllm" else to,), ()


def _chunking(to: str, value: str, engine: str) -> _Written:
    if _true(value):
        return (), ()
    return ("--no-enable-chunked-prefill",) if engine == "vllm" else (to, "-1"), ()


def _level(to: str, value: str, engine: str) -> _Written:
    found = _LEVEL.search(value)
    if found is None:
        raise _NoneHereError(f"give {to} one of debug, info, warning, error")
    level = _LEVELS.get(found[1].lower(), found[1].upper())
    return ((to, level.lower()), ()) if to.startswith("-") else ((), ((to, level),))


def _colour(to: str, value: str, engine: str) -> _Written:
    return (), ((to, "0" if value == "1" else "auto"),)


def _reference(to: str, value: str, engine: str) -> _Written:
    """A secret of the command line, from a variable; the caller gives the variable's name as the value."""
    return (to, value), ()


def _true(value: str) -> bool:
    return value.strip().lower() in ("", "true", "1", "yes", "on")


def _whole(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise _NoneHereError("give it as a whole number")
    return int(value)


_VIAS: dict[str, Callable[[str, str, str], _Written]] = {
    "same": _same, "switch": _switch, "above_one": _above_one, "sharded": _sharded, "speculate": _speculate,
    "graphs": _graphs, "memory": _memory, "origins": _origins, "grammar": _grammar, "trace": _trace, "lora": _lora,
    "usage": _usage, "prefix": _prefix, "chunking": _chunking, "level": _level, "colour": _colour,
    "reference": _reference,
}  # fmt: skip
VIAS = frozenset((*_VIAS, "values", "model"))
