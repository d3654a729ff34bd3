"""Sets of fields as server-side apply keeps them: paths like (f:spec, f:replicas), and FieldsV1, their written form.

After sigs.k8s.io/structured-merge-diff v6 (fieldpath, typed): a field of a struct is `f:NAME`, an item of a list with
keys `k:{...}` of them, an item of a set `v:VALUE`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.fakes.kube.kinds import Shape
from tests.fakes.kube.wire import Path, RefusalError

Fields = frozenset[Path]
_INNER = object()  # a struct or a list whose items are fields of their own


class UndeclaredError(Exception):
    """A field that the schema does not have."""


def element(item: Any, shape: Shape) -> str:
    """The path element of a list's item."""
    if shape.form == "set":
        return "v:" + json.dumps(item, separators=(",", ":"))
    inner = shape.item()
    keys = {key: item.get(key, inner.default(key)) for key in sorted(shape.keys)}
    keys = {key: value for key, value in keys.items() if value is not None}
    return "k:" + json.dumps(keys, separators=(",", ":"))


def flat(value: Any, shape: Shape, path: Path = ()) -> dict[Path, Any]:
    """Every node below a value: leaves with what they hold, others with a mark."""
    if value is None:
        return {path: None} if path else {}
    if shape.form in ("struct", "unknown") and isinstance(value, dict):
        found: dict[Path, Any] = {path: _INNER}
        for name, inner in value.items():
            below = shape.field(name)
            if below is None:
                raise UndeclaredError(f"{dotted((*path, f'f:{name}'))}: field not declared in schema")
            found |= flat(inner, below, (*path, f"f:{name}"))
        return found
    if shape.form == "keyed" and isinstance(value, list):
        found = {path: _INNER}
        inner_shape = shape.item()
        for one in value:
            found |= flat(one, inner_shape, (*path, element(one, shape)))
        return found
    if shape.form == "set" and isinstance(value, list):
        return {path: _INNER} | {(*path, element(one, shape)): one for one in value}
    return {path: value}


def members(value: Any, shape: Shape) -> Fields:
    """The fields that somebody who applies this says: leaves, items of lists, and what is empty."""
    nodes = flat(value, shape)
    parents = {path[:-1] for path in nodes if path}
    return frozenset(
        path
        for path, held in nodes.items()
        if path and (held is not _INNER or path not in parents or path[-1][:2] in ("k:", "v:"))
    )


def changes(before: Any, after: Any, shape: Shape) -> tuple[Fields, Fields, Fields]:
    """Fields added, modified and removed."""
    old, new = flat(before, shape), flat(after, shape)
    added = frozenset(path for path in new if path and path not in old)
    removed = frozenset(path for path in old if path and path not in new)
    modified = frozenset(
        path
        for path, held in new.items()
        if path in old
        and held is not old[path]
        and (held is _INNER or old[path] is _INNER or held != old[path])
    )
    return added, modified, removed


def encode(fields: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1."""
    tree: dict[str, Any] = {}
    for path in sorted(fields):
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place["."] = {}
    return _pruned(tree)


def _pruned(tree: dict[str, Any]) -> dict[str, Any]:
    """A member without children is written {}; one with children has the mark `.`."""
    return {
        name: ({} if name == "." or set(inner) == {"."} else _pruned(inner))
        for name, inner in sorted(tree.items())
    }


def decode(tree: dict[str, Any], path: Path = ()) -> Fields:
    """Fields of FieldsV1."""
    found: set[Path] = set()
    for name, inner in tree.items():
        if name == ".":
            found.add(path)
        elif not inner:
            found.add((*path, name))
        else:
            found |= decode(inner, (*path, name))
    return frozenset(found)


def dotted(path: Path) -> str:
    """As conflicts name it: .spec.template.spec.containers[name="c"].image."""
    text = ""
    for part in path:
        if part.startswith("f:"):
            text += f".{part[2:]}"
        elif part.startswith("k:"):
            keys = json.loads(part[2:])
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"
        else:
            text += f"[={part[2:]}]"
    return text


def named_parents(fields: Fields) -> Fields:
    """With every struct that they are in as a member too (EnsureNamedFieldsAreMembers)."""
    found = set(fields)
    for path in fields:
        found.update(path[:end] for end in range(1, len(path)) if path[end - 1].startswith("f:"))
    return frozenset(found)


def without(value: Any, shape: Shape, gone: Fields, path: Path = ()) -> Any:
    """A value less the fields that go."""
    if shape.form in ("struct", "unknown") and isinstance(value, dict):
        return {
            name: without(inner, shape.field(name) or shape, gone, (*path, f"f:{name}"))
            for name, inner in value.items()
            if (*path, f"f:{name}") not in gone
        }
    if shape.form in ("keyed", "set") and isinstance(value, list):
        inner_shape = shape.item()
        return [
            without(one, inner_shape, gone, (*path, element(one, shape)))
            for one in value
            if (*path, element(one, shape)) not in gone
        ]
    return value


def merged(live: Any, wanted: Any, shape: Shape) -> Any:
    """Live with what is wanted laid over it."""
    if wanted is None or live is None:
        return wanted
    if shape.form in ("struct", "unknown") and isinstance(live, dict) and isinstance(wanted, dict):
        result = dict(live)
        for name, inner in wanted.items():
            below = shape.field(name) or shape
            result[name] = merged(live[name], inner, below) if name in live else inner
        return result
    if shape.form in ("keyed", "set") and isinstance(live, list) and isinstance(wanted, list):
        return _merged_list(live, wanted, shape)
    return wanted


def _merged_list(live: list[Any], wanted: list[Any], shape: Shape) -> list[Any]:
    """In the order of what is live; what both have moves to where the wanted list has it."""
    inner = shape.item()
    old = {element(one, shape): one for one in live}
    new = {element(one, shape): one for one in wanted}
    if len(new) != len(wanted):
        raise RefusalError(500, "", "failed to create typed patch object: duplicate entries for key")
    result = []
    rest = list(new)
    for key, held in old.items():
        if key not in new:
            result.append(held)
        elif rest and rest[0] == key:
            result.append(merged(held, new[rest.pop(0)], inner))
    return result + [merged(old[key], new[key], inner) if key in old else new[key] for key in rest]
