"""Where objects are: every version, and what has changed since, for those who watch.

What is stored is never changed in place: whoever reads may keep it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.fakes.kube.kinds import Kind, defined_kinds, own_kinds
from tests.fakes.kube.wire import Object, RefusalError, name_of, namespace_of

Key = tuple[str, str]  # namespace and name
_KEPT = 20_000  # changes that a watch can go back


@dataclass(frozen=True, slots=True)
class Change:
    """One write: `before` is None of a new object, `after` of one that is gone."""

    version: int
    kind: Kind
    before: Object | None
    after: Object | None

    @property
    def item(self) -> Object:
        found = self.after if self.after is not None else self.before
        assert found is not None
        return found


class Store:
    """Objects by kind, namespace and name. Everything that writes holds `lock`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 100
        self.oldest = 100  # a watch from before this has expired
        self.epoch = 0  # rises when watches are told that they have expired
        self.history: list[Change] = []
        self.listeners: list[Callable[[Change], None]] = []
        self._objects: dict[tuple[str, str], dict[Key, Object]] = {}
        self.kinds: list[Kind] = list(own_kinds())

    # -- kinds ----------------------------------------------------------------------------------------------------

    def kind(self, group: str, version: str, plural: str) -> Kind | None:
        """A kind by its address."""
        return next(
            (one for one in self.kinds if (one.group, one.version, one.plural) == (group, version, plural)), None
        )  # fmt: skip

    def named(self, api_version: str, name: str) -> Kind | None:
        """A kind as objects name it."""
        return next((one for one in self.kinds if (one.api_version, one.name) == (api_version, name)), None)

    def define(self, definition: Object) -> None:
        """Serve the kinds of a CustomResourceDefinition."""
        new = defined_kinds(definition)
        self.kinds = [one for one in self.kinds if one not in new] + list(new)

    def undefine(self, definition: Object) -> None:
        """Serve them no more."""
        gone = defined_kinds(definition)
        self.kinds = [one for one in self.kinds if one not in gone]

    # -- objects --------------------------------------------------------------------------------------------------

    def _of(self, kind: Kind) -> dict[Key, Object]:
        return self._objects.setdefault((kind.group, kind.plural), {})

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """An object, None where there is none."""
        return self._of(kind).get((namespace if kind.namespaced else "", name))

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """An object.

        Raises:
            RefusalError: there is none.
        """
        found = self.find(kind, namespace, name)
        if found is None:
            raise absent(kind, name)
        return found

    def all(self, kind: Kind, namespace: str = "") -> list[Object]:
        """Objects of a kind by namespace and name."""
        with self.lock:
            found = self._of(kind)
            return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def everything(self) -> list[Object]:
        """Every object of every kind."""
        with self.lock:
            return [one for _, held in sorted(self._objects.items()) for _, one in sorted(held.items())]

    def put(self, kind: Kind, item: Object) -> Object:
        """Write an object under a new resource version, and tell who watches; what it became."""
        with self.lock:
            key = (namespace_of(item) if kind.namespaced else "", name_of(item))
            before = self._of(kind).get(key)
            self.version += 1
            stored = item | {"metadata": item["metadata"] | {"resourceVersion": str(self.version)}}
            self._of(kind)[key] = stored
            self._record(Change(self.version, kind, before, stored))
            return stored

    def remove(self, kind: Kind, item: Object) -> Object:
        """Take an object away; what it was, under the version of its end."""
        with self.lock:
            key = (namespace_of(item) if kind.namespaced else "", name_of(item))
            self._of(kind).pop(key, None)
            self.version += 1
            last = item | {"metadata": item["metadata"] | {"resourceVersion": str(self.version)}}
            self._record(Change(self.version, kind, last, None))
            return last

    def _record(self, change: Change) -> None:
        self.history.append(change)
        if len(self.history) > _KEPT:
            self.oldest = self.history[_KEPT // 2].version
            del self.history[: _KEPT // 2]
        for tell in self.listeners:
            tell(change)
        self.changed.notify_all()

    def compact(self) -> None:
        """Forget what has changed so far: watches that go on from there are told that they have expired."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self.epoch += 1
            self.history.clear()
            self.changed.notify_all()

    def since(self, version: int, kind: Kind, namespace: str) -> Iterable[Change]:
        """Changes of a kind after a version. The caller holds the lock."""
        found = []
        for change in reversed(self.history):
            if change.version <= version:
                break
            same_kind = (change.kind.group, change.kind.plural) == (kind.group, kind.plural)
            if same_kind and (not namespace or namespace_of(change.item) == namespace):
                found.append(change)
        return reversed(found)


def absent(kind: Kind, name: str) -> RefusalError:
    """404 of an object."""
    details: Object = {"name": name} | ({"group": kind.group} if kind.group else {}) | {"kind": kind.plural}
    return RefusalError(404, "NotFound", f'{kind.resource} "{name}" not found', details=details)


def same(one: Object, other: Object) -> bool:
    """Whether two objects are written alike."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
