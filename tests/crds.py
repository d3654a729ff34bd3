"""Custom resources against their own definitions in tests/schemas/, as an API server would look at them.

What is null, is no field, has the wrong type or breaks a rule in CEL is a problem. Defaults are filled in first, as the
server does; rules about changes (`oldSelf`) need an earlier object and are left to tests/test_apiserver.py.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cel
import jsonschema_rs

FOLDER = Path(__file__).parent / "schemas"
_COMBINING = ("allOf", "anyOf", "oneOf")
_COPIED = (
    "type", "enum", "format", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "required", "uniqueItems", "multipleOf", "minimum", "maximum",
)  # fmt: skip
_NAMES = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"},
        "namespace": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "annotations": _NAMES,
        "finalizers": {"type": "array", "items": {"type": "string"}},
    },
}
# CEL's reserved words, which rules of Kubernetes write as `__word__` (Kubernetes, "CEL in Kubernetes", escaping).
_RESERVED = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
    "loop", "package", "namespace", "return", "var", "void", "while",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Definition:
    """One served version of a custom resource: the server's schema, and a validator made of it."""

    schema: Mapping[str, Any]
    validator: jsonschema_rs.Draft202012Validator
    namespaced: bool


@cache
def definitions() -> tuple[dict[str, Any], ...]:
    """Every CustomResourceDefinition, ready for an API server."""
    return tuple(json.loads(gzip.decompress(path.read_bytes())) for path in sorted(FOLDER.glob("*.json.gz")))


@cache
def _known() -> dict[tuple[str, str], tuple[Any, bool]]:
    found = {}
    for definition in definitions():
        spec = definition["spec"]
        for version in spec["versions"]:
            if version["served"]:
                key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                found[key] = version["schema"]["openAPIV3Schema"], spec["scope"] == "Namespaced"
    return found


def known() -> frozenset[tuple[str, str]]:
    """apiVersion and kind of everything that is defined."""
    return frozenset(_known())


@cache
def definition(api_version: str, kind: str) -> Definition | None:
    """The definition of a kind, None where there is none."""
    found = _known().get((api_version, kind))
    if found is None:
        return None
    schema, namespaced = found
    closed = json_schema(schema)
    closed["properties"] |= {"metadata": METADATA}
    closed["required"] = sorted({*closed.get("required", ()), "apiVersion", "kind", "metadata"})
    return Definition(schema, jsonschema_rs.Draft202012Validator(closed), namespaced)


def json_schema(schema: Mapping[str, Any], *, structural: bool = True) -> dict[str, Any]:
    """JSON Schema of a structural OpenAPI schema: a field that is not named is refused, as `--validate=strict` does.

    Args:
        schema: openAPIV3Schema of a definition, or a part.
        structural: False within allOf, anyOf, oneOf and not, which repeat fields without listing them all.
    """
    made: dict[str, Any] = {key: schema[key] for key in _COPIED if key in schema}
    for word in _COMBINING:
        if word in schema:
            made[word] = [json_schema(part, structural=False) for part in schema[word]]
    if "not" in schema:
        made["not"] = json_schema(schema["not"], structural=False)
    _bounds(schema, made)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.pop("format", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    _fields(schema, made, structural=structural)
    if schema.get("nullable"):
        made["type"] = [made["type"], "null"] if "type" in made else ["null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    return made


def _bounds(schema: Mapping[str, Any], made: dict[str, Any]) -> None:
    """OpenAPI 3.0 says with a boolean that a bound is none of the values."""
    for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(word) is True and bound in made:
            made[word] = made.pop(bound)


def _fields(schema: Mapping[str, Any], made: dict[str, Any], *, structural: bool) -> None:
    if "properties" in schema:
        made["properties"] = {
            name: json_schema(part, structural=structural) for name, part in schema["properties"].items()
        }
    if "items" in schema:
        made["items"] = json_schema(schema["items"], structural=structural)
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        made["additionalProperties"] = json_schema(more, structural=structural)
    elif more is None and structural and schema.get("type") == "object":
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return
        made["additionalProperties"] = False
        properties = made.setdefault("properties", {})
        if schema.get("x-kubernetes-embedded-resource"):
            properties |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": True}


def defaulted(schema: Mapping[str, Any], value: Any) -> Any:
    """A value with the definition's defaults filled in."""
    if isinstance(value, Mapping):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        filled = {}
        for name, below in value.items():
            part = properties.get(name) or (more if isinstance(more, Mapping) else {})
            filled[name] = defaulted(part, below)
        for name, part in properties.items():
            if name not in filled and "default" in part:
                filled[name] = defaulted(part, part["default"])
        return filled
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


def problems(document: Mapping[str, Any]) -> list[str] | None:
    """What the definition of an object's kind has against it; None where its kind has no definition."""
    found = definition(document["apiVersion"], document["kind"])
    if found is None:
        return None
    filled = defaulted(found.schema, document)
    said = [f"{_path(error.instance_path)}: {error.message}" for error in found.validator.iter_errors(filled)]
    if found.namespaced != ("namespace" in document.get("metadata", {})):
        said.append(f"metadata.namespace: the kind is {'' if found.namespaced else 'not '}namespaced")
    # Rules assume the types that the schema asks for.
    return said or [*_lists(found.schema, filled, ()), *_rules(found.schema, filled, ())]


def _path(parts: Iterator[Any] | list[Any] | tuple[Any, ...]) -> str:
    return ".".join(map(str, parts)) or "object"


def _below(schema: Mapping[str, Any], value: Any) -> Iterator[tuple[Mapping[str, Any], Any, Any]]:
    """Schema, value and step of everything that is directly in a value."""
    if isinstance(value, Mapping):
        more = schema.get("additionalProperties")
        for name, item in value.items():
            part = schema.get("properties", {}).get(name) or more
            if isinstance(part, Mapping):
                yield part, item, name
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield schema["items"], item, number


def _lists(schema: Mapping[str, Any], value: Any, path: tuple[Any, ...]) -> Iterator[str]:
    """Lists that are maps or sets and hold something twice."""
    if isinstance(value, list):
        kind = schema.get("x-kubernetes-list-type")
        if kind == "map":
            keys = [
                json.dumps([item.get(key) for key in schema["x-kubernetes-list-map-keys"]]) for item in value
            ]
        else:
            keys = [json.dumps(item, sort_keys=True) for item in value] if kind == "set" else []
        for key in sorted({key for key in keys if keys.count(key) > 1}):
            yield f"{_path(path)}: {key} is there twice"
    for part, item, step in _below(schema, value):
        yield from _lists(part, item, (*path, step))


def _rules(schema: Mapping[str, Any], value: Any, path: tuple[Any, ...]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{_path(path)}: {rule.get('message') or rule['rule']}"
    for part, item, step in _below(schema, value):
        yield from _rules(part, item, (*path, step))


@cache
def _program(rule: str) -> Any:
    return cel.compile(rule)


def _holds(rule: str, value: Any) -> bool:
    return _program(rule).execute({"self": _escaped(value)}) is True


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {f"__{key}__" if key in _RESERVED else key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value
