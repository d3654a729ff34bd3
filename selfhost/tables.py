"""Text of a TOML, YAML or JSON file -> plain data, in which no key stands twice: the second one would win unseen."""

from __future__ import annotations

import re
from typing import Any

_EXPONENT = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?[eE][+-]?\d{1,4}")


def parse_tables(suffix: str, text: str) -> object:
    """Plain data of a file's text.

    Args:
        suffix: what the file's name ends in, in lower case: .toml, .yaml, .yml or .json.
        text: the file's text.

    Raises:
        ValueError: it is not what its name says, or a key stands twice; in one line.
        RecursionError: it nests too deep.
    """
    if suffix == ".toml":
        import tomllib

        return tomllib.loads(text)
    if suffix == ".json":
        import json

        return json.loads(text, object_pairs_hook=unique)
    if suffix not in (".yaml", ".yml"):
        raise ValueError("its name ends in none of .toml, .yaml, .yml and .json")
    import yaml

    try:
        return yaml.load(text, Loader=_strict(yaml))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise ValueError(" ".join(str(getattr(error, "problem", None) or error).split()) + where) from None


def exponent(value: object) -> object:
    """The number of a text such as 3e8, which YAML 1.1 takes for a text; anything else as it is."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON whose keys differ.

    Raises:
        ValueError: one stands twice.
    """
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key[:60]!r} stands twice in one object")
        found[key] = value
    return found


def _strict(yaml: Any) -> Any:
    class Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # yaml is slow to import
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value[:60]!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Strict
