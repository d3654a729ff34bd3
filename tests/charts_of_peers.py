"""Values of other projects' charts against the schemas that they bring, and stricter: a key they do not name fails."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

FOLDER = Path(__file__).parent / "data" / "charts"
_ACTION = re.compile(r"\{\{`([^`]*)`\}\}")


@cache
def schema(chart: str) -> Any:
    """The chart's own schema."""
    return json.loads(gzip.decompress((FOLDER / f"{chart}.json.gz").read_bytes()))


def problems(chart: str, values: Any, *, known: frozenset[str] = frozenset()) -> list[str]:
    """What the schema has against the values, and keys that it does not name.

    Args:
        chart: whose schema.
        values: of the chart.
        known: dotted keys that the chart's templates read and its schema leaves out.
    """
    found = jsonschema_rs.validator_for(schema(chart)).iter_errors(without_nulls(values))
    said = [f"{'.'.join(map(str, one.instance_path))}: {one.message}" for one in found]
    return [
        *said,
        *(f"{path}: no such key" for path in _unknown(schema(chart), values, "") if path not in known),
    ]


def without_nulls(value: Any) -> Any:
    """Values as Helm sees them: null takes a default of the chart away."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _unknown(schema_part: Any, value: Any, path: str) -> Iterator[str]:
    """Keys of objects whose keys the schema lists, but not these; [] stands for any element."""
    named = schema_part.get("properties")
    if isinstance(value, Mapping) and named:
        for key, item in value.items():
            where = f"{path}.{key}".lstrip(".")
            if key in named:
                yield from _unknown(named[key], item, where)
            elif schema_part.get("additionalProperties") is not True or path == "":
                yield where
    elif isinstance(value, list) and isinstance(schema_part.get("items"), Mapping):
        for item in value:
            yield from _unknown(schema_part["items"], item, f"{path}[]")


def executed(text: str) -> str:
    """What Go's text/template makes of a text whose only actions print a raw string."""
    assert "{{" not in _ACTION.sub("", text)
    return _ACTION.sub(lambda found: found[1], text)
