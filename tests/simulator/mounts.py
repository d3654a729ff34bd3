"""What a container finds in its volumes and its environment, read from the API server as the kubelet reads it."""

from __future__ import annotations

import base64
from typing import Any

from tests.simulator.client import Client, RefusalError

Object = dict[str, Any]
# (kind of volume, namespace or pod, name) -> files in it
Volumes = dict[tuple[str, str, str], set[str]]


class MountError(Exception):
    """Why a volume cannot be mounted or a container not be configured, in the kubelet's words.

    Words after Kubernetes 1.36.2 pkg/volume/util/operationexecutor/operation_generator.go (MountVolume.SetUp failed),
    pkg/volume/secret/secret.go and configmap/configmap.go, pkg/kubelet/kubelet_pods.go (couldn't find key).
    """

    def __init__(self, said: str, volume: str = "") -> None:
        super().__init__(said)
        self.said, self.volume = said, volume


def _fetch(client: Client, plural: str, namespace: str, name: str) -> Object | None:
    try:
        return client.ask("GET", f"/api/v1/namespaces/{namespace}/{plural}/{name}")
    except RefusalError as answer:
        if answer.status == 404:
            return None
        raise


def _keys(found: Object, plural: str) -> dict[str, str]:
    if plural == "configmaps":
        return dict.fromkeys(found.get("binaryData") or {}, "") | (found.get("data") or {})
    encoded = found.get("data") or {}
    return {key: base64.b64decode(text).decode(errors="replace") for key, text in encoded.items()}


def unmountable(client: Client, pod: Object) -> None:
    """Look at every volume.

    Raises:
        MountError: the first that cannot be mounted.
    """
    namespace = pod["metadata"]["namespace"]
    for volume in pod["spec"].get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            for field, plural, named in (
                ("configMap", "configmaps", "name"),
                ("secret", "secrets", "secretName" if source is volume else "name"),
            ):
                wanted = source.get(field)
                if wanted:
                    _look(client, namespace, volume["name"], plural, wanted, named)


def _look(client: Client, namespace: str, volume: str, plural: str, wanted: Object, named: str) -> None:
    name, kind = str(wanted.get(named, "")), plural[:-1]
    found = _fetch(client, plural, namespace, name)
    if wanted.get("optional"):
        return
    if found is None:
        raise MountError(
            f'MountVolume.SetUp failed for volume "{volume}" : {kind} "{name}" not found', volume
        )
    keys = _keys(found, plural)
    for item in wanted.get("items") or ():
        if item["key"] not in keys:
            said = f"{kind} references non-existent config key: {item['key']}"
            if kind == "secret":
                said = f"references non-existent secret key: {item['key']}"
            raise MountError(f'MountVolume.SetUp failed for volume "{volume}" : {said}', volume)


def environment(client: Client, pod: Object, spec: Object) -> dict[str, str]:
    """A container's variables.

    Raises:
        MountError: a Secret or ConfigMap, or a key of it, is not there.
    """
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for one in spec.get("envFrom") or ():
        for field, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            wanted = one.get(field)
            if wanted:
                item = _fetch(client, plural, namespace, wanted["name"])
                if item is None and not wanted.get("optional"):
                    raise MountError(f'{plural[:-1]} "{wanted["name"]}" not found')
                found |= _keys(item, plural) if item else {}
    for one in spec.get("env") or ():
        value = _value(client, namespace, pod, one)
        if value is not None:
            found[one["name"]] = value
    return found


def _value(client: Client, namespace: str, pod: Object, one: Object) -> str | None:
    source = one.get("valueFrom")
    if not source:
        return str(one.get("value", ""))
    if "fieldRef" in source:
        at: Any = pod
        for step in source["fieldRef"]["fieldPath"].split("."):
            at = at.get(step, "") if isinstance(at, dict) else ""
        return str(at)
    for field, plural, word in (
        ("secretKeyRef", "secrets", "Secret"),
        ("configMapKeyRef", "configmaps", "ConfigMap"),
    ):
        wanted = source.get(field)
        if not wanted:
            continue
        item = _fetch(client, plural, namespace, wanted["name"])
        keys = _keys(item, plural) if item is not None else {}
        if wanted["key"] in keys:
            return keys[wanted["key"]]
        if wanted.get("optional"):
            return None
        if item is None:
            raise MountError(f'{plural[:-1]} "{wanted["name"]}" not found')
        raise MountError(f"couldn't find key {wanted['key']} in {word} {namespace}/{wanted['name']}")
    return ""


def mounts_of(pod: Object, spec: Object, volumes: Volumes, uid: str) -> dict[str, set[str]]:
    """Directory -> files: a claim's are shared by whoever mounts it, a scratch directory's by the pod."""
    namespace = pod["metadata"]["namespace"]
    sources: dict[str, tuple[str, str, str]] = {}
    for volume in pod["spec"].get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        host = (volume.get("hostPath") or {}).get("path")
        if claim:
            sources[volume["name"]] = ("claim", namespace, claim)
        elif host:
            sources[volume["name"]] = ("host", pod["spec"]["nodeName"], host)
        else:
            sources[volume["name"]] = ("pod", uid, volume["name"])
    found = {}
    for mount in spec.get("volumeMounts") or ():
        if mount["name"] in sources:
            found[mount["mountPath"].rstrip("/")] = volumes.setdefault(sources[mount["name"]], set())
    return found
