"""Volumes: claims that get none, and volumes that cannot be attached or mounted.

Wording of kubernetes 1.36 pkg/controller/volume/persistentvolume (pv_controller.go), external-provisioner, and
pkg/controller/volume/attachdetach and pkg/volume of the kubelet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text
from selfhost.deploy.causes._nodes import waiting, words_of
from selfhost.deploy.causes._scene import Happened, Scene, Seen, raw, unix
from selfhost.deploy.engine_log import shortened
from selfhost.deploy.types import Cause

RANK = 200
# Ours: a provisioner of a cloud makes a volume in seconds, one of some terabytes in minutes.
_PROVISION_SECONDS = 300.0
# The attach-detach controller waits 6 minutes for a node that is gone (maxWaitForUnmountDuration).
_DETACH_SECONDS = 420.0
_SOON = 45.0
_MISSING = re.compile(
    r"(secret|configmap) \"([\w.-]+)\" not found|object \"[\w.-]+\"/\"([\w.-]+)\" not registered"
)
_NO_KEY = re.compile(r"(?:references non-existent (?:config|secret) key|couldn't find key) ?:? ?([\w.-]+)")


def storage_class_missing(scene: Scene) -> Iterator[Cause]:
    """A claim names a StorageClass that does not exist, or none where the cluster has no default.

    Way out: `kubectl get storageclass`, then deploy with `--storage-class NAME`.
    """
    for claim, name, events in _pending(scene):
        missing = next(
            (
                m
                for e in events
                if (m := re.search(r"storageclass(?:\.storage\.k8s\.io)? \"([\w.-]+)\" not found", e.message))
            ),
            None,
        )
        if missing is not None:
            yield _cause(
                "storage-class-missing",
                claim,
                f"The claim {name} asks for the StorageClass {missing[1]}, which the cluster does not have.",
                "kubectl get storageclass lists them; deploy with --storage-class NAME.",
                missing.string,
                final=True,
            )
            continue
        none = next((e.message for e in events if "no storage class is set" in e.message), "")
        if none and not text(part(claim, "spec"), "storageClassName"):
            yield _cause(
                "storage-class-missing",
                claim,
                f"The claim {name} names no StorageClass, the cluster has no default, and no volume that exists fits.",
                "kubectl get storageclass lists them; deploy with --storage-class NAME.",
                none,
                patience=_SOON,
            )


def volume_not_provisioned(scene: Scene) -> Iterator[Cause]:
    """The provisioner of a claim's StorageClass fails, with its own words, or does not answer at all.

    Way out: what it says: another access mode, a smaller size, more quota at the cloud; else look at its pods.
    """
    for claim, name, events in _pending(scene):
        failed = next(
            (e for e in events if e.reason == "ProvisioningFailed" and "not found" not in e.message), None
        )
        modes = part(claim, "spec").get("accessModes")
        if failed is not None and not re.search(r"no storage class is set", failed.message):
            words = shortened(failed.message, 200)
            if re.search(r"access ?mode|MULTI_NODE|ReadWriteMany", failed.message, re.IGNORECASE):
                asked = ", ".join(str(one) for one in modes) if isinstance(modes, list) else "its access mode"
                yield _cause(
                    "volume-not-provisioned",
                    claim,
                    f"The StorageClass of the claim {name} cannot make a volume of {asked}: {words}.",
                    (
                        "Deploy with a class that can (--storage-class), or with one replica and "
                        "ReadWriteOnce (--access-mode)."
                    ),
                    failed.message,
                    final=True,
                )
                continue
            quota = re.search(
                r"quota|limit exceeded|insufficient|not enough|no space", failed.message, re.IGNORECASE
            )
            yield _cause(
                "volume-not-provisioned",
                claim,
                f"No volume is made for the claim {name}: {words}.",
                "Have the storage's quota raised or room made."
                if quota
                else f"kubectl describe pvc {name}; look at the provisioner's log.",
                failed.message,
                patience=_PROVISION_SECONDS,
            )
            continue
        external = next((e for e in events if e.reason == "ExternalProvisioning"), None)
        if external is not None:
            who = re.search(
                r"(?:external provisioner|provisioned by the external provisioner) '([^']+)'",
                external.message,
            )
            yield _cause(
                "volume-not-provisioned",
                claim,
                f"The provisioner{f' {who[1]}' if who else ''} has not made a volume for the claim {name} yet.",
                "See that its pods run: kubectl get pods -A, and read their log.",
                external.message,
                patience=_PROVISION_SECONDS,
            )


def volume_elsewhere(scene: Scene) -> Iterator[Cause]:
    """The volume is on nodes or in a zone that the pod cannot go to.

    Way out: a class with `volumeBindingMode: WaitForFirstConsumer`, or storage that every node reaches.
    """
    pattern = re.compile(r"volume node affinity conflict|PersistentVolume's node affinity|non-existent pv")
    for pod in waiting(scene):
        words = words_of(pod)
        if pattern.search(words) and "Insufficient" not in words:
            yield _of_pod(
                "volume-elsewhere",
                pod,
                f"The volume of {pod.name} is where none of the nodes is that would take it.",
                "Use a StorageClass with volumeBindingMode WaitForFirstConsumer, or storage that every node reaches; "
                "the claim has to be made anew for it.",
                words,
                patience=_SOON,
            )


def claim_missing(scene: Scene) -> Iterator[Cause]:
    """The claim that the pod mounts does not exist.

    Way out: deploy again, or name the right one with `--weights pvc://CLAIM`.
    """
    for pod in scene.pods:
        said = " ".join(
            [
                words_of(pod) if not pod.scheduled else "",
                *(e.message for e in pod.said("FailedMount") if pod.waits_to_start),
            ]
        )
        found = re.search(r"persistentvolumeclaim \"([\w.-]+)\" not found", said)
        if found:
            yield _of_pod(
                "claim-missing",
                pod,
                f"The claim {found[1]} that {pod.name} mounts does not exist in {scene.snapshot.namespace}.",
                "Deploy again, or name the claim that holds the weights.",
                said,
                patience=_SOON,
            )


def volume_in_use(scene: Scene) -> Iterator[Cause]:
    """A ReadWriteOnce volume is attached to another node (Multi-Attach).

    Way out: end the pod that holds it, or use storage of ReadWriteMany or ReadOnlyMany for several replicas.
    """
    for pod, event in _mounting(scene, "FailedAttachVolume", "FailedMount"):
        if "Multi-Attach error" not in event.message:
            continue
        ending = any("deletionTimestamp" in part(one, "metadata") for one in scene.snapshot.pods)
        by = re.search(r"already used by pod\(s\) ([\w., -]+)", event.message)
        yield _of_pod(
            "volume-in-use",
            pod,
            f"The volume of {pod.name} is attached to another node{f', for {by[1].strip()}' if by else ''}, and may be "
            "on one node only.",
            "Use storage of ReadWriteMany for several nodes (--access-mode), or end the pod that holds it.",
            event.message,
            patience=_DETACH_SECONDS if ending else 120.0,
        )


def secret_or_config_missing(scene: Scene) -> Iterator[Cause]:
    """A Secret or ConfigMap that the pod mounts or reads is missing, or lacks a key.

    Way out: make it: `kubectl create secret generic NAME --from-file=…`.
    """
    for pod, words in _config(scene):
        found, key = _MISSING.search(words), _NO_KEY.search(words)
        if found is None and key is None:
            continue
        kind = "ConfigMap" if "configmap" in words.lower() else "Secret"
        name = (found[2] or found[3]) if found else ""
        named = re.search(r"(?:Secret|ConfigMap) [\w.-]+/([\w.-]+)", words)
        name = name or (named[1] if named else "")
        lacks = f"lacks the key {key[1]}" if key else "does not exist"
        space = scene.snapshot.namespace
        yield _of_pod(
            "secret-or-config-missing",
            pod,
            f"The {kind}{f' {name}' if name else ''} that {pod.name} needs {lacks} in {space}.",
            f"kubectl -n {space} create {'configmap' if kind == 'ConfigMap' else 'secret generic'} {name or 'NAME'} "
            f"--from-file={key[1] if key else 'KEY'}=FILE",
            words,
            patience=_SOON,
        )


def volume_not_mounted(scene: Scene) -> Iterator[Cause]:
    """A volume cannot be attached or mounted, with the driver's own words (NFS that does not answer, a missing driver).

    Way out: what the words say: the NFS server and its export, or the CSI driver on that node.
    """
    for pod, event in _mounting(scene, "FailedAttachVolume", "FailedMount", "FailedMapVolume"):
        words = event.message
        if (
            _MISSING.search(words)
            or _NO_KEY.search(words)
            or "Multi-Attach" in words
            or "kube-api-access" in words
        ):
            continue
        if "timed out waiting for the condition" in words and any(
            "SetUp failed" in e.message or "AttachVolume" in e.message for e in pod.events
        ):
            continue  # its own cause stands in another event
        volume = re.search(r"volume \"([\w.-]+)\"", words)
        nfs = re.search(r"mount\.nfs|nfs", words)
        driver = re.search(r"driver name ([\w.-]+) not found", words)
        hint = f"kubectl describe pod {pod.name}; look at the CSI driver's pod on {pod.node or 'the node'}."
        if nfs:
            hint = "See that the NFS server answers from this node, exports the path and lets the node in."
        if driver:
            hint = f"Install the CSI driver {driver[1]} on {pod.node or 'the node'}."
        yield _of_pod(
            "volume-not-mounted",
            pod,
            f"The volume{f' {volume[1]}' if volume else ''} of {pod.name} cannot be mounted "
            f"on {pod.node or 'its node'}: "
            f"{shortened(words.rpartition('desc = ')[2] or words, 160).rstrip('.')}.",
            hint,
            words,
            patience=180.0,
        )
        return


def _pending(scene: Scene) -> Iterator[tuple[Object, str, list[Happened]]]:
    """Claims without a volume, and their events; one that waits for its pod to be placed is fine."""
    for claim in scene.snapshot.claims or tuple(_told_of(scene)):
        name = text(part(claim, "metadata"), "name")
        events = [e for e in scene.events if e.kind == "PersistentVolumeClaim" and e.name == name]
        phase = text(part(claim, "status"), "phase")
        if phase not in ("Pending", "") or not events:
            continue
        if events[0].reason == "WaitForFirstConsumer":
            continue
        yield claim, name, events


def _told_of(scene: Scene) -> Iterator[Object]:
    """Claims that events speak of, where the claims themselves were not read, while a pod waits for one of them."""
    if not any(
        "PersistentVolumeClaim" in words_of(pod)
        or "persistentvolumeclaim" in words_of(pod)
        or pod.waits_to_start
        for pod in scene.pods
    ):
        return
    for name in dict.fromkeys(e.name for e in scene.events if e.kind == "PersistentVolumeClaim"):
        wanted = next(
            (
                o
                for o in scene.snapshot.objects
                if text(o, "kind") == "PersistentVolumeClaim" and text(part(o, "metadata"), "name") == name
            ),
            {},
        )
        yield {"metadata": {"name": name}, "spec": part(wanted, "spec"), "status": {}}


def _mounting(scene: Scene, *reasons: str) -> Iterator[tuple[Seen, Happened]]:
    for pod in scene.pods:
        if pod.waits_to_start:
            for event in pod.said(*reasons):
                yield pod, event


def _config(scene: Scene) -> Iterator[tuple[Seen, str]]:
    for pod, event in _mounting(scene, "FailedMount"):
        yield pod, event.message
    for pod in scene.pods:
        for box in pod.boxes:
            if box.reason == "CreateContainerConfigError":
                yield pod, box.message


def _cause(
    code: str,
    claim: Object,
    sentence: str,
    hint: str,
    words: str,
    *,
    final: bool = False,
    patience: float = 0.0,
) -> Cause:
    return Cause(
        code=code,
        sentence=sentence,
        evidence=(shortened(words),),
        hint=hint,
        final=final,
        patience_seconds=patience,
        since=unix(raw(part(claim, "metadata"), "creationTimestamp")),
    )


def _of_pod(code: str, pod: Seen, sentence: str, hint: str, words: str, *, patience: float) -> Cause:
    return Cause(
        code=code,
        sentence=sentence,
        evidence=(shortened(words),),
        hint=hint,
        patience_seconds=patience,
        since=pod.created,
        pod=pod.name,
        node=pod.node,
    )
