"""systemd's reading of a unit, by systemd.syntax(7) and systemd.service(5): what a service is started with."""

from __future__ import annotations

import re

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtvs\\\"']))")


def values(unit: str, key: str) -> list[str]:
    """What stands behind `key=`, in order."""
    return [line[len(key) + 1 :] for line in unit.split("\n") if line.startswith(f"{key}=")]


def words(value: str, *, known: dict[str, str] | None = None) -> list[str]:
    """The words of a value of double-quoted words: escapes taken back, specifiers and `${NAME}` filled in."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"', value)
    assert " ".join(f'"{word}"' for word in found) == value.strip(), value
    return [_filled(_unescaped(word), known or {}) for word in found]


def _unescaped(word: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        return chr(int(code, 16)) if code else _SIMPLE.get(match[4], match[4])

    assert not re.search(r"%(?![%d])", word.replace("%%", "")), word
    return _ESCAPE.sub(one, word.replace("%%", "%"))


def _filled(word: str, known: dict[str, str]) -> str:
    assert not re.search(r"\$(?![${])", word.replace("$$", "")), word
    return re.sub(r"\$\$|\$\{(\w+)\}", lambda match: known[match[1]] if match[1] else "$", word)


def environment(unit: str) -> dict[str, str]:
    """The variables of Environment= lines that hold one each."""
    found = {}
    for line in values(unit, "Environment"):
        name, _, value = line.partition("=")
        found[name] = _unescaped(value[1:-1]) if value.startswith('"') else value
    return found
