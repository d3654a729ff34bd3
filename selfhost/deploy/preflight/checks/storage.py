"""The volume of the weights: its class, its access mode, and a claim of that name that is there already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.amounts import milli, shown
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.preflight.needs import Needs, needs_of
from selfhost.deploy.surge import steps
from selfhost.deploy.types import Finding, is_ours

_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_ZONE = "topology.kubernetes.io/zone"
_RWX, _RWO, _RWOP = "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
# Provisioners of disks, which one node mounts at a time as a file system. The kubernetes-csi project's list of drivers
# says Read/Write Single Pod of them (kubernetes-csi/docs book/src/drivers.md, which the projects fill in themselves, a
# stored copy, read 2026-11-26). The kubernetes.io/ ones are the names that Kubernetes had for the same disks. What is
# not here may or may not share; the claim's own event then says so.
_ONE_NODE = {
    "ebs.csi.aws.com": "EBS; the EFS or FSx driver shares",
    "kubernetes.io/aws-ebs": "EBS; the EFS or FSx driver shares",
    "pd.csi.storage.gke.io": "Persistent Disk; Filestore shares",
    "kubernetes.io/gce-pd": "Persistent Disk; Filestore shares",
    "disk.csi.azure.com": "Azure Disk; Azure Files shares",
    "kubernetes.io/azure-disk": "Azure Disk; Azure Files shares",
    "dobs.csi.digitalocean.com": "block storage of one node",
    "csi.hetzner.cloud": "block storage of one node",
    "linodebs.csi.linode.com": "block storage of one node",
    "csi.scaleway.com": "block storage of one node",
    "rbd.csi.ceph.com": "RBD; CephFS shares",
}
# Those that share only where they are set up for it, so that it cannot be told from the class.
_MAYBE = {
    # drivers.md: "Depends on the storage backend used"
    "cinder.csi.openstack.org": "Cinder shares on some backends; Manila does",
    # rancher/local-path-provisioner README: all modes with sharedFileSystemPath, else a directory of one node
    "rancher.io/local-path": "a directory of one node, unless it is set up with sharedFileSystemPath",
    # topolvm/topolvm discussion 663: it refuses no mode, and its volumes are bound to the node
    "topolvm.io": "a logical volume of one node",
    # drivers.md says single pod; storage classes of the driver have a storage_type (vultr/vultr-csi, its values unread)
    "block.csi.vultr.com": "block storage of one node",
    # not checked: OpenEBS's own documentation was not read
    "local.csi.openebs.io": "a logical volume of one node",
    "openebs.io/local": "a directory of one node",
}
_RBD = ".rbd.csi.ceph.com"  # of Rook: the operator's namespace stands before it


def storage_class(look: Look) -> Iterator[Finding]:
    """Whether the claim that is to be made will get a volume, and one that as many pods can mount as there are."""
    wants = needs_of(look.desired)
    new = [claim for claim in wants.own_claims if not _exists(look, claim)]
    if not new:
        return
    classes = look.facts.storage_classes
    if isinstance(classes, Unread):
        yield Finding(
            code="storage-class",
            level="unknown",
            message=f"Whether the weights get a volume is not known: {classes.sentence}.",
            hint=classes.hint,
        )
        return
    for claim in new:
        yield from _of_claim(look, claim, classes)


def _of_claim(look: Look, claim: Object, classes: Sequence[Object]) -> Iterator[Finding]:
    spec = part(claim, "spec")
    given = spec.get("storageClassName")
    if given == "" or text(spec, "volumeName"):
        return  # bound by hand to a volume that is among the objects
    names = ", ".join(map(_name, classes[:6])) or "none"
    if isinstance(given, str):
        found = next((one for one in classes if _name(one) == given), None)
        if found is None:
            yield Finding(
                code="storage-class",
                level="error",
                message=f"There is no StorageClass {given}.",
                hint=f"Name one that there is with --storage-class: {names}.",
            )
            return
    else:
        defaults = [one for one in classes if _is_default(one)]
        if not defaults:
            yield Finding(
                code="storage-class",
                level="error",
                message="The cluster has no default StorageClass, and none is named for the weights.",
                hint=f"Name one with --storage-class: {names}.",
            )
            return
        # since 1.26 the newest default is taken (storage/util/helpers.go GetDefaultClass)
        found = max(defaults, key=lambda one: (text(part(one, "metadata"), "creationTimestamp"), _name(one)))
        if len(defaults) > 1:
            yield Finding(
                code="storage-class",
                level="warning",
                message=f"{len(defaults)} StorageClasses are marked as default; the newest is taken: {_name(found)}.",
                hint=f"Name the one that is meant: --storage-class {_name(found)}.",
                evidence=tuple(_name(one) for one in defaults),
            )
    yield from _suits(look, claim, found)


def _suits(look: Look, claim: Object, found: Object) -> Iterator[Finding]:
    modes, provisioner = _modes(claim), text(found, "provisioner")
    alone = _ONE_NODE.get(provisioner) or (
        _ONE_NODE["rbd.csi.ceph.com"] if provisioner.endswith(_RBD) else None
    )
    if _RWX in modes and alone is not None:
        yield Finding(
            code="storage-class",
            level="error",
            message=f"StorageClass {_name(found)} makes no volumes that several nodes can mount ({alone}), and the "
            "weights' claim asks for ReadWriteMany.",
            hint="Name a class that shares with --storage-class, or keep to one replica with --access-mode "
            "ReadWriteOnce.",
            evidence=(f"provisioner {provisioner}",),
        )
        return
    if _RWX in modes and provisioner in _MAYBE:
        yield Finding(
            code="storage-class",
            level="warning",
            message=f"StorageClass {_name(found)} may make no volumes that several nodes can mount "
            f"({_MAYBE[provisioner]}), and the weights' claim asks for ReadWriteMany.",
            hint="Name a class that shares with --storage-class, or keep to one replica with --access-mode "
            "ReadWriteOnce.",
            evidence=(f"provisioner {provisioner}",),
        )
    if provisioner == "kubernetes.io/no-provisioner":
        yield Finding(
            code="storage-class",
            level="warning",
            message=f"StorageClass {_name(found)} makes no volumes by itself: one has to be there already.",
            hint="Make a PersistentVolume of that class, or name another with --storage-class.",
        )
    zones = _zones(look)
    if text(found, "volumeBindingMode") != "WaitForFirstConsumer" and len(zones) > 1 and alone is not None:
        yield Finding(
            code="storage-class",
            level="warning",
            message=f"StorageClass {_name(found)} makes its volume before the pod has a node, maybe in a zone without "
            "a free GPU.",
            hint="Name a class with volumeBindingMode WaitForFirstConsumer (--storage-class).",
            evidence=(f"zones of the nodes: {', '.join(sorted(zones))}",),
        )
    yield Finding(code="storage-class", level="ok", message=f"storage {_name(found)}")


def claims(look: Look) -> Iterator[Finding]:
    """Claims that are there already: of the same name, or named by --weights pvc:."""
    wants, read = needs_of(look.desired), look.facts.claims
    if not wants.claims:
        return
    if isinstance(read, Unread):
        yield Finding(
            code="claim",
            level="unknown",
            message=f"Whether the weights' claim is there is not known: {read.sentence}.",
            hint=read.hint,
        )
        return
    there = {_name(one): one for one in read}
    own = {_name(one): one for one in wants.own_claims}
    for name in wants.claims:
        found = there.get(name)
        if found is None:
            if name not in own:
                yield Finding(
                    code="claim",
                    level="error",
                    message=f"There is no PersistentVolumeClaim {name} in {look.desired.namespace}.",
                    hint="Make it and put the weights on it, or leave --weights pvc: out.",
                )
            continue
        if name in own:
            yield from _differs(look, own[name], found)
        yield from _usable(look, wants, name, found)


def _differs(look: Look, wanted: Object, found: Object) -> Iterator[Finding]:
    """What the API server would refuse to change in a claim (core validation, ValidatePersistentVolumeClaimUpdate)."""
    name = _name(wanted)
    if not is_ours(found, look.desired.name):
        yield Finding(
            code="claim",
            level="error",
            message=f"PersistentVolumeClaim {name} is there already and is not selfhost's.",
            hint=f"Use it as it is with --weights pvc:{name}, or plan under another name (selfhost plan --name).",
        )
        return
    hint = (
        f"Keep the old options, or delete the claim and its weights: kubectl -n {look.desired.namespace} delete pvc "
        f"{name}"
    )
    asked, has = _modes(wanted), _modes(found)
    if asked != has:
        yield Finding(
            code="claim",
            level="error",
            message=f"PersistentVolumeClaim {name} is {', '.join(has)}, which cannot be changed to "
            f"{', '.join(asked)}.",
            hint=hint,
        )
    given, bound = part(wanted, "spec").get("storageClassName"), text(part(found, "spec"), "storageClassName")
    if isinstance(given, str) and given != bound:
        yield Finding(
            code="claim",
            level="error",
            message=f"PersistentVolumeClaim {name} is of StorageClass {bound or '(none)'}, which cannot be changed to "
            f"{given}.",
            hint=hint,
        )
    size, old = _size(wanted), _size(found)
    if size is None or old is None or size == old:
        return
    sizes = f"{shown('storage', old)} and {shown('storage', size)} are wanted"
    classes = look.facts.storage_classes
    grows = not isinstance(classes, Unread) and any(
        _name(one) == bound and one.get("allowVolumeExpansion") is True for one in classes
    )
    if size < old:
        yield Finding(
            code="claim",
            level="error",
            message=f"PersistentVolumeClaim {name} has {sizes}: it cannot shrink.",
            hint=hint,
        )
    elif not grows and not isinstance(classes, Unread):
        yield Finding(
            code="claim",
            level="error",
            message=f"PersistentVolumeClaim {name} has {sizes}, and its StorageClass {bound or '(none)'} does not let "
            "volumes grow.",
            hint=hint,
        )


def _usable(look: Look, wants: Needs, name: str, found: Object) -> Iterator[Finding]:
    phase, modes = text(part(found, "status"), "phase"), _modes(found)
    if phase == "Lost" or text(part(found, "metadata"), "deletionTimestamp"):
        yield Finding(
            code="claim",
            level="error",
            message=f"PersistentVolumeClaim {name} {'is being deleted' if phase != 'Lost' else 'has lost its volume'}.",
            hint=f"Delete it and make it anew: kubectl -n {look.desired.namespace} describe pvc {name}",
        )
        return
    mounting = sum(
        one.count
        for one in steps(look.desired, None, ())[-1].wanted
        if name in _mounted(one.spec) and one.what != "download"
    )
    if mounting > 1 and modes and set(modes) <= {_RWO, _RWOP}:
        yield Finding(
            code="claim",
            level="error" if set(modes) == {_RWOP} else "warning",
            message=f"PersistentVolumeClaim {name} is {', '.join(modes)}, and {mounting} pods mount it: all of them "
            "have to be on one node.",
            hint="Use a claim with ReadWriteMany or ReadOnlyMany.",
        )


def _mounted(spec: Object) -> set[str]:
    volumes = spec.get("volumes")
    return {
        text(part(volume, "persistentVolumeClaim"), "claimName")
        for volume in (volumes if isinstance(volumes, list) else ())
        if isinstance(volume, dict)
    }


def _zones(look: Look) -> set[str]:
    if isinstance(look.facts.nodes, Unread):
        return set()
    found = (texts(part(node, "metadata"), "labels").get(_ZONE, "") for node in look.facts.nodes)
    return {zone for zone in found if zone}


def _exists(look: Look, claim: Object) -> bool:
    there = look.facts.claims
    return not isinstance(there, Unread) and any(_name(one) == _name(claim) for one in there)


def _is_default(item: Object) -> bool:
    notes = texts(part(item, "metadata"), "annotations")
    return any(notes.get(key) == "true" for key in _DEFAULT)


def _modes(claim: Object) -> tuple[str, ...]:
    found = part(claim, "spec").get("accessModes")
    return tuple(sorted(str(one) for one in found)) if isinstance(found, list) else ()


def _size(claim: Object) -> int | None:
    return milli(part(part(part(claim, "spec"), "resources"), "requests").get("storage"))


def _name(item: Object) -> str:
    return text(part(item, "metadata"), "name")


CHECKS = (storage_class, claims)
