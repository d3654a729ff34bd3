"""What the controllers write with: events, statuses, pods."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.store import Store
from tests.fakes.kube.verbs import Verbs, writing
from tests.fakes.kube.wire import Object, RefusalError, at, micro_now, name_of, namespace_of, now, uid_of

_VERSIONS = {
    "Deployment": "apps/v1", "ReplicaSet": "apps/v1", "Job": "batch/v1", "StorageClass": "storage.k8s.io/v1",
}  # fmt: skip


@dataclass(slots=True)
class Tools:
    """The API as a controller uses it.

    Args:
        verbs: without the wire.
        pace: what real controllers wait for (back-off of jobs, retries) is this many times shorter: 1 as it is.
    """

    verbs: Verbs
    pace: float = 1.0
    busy: bool = False
    tries: dict[str, int] = field(default_factory=dict)
    asked: dict[str, dict[str, Decimal]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.verbs.store

    def kind(self, name: str, api_version: str = "") -> Kind:
        found = self.store.named(api_version or _VERSIONS.get(name, "v1"), name)
        assert found is not None, name
        return found

    def find(self, name: str, namespace: str, called: str) -> Object | None:
        """An object of a built-in kind."""
        return self.store.find(self.kind(name), namespace, called)

    def all(self, name: str, namespace: str = "") -> list[Object]:
        """Objects of a built-in kind."""
        return self.store.all(self.kind(name), namespace)

    def create(self, item: Object) -> Object:
        """A new object, as the controller manager makes it."""
        kind = self.kind(item["kind"], item["apiVersion"])
        return self.verbs.create(kind, namespace_of(item), item, writing())

    def update(self, item: Object) -> Object:
        """An object in the place of what is there."""
        kind = self.kind(item["kind"], item["apiVersion"])
        return self.verbs.update(kind, namespace_of(item), name_of(item), item, writing())

    def change(self, item: Object, change: Object, manager: str = "kube-controller-manager") -> Object:
        """A merge patch."""
        kind = self.kind(item["kind"], item["apiVersion"])
        form = "application/merge-patch+json"
        return self.verbs.patch(
            kind, namespace_of(item), name_of(item), change, form, writing(manager=manager)
        )

    def status(self, item: Object, status: Object, manager: str = "kube-controller-manager") -> Object:
        """Another status."""
        kind = self.kind(item["kind"], item["apiVersion"])
        live = self.store.find(kind, namespace_of(item), name_of(item))
        if live is None or at(live, "status") == status:
            return item
        return self.verbs.update(
            kind, namespace_of(item), name_of(item), live | {"status": status}, writing(manager=manager), "status"
        )  # fmt: skip

    def delete(self, item: Object, policy: str = "Background", grace: int | None = None) -> None:
        """Delete an object, if it is still there."""
        kind = self.kind(item["kind"], item["apiVersion"])
        options: Object = {"propagationPolicy": policy} | (
            {"gracePeriodSeconds": grace} if grace is not None else {}
        )
        try:
            self.verbs.delete(kind, namespace_of(item), name_of(item), options)
        except RefusalError as refusal:
            if refusal.code != 404:
                raise

    def event(self, about: Object, type_: str, reason: str, message: str, component: str) -> None:
        """An event; one that is as an earlier one counts there."""
        namespace = namespace_of(about) or "default"
        kind = self.kind("Event")
        modern = component == "default-scheduler"
        for one in self.store.all(kind, namespace):
            if (
                at(one, "involvedObject", "uid") == uid_of(about)
                and (one.get("reason"), one.get("message"), one.get("type")) == (reason, message, type_)
            ):  # fmt: skip
                self._again(kind, one, modern=modern)
                return
        item: Object = {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": f"{name_of(about)}.{uuid.uuid4().hex[:16]}", "namespace": namespace,
                         "uid": str(uuid.uuid4()), "creationTimestamp": now()},
            "involvedObject": {
                "apiVersion": about["apiVersion"], "kind": about["kind"], "name": name_of(about),
                "uid": uid_of(about), "resourceVersion": at(about, "metadata", "resourceVersion"),
            } | ({"namespace": namespace_of(about)} if namespace_of(about) else {}),
            "reason": reason, "message": message, "type": type_, "reportingComponent": component,
        }  # fmt: skip
        if modern:
            item |= {
                "source": {}, "firstTimestamp": None, "lastTimestamp": None, "eventTime": micro_now(),
                "action": "Scheduling" if type_ == "Warning" else "Binding",
                "reportingInstance": "default-scheduler-fake",
            }  # fmt: skip
        else:
            item |= {
                "source": {"component": component}, "firstTimestamp": now(), "lastTimestamp": now(), "count": 1,
                "eventTime": None, "reportingInstance": "",
            }  # fmt: skip
        self.store.put(kind, item)

    def _again(self, kind: Kind, one: Object, *, modern: bool) -> None:
        if modern:
            count = int(at(one, "series", "count") or 1)
            self.store.put(kind, one | {"series": {"count": count + 1, "lastObservedTime": micro_now()}})
        else:
            self.store.put(kind, one | {"count": int(one.get("count") or 1) + 1, "lastTimestamp": now()})


def owned_by(items: list[Object], owner: Object) -> list[Object]:
    """Those that an object controls."""
    return [
        one
        for one in items
        if any(
            reference.get("controller") and reference.get("uid") == uid_of(owner)
            for reference in at(one, "metadata", "ownerReferences") or ()
        )
    ]


def reference_to(owner: Object) -> Object:
    """A reference to the controller of an object."""
    return {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name_of(owner), "uid": uid_of(owner),
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def pod_of(owner: Object, name: str, finalizers: list[str] | None = None) -> Object:
    """A pod of a template."""
    template: Any = at(owner, "spec", "template") or {}
    metadata = {
        key: value
        for key, value in (template.get("metadata") or {}).items()
        if key in ("labels", "annotations")
    }
    metadata |= {
        "name": name, "generateName": f"{name_of(owner)}-", "namespace": namespace_of(owner),
        "ownerReferences": [reference_to(owner)],
    }  # fmt: skip
    metadata |= {"finalizers": finalizers} if finalizers else {}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}


def set_condition(conditions: list[Object], new: Object) -> list[Object]:
    """Conditions with one set: its time of transition stays where its status does."""
    old = next((one for one in conditions if one["type"] == new["type"]), None)
    if old is not None and (old["status"], old.get("reason"), old.get("message")) == (
        new["status"], new.get("reason"), new.get("message"),
    ):  # fmt: skip
        return conditions
    if old is not None and old["status"] == new["status"]:
        new = new | {"lastTransitionTime": old.get("lastTransitionTime")}
    return [one for one in conditions if one["type"] != new["type"]] + [new]
