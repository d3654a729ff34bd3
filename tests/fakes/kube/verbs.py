"""What can be done with objects: create, apply, patch, update, delete, as the API server does each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.kube import ssa
from tests.fakes.kube.admission import Admission
from tests.fakes.kube.defaults import defaulted
from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.patches import patched
from tests.fakes.kube.store import Store, absent, same
from tests.fakes.kube.strategy import (
    check_deletion,
    check_identity,
    check_preconditions,
    counts_generations,
    grace_of,
    identified,
    kept,
    may_go,
    prepared,
    stamp,
)
from tests.fakes.kube.validation import check
from tests.fakes.kube.wire import Object, RefusalError, at, clone, deleting, name_of, now, uid_of

_RESET_STATUS = ("Service", "PersistentVolumeClaim", "PersistentVolume", "Namespace", "Pod", "Node")
_TWICE = ("PersistentVolumeClaim", "Job")
_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How something is written.

    Args:
        user: who asks.
        manager: whose fields they become.
        dry_run: only say what would be.
        strict: a field that there is not is an error; else it is left out.
        warnings: what is said beside the answer is put there.
    """

    user: str = "system:serviceaccount:kube-system:controller"
    manager: str = "kube-controller-manager"
    dry_run: bool = False
    force: bool = False
    strict: bool = False
    warnings: list[str]


class Verbs:
    """The API without its wire."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self.store = store
        self.admission = admission
        # the server writes these down once more when they are applied for the second time, though nothing is new
        self._first: set[str] = set()

    # -- making and changing ----------------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, item: Object, how: Writing) -> Object:
        """A new object."""
        with self.store.lock:
            made = identified(kind, namespace, item)
            if self.store.find(kind, namespace, name_of(made)) is not None:
                details = {"name": name_of(made)} | ({"group": kind.group} if kind.group else {})
                raise RefusalError(
                    409, "AlreadyExists", f'{kind.resource} "{name_of(made)}" already exists',
                    details=details | {"kind": kind.plural},
                )  # fmt: skip
            return self._begin(kind, made, how, applied=False)

    def apply(
        self, kind: Kind, namespace: str, name: str, wanted: Object, how: Writing, subresource: str = ""
    ) -> tuple[Object, bool]:
        """Server-side apply: the object, and whether it is new."""
        with self.store.lock:
            check_identity(kind, namespace, name, wanted)
            called = str(at(wanted, "metadata", "namespace") or "")
            wanted = wanted | {"metadata": wanted.get("metadata", {}) | {"name": name}}
            if kind.namespaced:
                wanted["metadata"]["namespace"] = namespace
            live = self.store.find(kind, namespace, name)
            if live is None:
                if at(wanted, "metadata", "uid") or at(wanted, "metadata", "resourceVersion") or subresource:
                    raise absent(kind, name)
                made = ssa.apply(kind, None, wanted, how.manager, force=how.force, called=called)
                return self._begin(kind, identified(kind, namespace, made), how, applied=True), True
            check_preconditions(kind, live, wanted)
            after = ssa.apply(
                kind, live, wanted, how.manager, force=how.force, subresource=subresource, called=called
            )
            return self._change(kind, live, after, how, subresource, applied=True), False

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Any,
        form: str,
        how: Writing,
        subresource: str = "",
    ) -> Object:
        """Any other patch."""
        with self.store.lock:
            live = self.store.get(kind, namespace, name)
            after = patched(kind, live, change, form)
            check_preconditions(kind, live, after)
            return self._change(kind, live, after, how, subresource, applied=False)

    def update(
        self, kind: Kind, namespace: str, name: str, item: Object, how: Writing, subresource: str = ""
    ) -> Object:
        """Put an object in the place of what is there."""
        with self.store.lock:
            check_identity(kind, namespace, name, item)
            live = self.store.get(kind, namespace, name)
            check_preconditions(kind, live, item)
            return self._change(kind, live, clone(item), how, subresource, applied=False)

    def _begin(self, kind: Kind, made: Object, how: Writing, *, applied: bool) -> Object:
        if kind.status and kind.name not in _RESET_STATUS and kind.name != "CustomResourceDefinition":
            made = {key: value for key, value in made.items() if key != "status"}
        check(kind, None, made, strict=how.strict, warnings=how.warnings)
        made = defaulted(kind, made)
        if not applied:
            made = ssa.track(kind, None, made, how.manager)
        made = prepared(kind, defaulted(kind, self.admission.mutate(kind, None, made, how.user)))
        if counts_generations(kind):
            made["metadata"]["generation"] = 1
        check(kind, None, made, strict=False, warnings=[])
        self.admission.validate(kind, None, made, how.user, how.warnings)
        if how.dry_run:
            return made
        stored = self.store.put(kind, made)
        if applied and kind.name in _TWICE:
            self._first.add(uid_of(stored))
        if kind.name == "CustomResourceDefinition":
            self.store.define(stored)
        return stored

    def _change(
        self, kind: Kind, live: Object, after: Object, how: Writing, subresource: str, *, applied: bool
    ) -> Object:
        after = kept(kind, live, after, subresource)
        check(kind, None, after, strict=how.strict, warnings=how.warnings)
        if subresource != "status":
            after = self.admission.mutate(kind, live, after, how.user)
        after = defaulted(kind, after)
        if subresource != "status":
            check(kind, live, after, strict=False, warnings=[])
        if not applied:
            after = ssa.track(kind, live, after, how.manager, subresource)
        if same(_timeless(live), _timeless(after)):
            if uid_of(live) in self._first and applied and not how.dry_run:
                self._first.discard(uid_of(live))
                return self.store.put(kind, live)
            return live
        if counts_generations(kind) and subresource != "status" and _spec(live) != _spec(after):
            after["metadata"]["generation"] = int(at(live, "metadata", "generation") or 0) + 1
        if subresource != "status":
            self.admission.validate(kind, live, after, how.user, how.warnings)
        if how.dry_run:
            return after
        self._first.discard(uid_of(live))
        if may_go(kind, after):
            self._gone(kind, after)
            return after
        return self.store.put(kind, after)

    # -- deleting ---------------------------------------------------------------------------------------------------

    def delete(
        self, kind: Kind, namespace: str, name: str, options: Mapping[str, Any], *, dry_run: bool = False
    ) -> tuple[Object, bool]:
        """Delete an object: what is left of it, and whether it is gone."""
        with self.store.lock:
            live = self.store.get(kind, namespace, name)
            check_deletion(kind, live, options.get("preconditions") or {})
            after = clone(live)
            metadata = after["metadata"]
            policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "")
            finalizers = [one for one in metadata.get("finalizers", ()) if one not in (_FOREGROUND, _ORPHAN)]
            if policy == "Foreground":
                finalizers.append(_FOREGROUND)
            elif policy == "Orphan":
                finalizers.append(_ORPHAN)
            elif not policy:
                finalizers = list(metadata.get("finalizers", ()))
            if finalizers:
                metadata["finalizers"] = finalizers
            else:
                metadata.pop("finalizers", None)
            grace = grace_of(kind, live, options.get("gracePeriodSeconds"))
            if kind.name == "Namespace" and not dry_run:
                after["status"] = {"phase": "Terminating"}
                stamp(metadata, 0)
                return (self.store.put(kind, after) if not deleting(live) else live), False
            if kind.name == "Pod":
                stamp(metadata, grace)
            if not finalizers and grace == 0:
                return (live if dry_run else self._gone(kind, after)), True
            stamp(metadata, grace)
            if dry_run or same(live, after):
                return after if dry_run else live, False
            return self.store.put(kind, after), False

    def finish(self, kind: Kind, item: Object) -> Object:
        """Write an object whose finalizers have changed; it goes when it can."""
        with self.store.lock:
            return self._gone(kind, item) if may_go(kind, item) else self.store.put(kind, item)

    def _gone(self, kind: Kind, item: Object) -> Object:
        if kind.name == "CustomResourceDefinition":
            self.store.undefine(item)
        return self.store.remove(kind, item)


def bind(verbs: Verbs, pod: Object, node: str) -> Object:
    """Give a pod its node (pkg/registry/core/pod/storage, BindingREST)."""
    kind = verbs.store.named("v1", "Pod")
    assert kind is not None
    conditions = [one for one in at(pod, "status", "conditions") or () if one["type"] != "PodScheduled"]
    conditions.append(
        {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
    )
    return verbs.store.put(kind, pod | {
        "spec": pod["spec"] | {"nodeName": node},
        "status": (pod.get("status") or {}) | {"conditions": conditions},
    })  # fmt: skip


def writing(**how: Any) -> Writing:
    """How a controller writes."""
    return replace(Writing(warnings=[]), **how)


def _spec(item: Object) -> Object:
    return {
        key: value for key, value in item.items() if key not in ("metadata", "status", "apiVersion", "kind")
    }


def _timeless(item: Object) -> Object:
    """An object without what does not count as a change."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}
    metadata["managedFields"] = [
        {key: value for key, value in one.items() if key != "time"}
        for one in metadata.get("managedFields") or ()
    ]
    return item | {"metadata": metadata}
