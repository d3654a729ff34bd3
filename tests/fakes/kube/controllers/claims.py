"""PersistentVolumeClaims and their volumes: binding, and asking a provisioner (pkg/controller/volume, 1.36)."""

from __future__ import annotations

from typing import Any

from tests.fakes.kube.controllers.tools import Tools
from tests.fakes.kube.wire import Object, at, deleting, labels_of, name_of, namespace_of, quantity, uid_of

_COMPONENT = "persistentvolume-controller"
_PROTECTED, _VOLUME_PROTECTED = "kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_PROVISIONER = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
_NONE = "kubernetes.io/no-provisioner"


def used_by(pod: Object) -> list[str]:
    """Claims that a pod mounts."""
    found = []
    for volume in at(pod, "spec", "volumes") or ():
        name = at(volume, "persistentVolumeClaim", "claimName")
        if name:
            found.append(str(name))
    return found


def sync_claim(tools: Tools, namespace: str, name: str) -> float | None:
    """One step of a claim."""
    item = tools.find("PersistentVolumeClaim", namespace, name)
    if item is None:
        return None
    if deleting(item):
        _let_go(tools, item)
        return None
    if at(item, "status", "phase") == "Bound":
        return None
    volume = _volume_of(tools, item)
    if volume is not None:
        _bind(tools, item, volume)
        return None
    _ask(tools, item)
    return None


def _let_go(tools: Tools, item: Object) -> None:
    """A claim that is to go, once no pod uses it."""
    finalizers = at(item, "metadata", "finalizers") or []
    if _PROTECTED not in finalizers:
        return
    for pod in tools.all("Pod", namespace_of(item)):
        if name_of(item) in used_by(pod) and at(pod, "status", "phase") not in ("Succeeded", "Failed"):
            return
    _drop(tools, item, _PROTECTED)


def _drop(tools: Tools, item: Object, finalizer: str) -> None:
    metadata = dict(item["metadata"])
    left = [one for one in metadata.get("finalizers") or () if one != finalizer]
    metadata.pop("finalizers", None)
    metadata |= {"finalizers": left} if left else {}
    tools.verbs.finish(tools.kind(item["kind"]), item | {"metadata": metadata})


def _class_of(item: Object) -> str:
    return str(at(item, "spec", "storageClassName") or "")


def _volume_of(tools: Tools, item: Object) -> Object | None:
    """The volume that is meant for a claim, or one that fits."""
    wanted = at(item, "spec", "volumeName")
    fitting = []
    for volume in tools.all("PersistentVolume"):
        reference: Any = at(volume, "spec", "claimRef")
        mine = reference is not None and (reference.get("namespace"), reference.get("name")) == (
            namespace_of(item), name_of(item),
        )  # fmt: skip
        if mine and reference.get("uid") in (None, "", uid_of(item)):
            return volume
        if reference is not None or at(volume, "status", "phase") not in ("Available", "Pending", None):
            continue
        if wanted == name_of(volume):
            return volume
        if not wanted and _fits(item, volume):
            fitting.append(volume)
    delayed = _delayed(tools, item)
    chosen = (at(item, "metadata", "annotations") or {}).get(SELECTED_NODE)
    if delayed and not chosen:
        return None
    return min(fitting, key=lambda one: quantity(at(one, "spec", "capacity", "storage") or 0), default=None)


def _fits(item: Object, volume: Object) -> bool:
    asked = at(item, "spec", "resources", "requests", "storage") or 0
    selector = at(item, "spec", "selector", "matchLabels") or {}
    return (
        _class_of(item) == _class_of(volume)
        and set(at(item, "spec", "accessModes") or ()) <= set(at(volume, "spec", "accessModes") or ())
        and quantity(at(volume, "spec", "capacity", "storage") or 0) >= quantity(asked)
        and all(labels_of(volume).get(key) == value for key, value in selector.items())
    )


def _delayed(tools: Tools, item: Object) -> bool:
    found = tools.find("StorageClass", "", _class_of(item))
    return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def _bind(tools: Tools, item: Object, volume: Object) -> None:
    reference = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace_of(item), "name": name_of(item),
        "uid": uid_of(item), "resourceVersion": at(item, "metadata", "resourceVersion"),
    }  # fmt: skip
    if at(volume, "spec", "claimRef", "uid") != uid_of(item):
        volume = tools.change(volume, {
            "spec": {"claimRef": reference},
            "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
        })  # fmt: skip
    tools.status(volume, {"phase": "Bound"})
    marks = {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
    item = tools.change(item, {"spec": {"volumeName": name_of(volume)}, "metadata": {"annotations": marks}})
    tools.status(item, {
        "phase": "Bound", "accessModes": at(volume, "spec", "accessModes"), "capacity": at(volume, "spec", "capacity"),
    })  # fmt: skip


def _ask(tools: Tools, item: Object) -> None:
    """A claim without a volume: who could make one, and what it waits for."""
    name = _class_of(item)
    found = tools.find("StorageClass", "", name) if name else None
    if not name:
        tools.event(item, "Normal", "FailedBinding",
                    "no persistent volumes available for this claim and no storage class is set",
                    _COMPONENT)  # fmt: skip
        return
    if found is None:
        tools.event(item, "Warning", "ProvisioningFailed",
                    f'storageclass.storage.k8s.io "{name}" not found', _COMPONENT)  # fmt: skip
        return
    annotations = at(item, "metadata", "annotations") or {}
    if found.get("volumeBindingMode") == "WaitForFirstConsumer" and SELECTED_NODE not in annotations:
        tools.event(item, "Normal", "WaitForFirstConsumer",
                    "waiting for first consumer to be created before binding", _COMPONENT)  # fmt: skip
        return
    provisioner = str(found.get("provisioner") or "")
    if provisioner == _NONE:
        return
    if annotations.get(_PROVISIONER[1]) != provisioner:
        tools.change(item, {"metadata": {"annotations": dict.fromkeys(_PROVISIONER, provisioner)}})
        tools.event(
            item, "Normal", "ExternalProvisioning",
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered.", _COMPONENT,
        )  # fmt: skip


def sync_volume(tools: Tools, _: str, name: str) -> float | None:
    """One step of a volume."""
    item = tools.find("PersistentVolume", "", name)
    if item is None:
        return None
    reference: Any = at(item, "spec", "claimRef")
    claim = None
    if reference is not None:
        claim = tools.find("PersistentVolumeClaim", reference.get("namespace", ""), reference.get("name", ""))
        if claim is not None and reference.get("uid") not in (None, "", uid_of(claim)):
            claim = None
    if deleting(item):
        if claim is None and _VOLUME_PROTECTED in (at(item, "metadata", "finalizers") or ()):
            _drop(tools, item, _VOLUME_PROTECTED)
        return None
    phase = at(item, "status", "phase")
    if reference is None and phase in (None, "Pending"):
        tools.status(item, {"phase": "Available"})
    elif reference is not None and claim is None and reference.get("uid"):
        tools.status(item, {"phase": "Released"})
    elif reference is not None and claim is None and phase in (None, "Pending"):
        tools.status(item, {"phase": "Available"})
    return None
