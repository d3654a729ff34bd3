"""A provisioner of volumes, as a cluster's storage has one: it makes a PersistentVolume for each claim of its classes.

Events in the words of sigs.k8s.io/sig-storage-lib-external-provisioner (controller/controller.go): Provisioning,
ProvisioningSucceeded, ProvisioningFailed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulator.client import RefusalError

if TYPE_CHECKING:
    from tests.simulator.simulator import Simulator

Object = dict[str, Any]
PROVISIONER = "volumes.simulator.test"
STORAGE = "volume.kubernetes.io/storage-provisioner"
NODE = "volume.kubernetes.io/selected-node"


def storage_class(name: str, *, default: bool, wait: bool, provisioner: str) -> Object:
    """A StorageClass of this provisioner.

    Args:
        name: of the class.
        default: whether claims that name none get it.
        wait: whether a volume is made only once a pod is scheduled.
        provisioner: another's name makes a class whose claims stay pending.
    """
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": provisioner,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer" if wait else "Immediate",
    }


class Provisioner:
    """Takes what a watch of claims tells."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._made: dict[str, str] = {}  # claim's uid -> volume
        self._failed: set[str] = set()
        self.refusal = ""  # why nothing is made, in the storage's own words
        self.refusals: dict[str, str] = {}  # class -> why nothing is made of it

    def listed(self, claims: list[Object]) -> None:
        """All that there is."""
        for claim in claims:
            self.changed(claim)

    def changed(self, claim: Object) -> None:
        """A claim is new or other than it was."""
        metadata, spec = claim["metadata"], claim["spec"]
        annotations = metadata.get("annotations") or {}
        uid = metadata["uid"]
        if spec.get("volumeName"):
            self._made.setdefault(uid, spec["volumeName"])
            return
        if uid in self._made or annotations.get(STORAGE) != PROVISIONER or metadata.get("deletionTimestamp"):
            return
        class_name = spec.get("storageClassName") or ""
        try:
            found = self._sim.client.ask("GET", f"/apis/storage.k8s.io/v1/storageclasses/{class_name}")
        except RefusalError:
            return
        node = annotations.get(NODE, "")
        if found.get("volumeBindingMode") == "WaitForFirstConsumer" and not node:
            return
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | claim
        path = f"{metadata['namespace']}/{metadata['name']}"
        said = f'External provisioner is provisioning volume for claim "{path}"'
        self._say(claim, "Normal", "Provisioning", said)
        refusal = self.refusals.get(class_name, self.refusal)
        if refusal:
            said = f'failed to provision volume with StorageClass "{class_name}": {refusal}'
            self._say(claim, "Warning", "ProvisioningFailed", said)
            self._failed.add(uid)
            return
        name = f"pvc-{uid}"
        self._made[uid] = name
        volume = self._volume(claim, name, class_name)
        self._sim.client.try_ask("POST", "/api/v1/persistentvolumes", volume)
        self._say(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")

    def deleted(self, claim: Object) -> None:
        """A claim is gone, and with it its volume and what was on it."""
        metadata = claim["metadata"]
        self._sim.volumes.pop(("claim", metadata["namespace"], metadata["name"]), None)
        name = self._made.pop(metadata["uid"], "")
        if name.startswith("pvc-"):
            self._sim.client.try_ask("DELETE", f"/api/v1/persistentvolumes/{name}")

    def _say(self, claim: Object, kind: str, reason: str, message: str) -> None:
        self._sim.recorder.say(claim, kind, reason, message, component=PROVISIONER)

    def _volume(self, claim: Object, name: str, class_name: str) -> Object:
        metadata, spec = claim["metadata"], claim["spec"]
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": class_name,
                "volumeMode": spec.get("volumeMode", "Filesystem"),
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": metadata["name"],
                    "namespace": metadata["namespace"], "uid": metadata["uid"],
                },
                "hostPath": {"path": f"/var/lib/simulated/{name}"},
            },
        }  # fmt: skip
