"""What belongs to something that is gone goes too (pkg/controller/garbagecollector, 1.36)."""

from __future__ import annotations

from tests.fakes.kube.controllers.tools import Tools
from tests.fakes.kube.wire import Object, at, deleting, namespace_of, owners_of, uid_of

_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


def sync(tools: Tools, uid: str, what: str) -> float | None:
    """After an object of that UID has gone; or, without one, whether an object's owners are there."""
    if uid:
        for one in _dependants(tools, uid):
            _judge(tools, one)
        return None
    api_version, kind, place = what.split(" ")
    namespace, _, name = place.partition("/")
    served = tools.store.named(api_version, kind)
    found = tools.store.find(served, namespace, name) if served is not None else None
    if found is not None:
        _judge(tools, found)
    return None


def _dependants(tools: Tools, uid: str) -> list[Object]:
    return [
        one for one in tools.store.everything() if any(owner.get("uid") == uid for owner in owners_of(one))
    ]


def _judge(tools: Tools, item: Object) -> None:
    """Goes when none of its owners is there."""
    if deleting(item):
        return
    for owner in owners_of(item):
        kind = tools.store.named(owner["apiVersion"], owner["kind"])
        if kind is None:
            continue
        found = tools.store.find(kind, namespace_of(item) if kind.namespaced else "", owner["name"])
        if found is not None and uid_of(found) == owner["uid"]:
            return
    tools.delete(item)


def sync_owner(tools: Tools, namespace: str, what: str) -> float | None:
    """An object that waits for its dependants: those of it that are left."""
    api_version, kind_name, name = what.split(" ")
    kind = tools.store.named(api_version, kind_name)
    item = tools.store.find(kind, namespace, name) if kind is not None else None
    if item is None or kind is None or not deleting(item):
        return None
    finalizers = at(item, "metadata", "finalizers") or []
    dependants = _dependants(tools, uid_of(item))
    if _ORPHAN in finalizers:
        for one in dependants:
            left = [owner for owner in owners_of(one) if owner.get("uid") != uid_of(item)]
            tools.change(one, {"metadata": {"ownerReferences": left or None}})
        _release(tools, item, _ORPHAN)
    elif _FOREGROUND in finalizers:
        for one in dependants:
            if not deleting(one):
                tools.delete(one, "Foreground" if _dependants(tools, uid_of(one)) else "Background")
        if not _dependants(tools, uid_of(item)):
            _release(tools, item, _FOREGROUND)
    return None


def _release(tools: Tools, item: Object, finalizer: str) -> None:
    kind = tools.kind(item["kind"], item["apiVersion"])
    metadata = dict(item["metadata"])
    left = [one for one in metadata.get("finalizers") or () if one != finalizer]
    metadata.pop("finalizers", None)
    metadata |= {"finalizers": left} if left else {}
    tools.verbs.finish(kind, item | {"metadata": metadata})
