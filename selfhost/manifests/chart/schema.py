"""values.schema.json: closed to the leaves, from the view's types and from what Kubernetes takes where a value ends up.

Helm checks every install, upgrade, lint and template against it: a key that is misspelt is an unknown key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfhost.manifests.chart.describe import describe, documented, summary
from selfhost.manifests.chart.rules import forms
from selfhost.manifests.chart.shapes import (
    Field,
    Group,
    Items,
    Pairs,
    Reasoned,
    Shape,
    Switch,
    Text,
    Whole,
    camel,
)
from selfhost.manifests.chart.together import ALONE
from selfhost.manifests.chart.trace import Use
from selfhost.manifests.chart.translate import NAMESPACE

DIALECT = "http://json-schema.org/draft-07/schema#"
Path = tuple[str, ...]
Schema = dict[str, Any]


def schema(
    root: Group, uses: Mapping[Path, Sequence[Use]], *, title: str, comment: str, together: Sequence[Schema]
) -> Schema:
    """The schema of the values.

    Args:
        root: type of the view.
        uses: where each value ends up.
        title: what the file is.
        comment: its first line.
        together: conditions on several values.
    """
    made = _Maker(uses=uses).group(root, ())
    return {
        "$comment": comment,
        "$schema": DIALECT,
        "title": title,
        **made,
        "allOf": list(together),
    }


def to_text(found: Schema) -> str:
    """As a file. Its first line holds the comment."""
    text = json.dumps(found, indent=2, ensure_ascii=False)
    return text.replace('{\n  "$comment"', '{ "$comment"', 1) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    uses: Mapping[Path, Sequence[Use]]
    prefixes: frozenset[Path] = field(init=False)

    def __post_init__(self) -> None:
        found = frozenset(path[:length] for path in self.uses for length in range(1, len(path) + 1))
        object.__setattr__(self, "prefixes", found)

    def group(self, shape: Group, path: Path) -> Schema:
        properties: Schema = {}
        required = []
        for key, kind, name, one in self._fields(shape, path):
            here = (*path, key)
            words = documented(kind).get(name, "")
            if not words and isinstance(one.shape, Group):
                words = summary(one.shape.kind)
            properties[key] = self.value(one, here, words)
            if not one.optional and here != (NAMESPACE,):
                required.append(key)
        return {
            "type": "object",
            "additionalProperties": False,
            "required": required,
            "properties": properties,
            **ALONE.get(shape.kind, {}),
        }

    def _fields(self, shape: Group, path: Path) -> Iterator[tuple[str, type[Any], str, Field]]:
        for name, one in shape.fields.items():
            if one.flat and isinstance(one.shape, Group):
                yield from self._fields(one.shape, path)
            elif (*path, camel(name)) in self.prefixes:
                yield camel(name), shape.kind, name, one

    def value(self, one: Field, path: Path, words: str) -> Schema:
        uses = self.uses.get(path, ())
        made = {
            "description": describe(words, uses) or "What is below it.",
            **self.shape(one.shape, path, uses),
        }
        if one.optional:
            made["type"] = [made["type"], "null"]
            if "enum" in made:
                made["enum"] = [*made["enum"], None]
        return made

    def shape(self, shape: Shape, path: Path, uses: Sequence[Use]) -> Schema:
        match shape:
            case Reasoned():
                return self.shape(shape.value, path, uses)
            case Text():
                limits = _merged(uses)
                if shape.among:
                    limits["enum"] = [one for one in shape.among if one in limits.get("enum", shape.among)]
                return {"type": "string", **limits}
            case Whole():
                return {"type": "integer", **({"minimum": 0, "maximum": 2**53 - 1} | _merged(uses))}
            case Switch():
                return {"type": "boolean"}
            case Pairs():
                return self.pairs(path, uses)
            case Items():
                item = self.value(Field(shape=shape.item), (*path, "[]"), _words(shape.item))
                return {"type": "array", "items": item, **({"minItems": 1} if _never_empty(uses) else {})}
            case Group():
                return self.group(shape, path)
            case _:
                raise TypeError(f"{'.'.join(path)} is printed, but its type is not known to charts")

    def pairs(self, path: Path, uses: Sequence[Use]) -> Schema:
        """A map of text to text. Keys are checked as names of properties, so that Helm says where one is wrong."""
        keys, values = (self.uses.get((*path, part), ()) for part in ("{key}", "{value}"))
        value = {"description": describe("", values), "type": "string", **_merged(values)}
        pattern = _merged(keys).get("pattern", "^.+$")
        made: Schema = {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {pattern: value},
        }
        return made | ({"minProperties": 1} if _never_empty(uses) else {})


def _words(shape: Shape) -> str:
    return summary(shape.kind) if isinstance(shape, Group) else ""


def _never_empty(uses: Sequence[Use]) -> bool:
    """Whether a key in an object would be left with nothing below it."""
    roles = {use.role for use in uses}
    return "sole" in roles and "guard" not in roles


def _merged(uses: Sequence[Use]) -> Schema:
    """What all places ask together: the narrowest bounds, and every pattern."""
    made: Schema = {}
    patterns: dict[str, None] = {}
    for use in uses:
        for form in forms(use):
            for key, value in form.items():
                if key == "pattern":
                    patterns[value] = None
                elif key in ("maximum", "maxLength"):
                    made[key] = min(value, made.get(key, value))
                elif key in ("minimum", "minLength"):
                    made[key] = max(value, made.get(key, value))
                else:
                    made[key] = [one for one in (made.get(key) or value) if one in value]
    if len(patterns) == 1:
        made["pattern"] = next(iter(patterns))
    elif patterns:
        made["allOf"] = [{"pattern": pattern} for pattern in patterns]
    return made
