"""What can be done with objects: create, apply, patch, update, delete, as the API server does each of them."""

from __future__ import annotations

import copy
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.kube import ssa
from tests.fakes.kube.admission import Admission
from tests.fakes.kube.defaults import defaulted
from tests.fakes.kube.kinds import Kind, own_kinds
from tests.fakes.kube.patches import patched
from tests.fakes.kube.store import Store, absent, same
from tests.fakes.kube.validation import check
from tests.fakes.kube.wire import Object, Refused, at, deleting, name_of, now, uid_of

_GENERATED = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "NetworkPolicy", "Ingress",
              "PodDisruptionBudget", "Pod")  # fmt: skip
_RESET_STATUS = ("Service", "PersistentVolumeClaim", "PersistentVolume", "Namespace", "Pod", "Node")
_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


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


def random_suffix() -> str:
    """Five letters, as generated names end in."""
    return "".join(random.choices(_LETTERS, k=5))


class Verbs:
    """The API without its wire."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self.store = store
        self.admission = admission

    # -- making and changing ----------------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, item: Object, how: Writing) -> Object:
        """A new object."""
        with self.store.lock:
            made = _identified(kind, namespace, item)
            if self.store.find(kind, namespace, name_of(made)) is not None:
                details = {"name": name_of(made)} | ({"group": kind.group} if kind.group else {})
                raise Refused(
                    409, "AlreadyExists", f'{kind.resource} "{name_of(made)}" already exists',
                    details=details | {"kind": kind.plural},
                )  # fmt: skip
            return self._begin(kind, namespace, made, how, applied=False)

    def apply(
        self, kind: Kind, namespace: str, name: str, wanted: Object, how: Writing, subresource: str = ""
    ) -> tuple[Object, bool]:
        """Server-side apply: the object, and whether it is new."""
        with self.store.lock:
            _check_identity(kind, namespace, name, wanted)
            wanted = wanted | {"metadata": wanted.get("metadata", {}) | {"name": name}}
            if kind.namespaced:
                wanted["metadata"]["namespace"] = namespace
            live = self.store.find(kind, namespace, name)
            if live is None:
                if at(wanted, "metadata", "uid") or at(wanted, "metadata", "resourceVersion") or subresource:
                    raise absent(kind, name)
                made = ssa.apply(kind, None, wanted, how.manager, force=how.force)
                return self._begin(
                    kind, namespace, _identified(kind, namespace, made), how, applied=True
                ), True
            _check_preconditions(kind, live, wanted)
            after = ssa.apply(kind, live, wanted, how.manager, force=how.force, subresource=subresource)
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
            _check_preconditions(kind, live, after)
            return self._change(kind, live, after, how, subresource, applied=False)

    def update(
        self, kind: Kind, namespace: str, name: str, item: Object, how: Writing, subresource: str = ""
    ) -> Object:
        """Put an object in the place of what is there."""
        with self.store.lock:
            _check_identity(kind, namespace, name, item)
            live = self.store.get(kind, namespace, name)
            _check_preconditions(kind, live, item)
            return self._change(kind, live, copy.deepcopy(item), how, subresource, applied=False)

    def _begin(self, kind: Kind, namespace: str, made: Object, how: Writing, *, applied: bool) -> Object:
        if kind.status and kind.name not in _RESET_STATUS and kind.name != "CustomResourceDefinition":
            made = {key: value for key, value in made.items() if key != "status"}
        check(kind, None, made, strict=how.strict, warnings=how.warnings)
        made = self.admission.mutate(kind, None, made, how.user)
        made = defaulted(kind, made)
        if kind in own_kinds() and kind.status:
            made.setdefault("status", {})
        if _counts(kind):
            made["metadata"]["generation"] = 1
        check(kind, None, made, strict=False, warnings=[])
        self.admission.validate(kind, None, made, how.user, how.warnings)
        if not applied:
            made = ssa.track(kind, None, made, how.manager)
        if how.dry_run:
            return made
        stored = self.store.put(kind, made)
        if kind.name == "CustomResourceDefinition":
            self.store.define(stored)
        return stored

    def _change(
        self, kind: Kind, live: Object, after: Object, how: Writing, subresource: str, *, applied: bool
    ) -> Object:
        after = _kept(kind, live, after, subresource)
        check(kind, None if applied else live, after, strict=how.strict, warnings=how.warnings)
        if subresource != "status":
            after = self.admission.mutate(kind, live, after, how.user)
            after = defaulted(kind, after)
            check(kind, live, after, strict=False, warnings=[])
        if not applied and subresource != "status" and not same(_plain(live), _plain(after)):
            after = ssa.track(kind, live, after, how.manager, subresource)
        elif not applied:
            after = ssa.track(kind, live, after, how.manager, subresource)
        if same(_timeless(live), _timeless(after)):
            return live
        if _counts(kind) and subresource != "status" and _spec(live) != _spec(after):
            after["metadata"]["generation"] = int(at(live, "metadata", "generation") or 0) + 1
        if subresource != "status":
            self.admission.validate(kind, live, after, how.user, how.warnings)
        if how.dry_run:
            return after
        if _may_go(kind, after):
            return self._gone(kind, after)
        return self.store.put(kind, after)

    # -- deleting ---------------------------------------------------------------------------------------------------

    def delete(
        self, kind: Kind, namespace: str, name: str, options: Mapping[str, Any], *, dry_run: bool = False
    ) -> tuple[Object, bool]:
        """Delete an object: what is left of it, and whether it is gone."""
        with self.store.lock:
            live = self.store.get(kind, namespace, name)
            _check_deletion(kind, live, options.get("preconditions") or {})
            after = copy.deepcopy(live)
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
            grace = _grace(kind, live, options.get("gracePeriodSeconds"))
            if kind.name == "Namespace" and not dry_run:
                after["status"] = {"phase": "Terminating"}
                _stamp(metadata, 0)
                return (self.store.put(kind, after) if not deleting(live) else live), False
            if not finalizers and grace == 0:
                return (live if dry_run else self._gone(kind, after)), True
            _stamp(metadata, grace)
            if dry_run or same(live, after):
                return after if dry_run else live, False
            return self.store.put(kind, after), False

    def finish(self, kind: Kind, item: Object) -> Object:
        """Write an object whose finalizers have changed; it goes when it can."""
        with self.store.lock:
            return self._gone(kind, item) if _may_go(kind, item) else self.store.put(kind, item)

    def _gone(self, kind: Kind, item: Object) -> Object:
        if kind.name == "CustomResourceDefinition":
            self.store.undefine(item)
        return self.store.remove(kind, item)


def writing(**how: Any) -> Writing:
    """How a controller writes."""
    return replace(Writing(warnings=[]), **how)


def _identified(kind: Kind, namespace: str, item: Object) -> Object:
    """A new object with what the server gives it."""
    made = copy.deepcopy(item)
    metadata = made.setdefault("metadata", {})
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + random_suffix()
    if kind.namespaced:
        given = metadata.get("namespace") or namespace
        if given != namespace:
            raise Refused(
                400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request"
            )  # fmt: skip
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
    for name in (
        "resourceVersion",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ):
        metadata.pop(name, None)
    if kind.name == "PersistentVolumeClaim":
        _add(metadata, "kubernetes.io/pvc-protection")
    elif kind.name == "PersistentVolume":
        _add(metadata, "kubernetes.io/pv-protection")
    return made


def _add(metadata: Object, finalizer: str) -> None:
    if finalizer not in metadata.setdefault("finalizers", []):
        metadata["finalizers"].append(finalizer)


def _counts(kind: Kind) -> bool:
    """Whether its objects have a generation."""
    return kind.name in _GENERATED or kind not in own_kinds()


def _spec(item: Object) -> Object:
    return {
        key: value for key, value in item.items() if key not in ("metadata", "status", "apiVersion", "kind")
    }


def _plain(item: Object) -> Object:
    return ssa.bare(item)


def _timeless(item: Object) -> Object:
    """An object without what does not count as a change."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}
    metadata["managedFields"] = [
        {key: value for key, value in one.items() if key != "time"}
        for one in metadata.get("managedFields") or ()
    ]
    return item | {"metadata": metadata}


def _kept(kind: Kind, live: Object, after: Object, subresource: str) -> Object:
    """What nobody changes by writing to it: identity, and the other side of status."""
    old, metadata = live["metadata"], dict(after.get("metadata") or {})
    if subresource == "status":
        metadata = {key: value for key, value in old.items() if key not in ("managedFields",)}
        if "managedFields" in (after.get("metadata") or {}):
            metadata["managedFields"] = after["metadata"]["managedFields"]
        result = dict(live) | {"metadata": metadata}
        if "status" in after:
            result["status"] = after["status"]
        return copy.deepcopy(result)
    for name in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds",
                 "name", "namespace", "generateName", "resourceVersion"):  # fmt: skip
        metadata.pop(name, None)
        if name in old:
            metadata[name] = old[name]
    result = after | {"metadata": metadata, "apiVersion": kind.api_version, "kind": kind.name}
    if kind.status:
        result.pop("status", None)
        if "status" in live:
            result["status"] = live["status"]
    if (
        kind.name == "Service"
        and at(live, "spec", "clusterIP")
        and at(result, "spec", "type") != "ExternalName"
    ):
        spec = dict(result.get("spec") or {})
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not spec.get(name) and name in live["spec"]:
                spec[name] = live["spec"][name]
        result["spec"] = spec
    return copy.deepcopy(result)


def _may_go(kind: Kind, item: Object) -> bool:
    metadata = item["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if kind.name == "Namespace":
        return not at(item, "spec", "finalizers")
    return int(metadata.get("deletionGracePeriodSeconds") or 0) == 0


def _stamp(metadata: Object, grace: int) -> None:
    """On its way out; a second deletion can only shorten the time."""
    if metadata.get("deletionTimestamp") and int(metadata.get("deletionGracePeriodSeconds") or 0) <= grace:
        return
    metadata.setdefault("deletionTimestamp", now())
    metadata["deletionGracePeriodSeconds"] = grace
    if metadata.get("generation"):
        metadata["generation"] += 1


def _grace(kind: Kind, live: Object, asked: Any) -> int:
    """Seconds a pod has to end (pkg/registry/core/pod/strategy.go, CheckGracefulDelete); 0 of everything else."""
    if kind.name != "Pod":
        return 0
    given = asked if asked is not None else at(live, "spec", "terminationGracePeriodSeconds")
    grace = int(30 if given is None else given)
    if not at(live, "spec", "nodeName") or at(live, "status", "phase") in ("Failed", "Succeeded"):
        return 0
    return max(grace, 0)


def _check_identity(kind: Kind, namespace: str, name: str, item: Object) -> None:
    given = name_of(item)
    if given and given != name:
        raise Refused(
            400, "BadRequest", f"the name of the object ({given}) does not match the name on the URL ({name})"
        )
    place = at(item, "metadata", "namespace")
    if kind.namespaced and place and place != namespace:
        raise Refused(
            400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request"
        )  # fmt: skip
    if item.get("kind") and (item.get("kind"), item.get("apiVersion")) != (kind.name, kind.api_version):
        raise Refused(
            400, "BadRequest",
            f"invalid object type: {item.get('apiVersion')}, Kind={item.get('kind')}",
        )  # fmt: skip


def _conflict(kind: Kind, name: str, words: str, called: str = "") -> Refused:
    details = {"name": name} | ({"group": kind.group} if kind.group and not called else {})
    return Refused(
        409, "Conflict", f'Operation cannot be fulfilled on {called or kind.resource} "{name}": {words}',
        details=details | {"kind": called or kind.plural},
    )  # fmt: skip


def _check_preconditions(kind: Kind, live: Object, wanted: Object) -> None:
    version, uid = at(wanted, "metadata", "resourceVersion"), at(wanted, "metadata", "uid")
    if version not in (None, "", live["metadata"]["resourceVersion"]):
        raise _conflict(
            kind, name_of(live),
            "the object has been modified; please apply your changes to the latest version and try again",
        )  # fmt: skip
    if uid not in (None, "", uid_of(live)):
        raise _conflict(
            kind, name_of(live), f"Precondition failed: UID in precondition: {uid}, UID in object meta: {uid_of(live)}"
        )  # fmt: skip


def _check_deletion(kind: Kind, live: Object, wanted: Mapping[str, Any]) -> None:
    called = kind.qualified if not kind.group else f"{kind.name}.{kind.group}"
    uid, version = wanted.get("uid"), wanted.get("resourceVersion")
    if uid not in (None, "", uid_of(live)):
        raise _conflict(
            kind, name_of(live), f"the UID in the precondition ({uid}) does not match the UID in record "
            f"({uid_of(live)}). The object might have been deleted and then recreated", called,
        )  # fmt: skip
    if version not in (None, "", live["metadata"]["resourceVersion"]):
        raise _conflict(
            kind, name_of(live), f"the ResourceVersion in the precondition ({version}) does not match the "
            f"ResourceVersion in record ({live['metadata']['resourceVersion']}). The object might have been modified",
            called,
        )  # fmt: skip
