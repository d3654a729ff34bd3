"""Who owns which field: server-side apply, and the bookkeeping of everybody else's writes (metadata.managedFields).

After structured-merge-diff v6 (merge/update.go) and apimachinery's managedfields (1.36).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fakes.kube import fieldsets
from tests.fakes.kube.fieldsets import Fields, UndeclaredError
from tests.fakes.kube.kinds import Kind, Shape, shape_of
from tests.fakes.kube.wire import Object, Path, RefusalError, clone, name_of, namespace_of, now

# managedfields/internal/stripmeta.go: nobody owns these.
_NOBODYS: Fields = frozenset(
    [("f:apiVersion",), ("f:kind",), ("f:metadata",)]
    + [
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
            "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
        )
    ]
)  # fmt: skip
# Structs that a Go value has even when it is empty: a field set never names them.
_ALWAYS: tuple[Path, ...] = (
    ("f:spec",), ("f:status",), ("f:spec", "f:template"), ("f:spec", "f:template", "f:metadata"),
    ("f:spec", "f:template", "f:spec"), ("f:spec", "f:strategy"), ("f:spec", "f:resources"),
    ("f:status", "f:loadBalancer"), ("f:spec", "f:updateStrategy"), ("f:spec", "f:scaleTargetRef"),
    ("f:spec", "f:podSelector"), ("f:spec", "f:containers"), ("f:spec", "f:template", "f:spec", "f:containers"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of managedFields."""

    manager: str
    operation: str
    api_version: str
    time: str
    fields: Fields
    subresource: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Who it is: an applier is the same whatever version it uses."""
        version = "" if self.operation == "Apply" else self.api_version
        return (self.manager, self.operation, version, self.subresource)

    @property
    def called(self) -> str:
        """As conflicts call it (managedfields/internal/conflict.go)."""
        text = f'"{self.manager}"'
        text += f' with subresource "{self.subresource}"' if self.subresource else ""
        return text + (f" using {self.api_version}" if self.operation == "Update" else "")


def read(item: Object) -> list[Entry]:
    """An object's managedFields."""
    return [
        Entry(
            one.get("manager", ""), one.get("operation", ""), one.get("apiVersion", ""), one.get("time", ""),
            fieldsets.decode(one.get("fieldsV1") or {}), one.get("subresource", ""),
        )
        for one in (item.get("metadata") or {}).get("managedFields") or ()
    ]  # fmt: skip


def write(item: Object, entries: list[Entry]) -> Object:
    """An object with its managedFields; appliers first, then by time, as the server sorts them."""
    ordered = sorted(entries, key=lambda one: (one.operation != "Apply", one.time, one.manager))
    listed = []
    for one in ordered:
        if not one.fields:
            continue
        row: Object = {
            "manager": one.manager, "operation": one.operation, "apiVersion": one.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": fieldsets.encode(one.fields),
        }  # fmt: skip
        row |= {"time": one.time} if one.time else {}
        listed.append(row | ({"subresource": one.subresource} if one.subresource else {}))
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return item | {"metadata": metadata | ({"managedFields": listed} if listed else {})}


def bare(item: Object) -> Object:
    """An object without its managedFields."""
    return item | {
        "metadata": {k: v for k, v in (item.get("metadata") or {}).items() if k != "managedFields"}
    }


def owned(fields: Fields, *, subresource: str, status: bool) -> Fields:
    """The fields that can be owned: none of identity, and none that this request resets."""
    found = fields - _NOBODYS
    if not status:
        return found
    if subresource == "status":
        return frozenset(one for one in found if one[0] == "f:status")
    return frozenset(one for one in found if one[0] != "f:status")


def track(kind: Kind, before: Object | None, after: Object, manager: str, subresource: str = "") -> Object:
    """After a write that is no apply: the writer owns what it changed."""
    shape = shape_of(kind)
    old = bare(before) if before is not None else {"metadata": {}}
    added, modified, removed = fieldsets.changes(old, bare(after), shape)
    if before is None:
        added -= frozenset(_ALWAYS)
    changed = owned(added | modified, subresource=subresource, status=kind.status)
    entries = read(before) if before is not None else []
    me = Entry(manager, "Update", kind.api_version, now(), frozenset(), subresource)
    found: list[Entry] = []
    mine = frozenset[Path]()
    for one in entries:
        left = one.fields - removed
        if one.key == me.key:
            mine = left
            me = Entry(manager, "Update", kind.api_version, one.time, frozenset(), subresource)
            continue
        left -= changed
        found.append(
            one if left == one.fields
            else Entry(one.manager, one.operation, one.api_version, one.time, left, one.subresource)
        )  # fmt: skip
    both = mine | changed
    stamp = "" if subresource == "scale" else me.time if not changed else now()
    if both:
        found.append(Entry(manager, "Update", kind.api_version, stamp, both, subresource))
    return write(after, found)


def apply(
    kind: Kind, live: Object | None, wanted: Object, manager: str, *, force: bool, subresource: str = "",
    called: str | None = None,
) -> Object:  # fmt: skip
    """Live with what a manager says of it.

    Args:
        kind: of the object.
        live: None where there is none.
        wanted: all that the manager says.
        manager: who.
        force: take over what others own.
        subresource: `status`, `scale` or empty.
        called: its namespace as errors say it: as the request's body does.

    Raises:
        RefusalError: a field that there is not, or conflicts.
    """
    shape = shape_of(kind)
    place = namespace_of(wanted) if called is None else called
    typed = f"{place}/{name_of(wanted)}; {kind.api_version}, Kind={kind.name}"
    if (wanted.get("metadata") or {}).get("managedFields"):
        raise RefusalError(400, "BadRequest", "metadata.managedFields must be nil")
    said = _without_nulls(wanted)
    if kind.status and subresource != "status":
        said = {key: value for key, value in said.items() if key != "status"}
    try:
        mine = owned(fieldsets.members(said, shape), subresource=subresource, status=kind.status)
    except UndeclaredError as error:
        raise RefusalError(500, "", f"failed to create typed patch object ({typed}): {error}") from None
    before: Object = bare(live) if live is not None else {
        "apiVersion": kind.api_version, "kind": kind.name, "metadata": {},
    }  # fmt: skip
    entries = read(live) if live is not None else []
    me = (manager, "Apply", "", subresource)
    last = next((one.fields for one in entries if one.key == me), frozenset[Path]())
    others = [one for one in entries if one.key != me]
    after = fieldsets.merged(clone(before), said, shape)
    after = _pruned(after, shape, last, mine, others)
    added, modified, removed = fieldsets.changes(before, after, shape)
    kept = _settled(others, added | modified, removed, force=force)
    changed = bool(added | modified | removed)
    stamp = next((one.time for one in entries if one.key == me and one.fields == mine and not changed), now())
    kept.append(Entry(manager, "Apply", kind.api_version, stamp, mine, subresource))
    return write(after, kept)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _pruned(value: Any, shape: Shape, last: Fields, mine: Fields, others: list[Entry]) -> Any:
    """Less what the manager has said before, says no more, and nobody else says."""
    candidates = fieldsets.named_parents(last) - fieldsets.named_parents(mine)
    if not candidates:
        return value
    held = mine.union(*(one.fields for one in others))
    needed = {path[:end] for path in held for end in range(1, len(path) + 1)}
    return fieldsets.without(value, shape, frozenset(candidates - needed))


def _settled(others: list[Entry], changed: Fields, removed: Fields, *, force: bool) -> list[Entry]:
    """What the others own afterwards.

    Raises:
        RefusalError: a change of theirs that is not forced.
    """
    clashes = [(one, sorted(one.fields & changed)) for one in others]
    clashes = [(one, paths) for one, paths in clashes if paths]
    if clashes and not force:
        raise _conflict(clashes)
    return [
        Entry(one.manager, one.operation, one.api_version, one.time, one.fields - changed - removed, one.subresource)
        for one in others
    ]  # fmt: skip


def _conflict(clashes: list[tuple[Entry, list[Path]]]) -> RefusalError:
    """409 in the server's words: one manager in a line where it is alone, else a list."""
    clashes = sorted(clashes, key=lambda one: one[0].called)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {one.called}", "field": fieldsets.dotted(path)}
        for one, paths in clashes
        for path in paths
    ]  # fmt: skip
    if len(causes) == 1:
        words = f"{causes[0]['message']}: {causes[0]['field']}"
    else:
        words = "\n".join(
            f"conflict{'s' if len(paths) > 1 else ''} with {one.called}"
            + (f": {fieldsets.dotted(paths[0])}" if len(paths) == 1 else "")
            + "".join(f"\n- {fieldsets.dotted(path)}" for path in paths if len(paths) > 1)
            for one, paths in clashes
        )
        words = words.replace(":\n-", "\n-")
        words = "\n".join(
            line + ":" if line.startswith("conflicts with") else line for line in words.split("\n")
        )
    count = len(causes)
    return RefusalError(
        409, "Conflict", f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {words}",
        details={"causes": causes},
    )  # fmt: skip
