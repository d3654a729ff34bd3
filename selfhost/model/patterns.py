"""Exclusion lists of quantized checkpoints: matching module names against thousands of patterns without slowness."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

_NUMBERED = re.compile(r"\.(\d+)(?:\.|$)")
MAX_PATTERNS = 200_000
MAX_PATTERN_LENGTH = 2_000


class Patterns:
    """A list of patterns, bucketed by the layer number they name.

    Args:
        entries: the patterns as the checkpoint lists them.
        mode: "exact", "suffix", "substring", "regex" (compressed-tensors: `re:` or exact), "modelopt" (exact,
            substring or wildcard) or "gptq" (regular expressions).

    Raises:
        ValueError: too many or too long patterns, or an expression that is none or might run for ever.
    """

    def __init__(self, entries: Iterable[str], mode: str) -> None:
        self.mode = mode
        self._by_layer: dict[str, list[str]] = {}
        self._general: list[str] = []
        self._compiled: dict[str, re.Pattern[str]] = {}
        for count, entry in enumerate(entries):
            if count >= MAX_PATTERNS or len(entry) > MAX_PATTERN_LENGTH:
                raise ValueError("has too many or too long patterns")
            expression = entry if mode == "gptq" else entry[3:] if entry.startswith("re:") else None
            if expression is not None:
                self._compiled[expression] = _compile(expression, glob=False)
            found = None if expression is not None else _NUMBERED.search(entry)
            # `layers.1*` also matches layer 10, so only entries with a whole component are bucketed.
            if found and (found.end() < len(entry) or mode in ("exact", "suffix")):
                self._by_layer.setdefault(found[1], []).append(entry)
            else:
                self._general.append(entry)

    def __bool__(self) -> bool:
        return bool(self._general or self._by_layer)

    def candidates(self, layer: str | None) -> tuple[str, ...]:
        """The patterns that can match modules of one layer."""
        return (*self._general, *(self._by_layer.get(layer, ()) if layer is not None else ()))

    def matches(self, name: str, entry: str) -> bool:
        """Whether one pattern matches one module name."""
        mode = self.mode
        if mode == "exact":
            return name == entry
        if mode == "suffix":
            return name == entry or name.endswith("." + entry)
        if mode == "substring":
            return entry in name
        if mode == "modelopt":
            return entry in name or (
                ("*" in entry or "[" in entry) and self._regex(entry, glob=True, text=name)
            )
        if mode == "gptq":
            return self._regex(entry, glob=False, text=name)
        if entry.startswith("re:"):
            return self._regex(entry[3:], glob=False, text=name)
        return name == entry or name.endswith("." + entry)

    @property
    def by_layer_only(self) -> bool:
        """Whether patterns tell layers apart by their bucket alone, never by a number inside a general pattern."""
        return not any(char.isdigit() for entry in self._general for char in entry)

    def signature(self, layer: str | None) -> tuple[str, ...]:
        """A layer's own patterns without its number: layers with the same ones treat equal modules alike."""
        if layer is None:
            return ()
        return tuple(entry.replace(f".{layer}", ".#", 1) for entry in self._by_layer.get(layer, ()))

    def _regex(self, pattern: str, *, glob: bool, text: str) -> bool:
        compiled = self._compiled.get(pattern)
        if compiled is None:
            compiled = self._compiled[pattern] = _compile(pattern, glob=glob)
        return compiled.match(text) is not None

    def any(self, names: tuple[str, ...], candidates: tuple[str, ...]) -> bool:
        """Whether any candidate matches any of the names."""
        return any(self.matches(name, entry) for entry in candidates for name in names)


def _compile(pattern: str, *, glob: bool) -> re.Pattern[str]:
    """A compiled pattern.

    Raises:
        ValueError: no regular expression, or one that might run for ever.
    """
    try:
        compiled = re.compile(fnmatch.translate(pattern) if glob else pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"holds {pattern[:40]!r}, not a regular expression") from error
    if not glob and _may_explode(pattern):
        raise ValueError(f"holds {pattern[:40]!r}, a repetition of repetitions that might never end")
    return compiled


def _may_explode(pattern: str) -> bool:
    """Whether an unbounded repetition holds another repetition or a choice, which can take exponential time."""
    depth_of_group: list[int] = []
    inside = False
    index = 0
    risky: list[bool] = [False]
    while index < len(pattern):
        char = pattern[index]
        if char == "\\":
            index += 2
            continue
        if inside:
            inside = char != "]"
        elif char == "[":
            inside = True
        elif char == "(":
            depth_of_group.append(index)
            risky.append(False)
        elif char == ")" and depth_of_group:
            depth_of_group.pop()
            held = risky.pop()
            repeated = pattern[index + 1 : index + 2] in ("*", "+", "{")
            if held and repeated:
                return True
            risky[-1] = risky[-1] or held or repeated
        elif char in "*+{|":
            risky[-1] = True
        index += 1
    return False


def layer_number(name: str) -> str | None:
    """The first number among a module name's components, by which patterns are bucketed."""
    found = _NUMBERED.search(name)
    return found[1] if found else None
