"""What the server makes of an object that is written, kind by kind: identity, what is kept, what lets it go.

After pkg/registry/*/strategy.go and apiserver's registry/rest (1.36).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from typing import Any

from tests.fakes.kube.defaults import quality
from tests.fakes.kube.kinds import Kind, own_kinds, shape_of
from tests.fakes.kube.wire import Object, RefusalError, at, clone, name_of, now, uid_of

_BEGINNINGS: dict[str, Object] = {
    "ReplicaSet": {"replicas": 0}, "StatefulSet": {"replicas": 0, "availableReplicas": 0},
    "DaemonSet": {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0},
    "PodDisruptionBudget": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    "HorizontalPodAutoscaler": {"desiredReplicas": 0, "currentMetrics": None}, "Ingress": {"loadBalancer": {}},
    "Service": {"loadBalancer": {}}, "PersistentVolumeClaim": {"phase": "Pending"},
    "PersistentVolume": {"phase": "Pending"},
}  # fmt: skip
_GENERATED = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "NetworkPolicy", "Ingress",
              "PodDisruptionBudget", "Pod")  # fmt: skip
_OTHER_NAMESPACE = "the namespace of the provided object does not match the namespace sent on the request"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def random_suffix() -> str:
    """Five letters, as generated names end in."""
    return "".join(random.choices(_LETTERS, k=5))


def identified(kind: Kind, namespace: str, item: Object) -> Object:
    """A new object with what the server gives it."""
    made = clone(item)
    metadata = made.setdefault("metadata", {})
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + random_suffix()
    if kind.namespaced:
        given = metadata.get("namespace") or namespace
        if given != namespace:
            raise RefusalError(
                400, "BadRequest", _OTHER_NAMESPACE
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
    return made


def prepared(kind: Kind, item: Object) -> Object:
    """A new object with what nobody owns of it: protection, a job's selector, the status of a beginning."""
    if kind not in own_kinds():
        return item
    metadata = item["metadata"]
    match kind.name:
        case "PersistentVolumeClaim":
            _add(metadata, "kubernetes.io/pvc-protection")
        case "PersistentVolume":
            _add(metadata, "kubernetes.io/pv-protection")
        case "Job":
            _select(item)
        case "Namespace":
            item.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            item["status"] = {"phase": "Active"}
        case "Pod":
            item.setdefault("status", {})["qosClass"] = quality(item["spec"])
        case "StatefulSet":
            item["spec"].setdefault("serviceName", "")
    if shape_of(kind).field("spec") is not None:
        item.setdefault("spec", {})
    if kind.status:
        item["status"] = clone(_BEGINNINGS.get(kind.name, {})) | (item.get("status") or {})
    return item


def _select(item: Object) -> None:
    """A job's pods are told apart by its UID (pkg/registry/batch/job/strategy.go, generateSelector)."""
    spec, name, uid = item["spec"], name_of(item), uid_of(item)
    if spec.get("manualSelector"):
        return
    key = "batch.kubernetes.io/controller-uid"
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels |= {key: uid, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name}
    spec["selector"] = {"matchLabels": {key: uid}}
    if not item["metadata"].get("labels"):
        item["metadata"]["labels"] = dict(labels)  # SetDefaults_Job


def _add(metadata: Object, finalizer: str) -> None:
    if finalizer not in metadata.setdefault("finalizers", []):
        metadata["finalizers"].append(finalizer)


def counts_generations(kind: Kind) -> bool:
    """Whether its objects have a generation."""
    return kind.name in _GENERATED or kind not in own_kinds()


def kept(kind: Kind, live: Object, after: Object, subresource: str) -> Object:
    """What nobody changes by writing to it: identity, and the other side of status."""
    old, metadata = live["metadata"], dict(after.get("metadata") or {})
    if subresource == "status":
        metadata = {key: value for key, value in old.items() if key != "managedFields"}
        if "managedFields" in (after.get("metadata") or {}):
            metadata["managedFields"] = after["metadata"]["managedFields"]
        result = dict(live) | {"metadata": metadata}
        if "status" in after:
            result["status"] = after["status"]
        return clone(result)
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
    return clone(result)


def may_go(kind: Kind, item: Object) -> bool:
    metadata = item["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if kind.name == "Namespace":
        return not at(item, "spec", "finalizers")
    return int(metadata.get("deletionGracePeriodSeconds") or 0) == 0


def stamp(metadata: Object, grace: int) -> None:
    """On its way out; a second deletion can only shorten the time."""
    if metadata.get("deletionTimestamp") and int(metadata.get("deletionGracePeriodSeconds") or 0) <= grace:
        return
    if metadata.get("generation") and not metadata.get("deletionTimestamp"):
        metadata["generation"] += 1
    metadata.setdefault("deletionTimestamp", now())
    metadata["deletionGracePeriodSeconds"] = grace


def grace_of(kind: Kind, live: Object, asked: Any) -> int:
    """Seconds a pod has to end (pkg/registry/core/pod/strategy.go, CheckGracefulDelete); 0 of everything else."""
    if kind.name != "Pod":
        return 0
    given = asked if asked is not None else at(live, "spec", "terminationGracePeriodSeconds")
    grace = int(30 if given is None else given)
    if not at(live, "spec", "nodeName") or at(live, "status", "phase") in ("Failed", "Succeeded"):
        return 0
    return max(grace, 0)


def check_identity(kind: Kind, namespace: str, name: str, item: Object) -> None:
    given = name_of(item)
    if given and given != name:
        raise RefusalError(
            400, "BadRequest", f"the name of the object ({given}) does not match the name on the URL ({name})"
        )
    place = at(item, "metadata", "namespace")
    if kind.namespaced and place and place != namespace:
        raise RefusalError(
            400, "BadRequest", _OTHER_NAMESPACE
        )  # fmt: skip
    if item.get("kind") and (item.get("kind"), item.get("apiVersion")) != (kind.name, kind.api_version):
        raise RefusalError(
            400, "BadRequest",
            f"invalid object type: {item.get('apiVersion')}, Kind={item.get('kind')}",
        )  # fmt: skip


def _conflict(kind: Kind, name: str, words: str, called: str = "") -> RefusalError:
    details = {"name": name} | ({"group": kind.group} if kind.group and not called else {})
    return RefusalError(
        409, "Conflict", f'Operation cannot be fulfilled on {called or kind.resource} "{name}": {words}',
        details=details | {"kind": called or kind.plural},
    )  # fmt: skip


def check_preconditions(kind: Kind, live: Object, wanted: Object) -> None:
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


def check_deletion(kind: Kind, live: Object, wanted: Mapping[str, Any]) -> None:
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
