"""What runs beside the API server: one thread that brings what is into line with what is wanted, object by object."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

from tests.fakes.kube.controllers import (
    claims,
    deployments,
    garbage,
    jobs,
    namespaces,
    nodes,
    quotas,
    replicasets,
    scheduler,
)
from tests.fakes.kube.controllers.tools import Tools
from tests.fakes.kube.store import Change
from tests.fakes.kube.wire import at, controller_of, name_of, namespace_of, uid_of

Key = tuple[str, str, str]  # which controller, namespace, name
Sync = Callable[[Tools, str, str], float | None]
_SYNCS: dict[str, Sync] = {
    "Deployment": deployments.sync, "ReplicaSet": replicasets.sync, "Job": jobs.sync, "schedule": scheduler.sync,
    "claim": claims.sync_claim, "volume": claims.sync_volume, "space": namespaces.sync, "garbage": garbage.sync,
    "owner": garbage.sync_owner, "quota": quotas.sync, "node": nodes.sync,
}  # fmt: skip


class Manager:
    """Runs the controllers. A key is worked on under the store's lock, so none of them sees half a change."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.paused = False
        self.failures: list[str] = []
        self._ready: dict[Key, None] = {}
        self._later: list[tuple[float, Key]] = []
        self._wake = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="fake-controllers", daemon=True)
        tools.store.listeners.append(self.heard)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify_all()
        self._thread.join(timeout=10)

    def idle(self) -> bool:
        """Whether nothing is left to do now."""
        with self._wake:
            return not self._ready and not self.tools.busy

    def heard(self, change: Change) -> None:
        """Whose work a change is."""
        keys = list(_concerned(self.tools, change))
        if keys:
            with self._wake:
                self._ready |= dict.fromkeys(keys)
                self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._later and self._later[0][0] <= time.monotonic():
                    self._ready[heapq.heappop(self._later)[1]] = None
                if self._ended:
                    return
                if self.paused or not self._ready:
                    left = self._later[0][0] - time.monotonic() if self._later else 1.0
                    self._wake.wait(min(1.0, max(0.005, left)))
                    continue
                key = next(iter(self._ready))
                del self._ready[key]
                self.tools.busy = True
            try:
                with self.tools.store.lock:
                    again = _SYNCS[key[0]](self.tools, key[1], key[2])
            except Exception as error:  # the next change tries again; a test asks for what went wrong
                import traceback

                self.failures.append(f"{key}: {error!r}\n{traceback.format_exc()}")
                again = None
            with self._wake:
                self.tools.busy = False
                if again is not None:
                    heapq.heappush(self._later, (time.monotonic() + again, key))


def _concerned(tools: Tools, change: Change) -> list[Key]:
    item = change.item
    namespace, name, kind = namespace_of(item), name_of(item), item.get("kind", "")
    keys: list[Key] = []
    if kind in ("Deployment", "ReplicaSet", "Job"):
        keys.append((kind, namespace, name))
    owner = controller_of(item)
    if owner is not None and owner.get("kind") in ("Deployment", "ReplicaSet", "Job"):
        keys.append((owner["kind"], namespace, owner["name"]))
        if kind == "Pod" and owner["kind"] == "ReplicaSet":
            above = tools.find("ReplicaSet", namespace, owner["name"])
            top = controller_of(above) if above is not None else None
            keys += [("Deployment", namespace, top["name"])] if top is not None else []
    match kind:
        case "Pod":
            if change.after is not None and not at(item, "spec", "nodeName"):
                keys.append(("schedule", namespace, name))
            elif change.after is None or at(item, "status", "phase") in ("Succeeded", "Failed"):
                keys += _pending(tools)
            keys += [("claim", namespace, one) for one in claims.used_by(item)]
        case "Node" | "StorageClass":
            keys += [("node", "", name), *_pending(tools)] if kind == "Node" else _claims(tools)
        case "PersistentVolumeClaim":
            keys.append(("claim", namespace, name))
            volume = at(item, "spec", "volumeName")
            keys += [("volume", "", str(volume))] if volume else []
            keys += _pending(tools)
        case "PersistentVolume":
            keys += [("volume", "", name), *_claims(tools), *_pending(tools)]
        case "Namespace":
            keys.append(("space", "", name))
    if namespace:
        keys += [("quota", namespace, name_of(one)) for one in tools.all("ResourceQuota", namespace)]
        space = tools.find("Namespace", "", namespace)
        keys += (
            [("space", "", namespace)]
            if space is not None and at(space, "metadata", "deletionTimestamp")
            else []
        )
    if change.after is None:
        keys.append(("garbage", uid_of(item), kind))
        keys += [
            ("owner", namespace, f"{one['apiVersion']} {one['kind']} {one['name']}") for one in _blocked(item)
        ]
    elif at(item, "metadata", "deletionTimestamp") and at(item, "metadata", "finalizers"):
        keys.append(("owner", namespace, f"{item['apiVersion']} {kind} {name}"))
    elif change.before is None and at(item, "metadata", "ownerReferences"):
        keys.append(("garbage", "", f"{item['apiVersion']} {kind} {namespace}/{name}"))
    return keys


def _pending(tools: Tools) -> list[Key]:
    return [
        ("schedule", namespace_of(one), name_of(one))
        for one in tools.all("Pod")
        if not at(one, "spec", "nodeName") and not at(one, "metadata", "deletionTimestamp")
    ]


def _claims(tools: Tools) -> list[Key]:
    return [
        ("claim", namespace_of(one), name_of(one))
        for one in tools.all("PersistentVolumeClaim")
        if at(one, "status", "phase") != "Bound"
    ]


def _blocked(item: dict[str, object]) -> list[dict[str, str]]:
    return at(item, "metadata", "ownerReferences") or []
