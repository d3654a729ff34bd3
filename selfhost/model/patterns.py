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
    """

    def __init__(self, entries: Iterable[str], mode: str) -> None:
        self.mode = mode
        self._by_layer: dict[str, list[str]] = {}
        self._general: list[str] = []
        self._compiled: dict[str, re.Pattern[str] | None] = {}
        for count, entry in enumerate(entries):
            if count >= MAX_PATTERNS or len(entry) > MAX_PATTERN_LENGTH:
                raise ValueError("has too many or too long patterns")
            found = None if entry.startswith("re:") or mode == "gptq" else _NUMBERED.search(entry)
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

    def _regex(self, pattern: str, *, glob: bool, text: str) -> bool:
        if pattern not in self._compiled:
            try:
                self._compiled[pattern] = re.compile(fnmatch.translate(pattern) if glob else pattern)
            except re.error as error:
                raise ValueError(f"holds {pattern[:40]!r}, not a regular expression") from error
        compiled = self._compiled[pattern]
        return compiled is not None and compiled.match(text) is not None

    def any(self, names: tuple[str, ...], candidates: tuple[str, ...]) -> bool:
        """Whether any candidate matches any of the names."""
        return any(self.matches(name, entry) for entry in candidates for name in names)


def layer_number(name: str) -> str | None:
    """The first number among a module name's components, by which patterns are bucketed."""
    found = _NUMBERED.search(name)
    return found[1] if found else None
