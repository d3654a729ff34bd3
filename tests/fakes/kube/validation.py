"""Objects that the API server does not accept: unknown fields, missing ones, and what may not change (422)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.kube import selectors
from tests.fakes.kube.kinds import Kind, Shape, own_kinds, shape_of
from tests.fakes.kube.wire import Object, RefusalError, at, go, invalid, name_of, pod_specs, quantity

Cause = tuple[str, str, str]
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_RFC1123 = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)

_RFC1123_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def check(kind: Kind, before: Object | None, item: Object, *, strict: bool, warnings: list[str]) -> None:
    """Nothing, where an object may be as it is; unknown fields are left out of it where they are no error.

    Raises:
        RefusalError: it may not.
    """
    unknown: list[str] = []
    _known(item, shape_of(kind), "", unknown)
    if unknown:
        said = [f'unknown field "{path}"' for path in sorted(unknown)]
        if strict:
            raise RefusalError(
                400, "BadRequest",
                f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
                f"strict decoding error: {', '.join(said)}",
            )  # fmt: skip
        warnings += said
    causes = [*_required(kind, item), *_content(kind, item)]
    if before is not None:
        causes += _unchanged(kind, before, item)
    if causes:
        raise invalid(kind.name, kind.group, name_of(item), causes)


def _known(value: Any, shape: Shape, path: str, unknown: list[str]) -> None:
    if isinstance(value, dict) and shape.form in ("struct", "atomic"):
        for name in list(value):
            below = shape.field(name)
            here = f"{path}.{name}" if path else name
            if below is None:
                unknown.append(here)
                del value[name]
            else:
                _known(value[name], below, here, unknown)
    elif isinstance(value, list) and shape.form != "scalar":
        inner = shape.item()
        for number, one in enumerate(value):
            _known(one, inner, f"{path}[{number}]", unknown)


def _required(kind: Kind, item: Object) -> list[Cause]:
    """Fields that have to be there. What defaults would fill in counts as there."""
    found: list[str] = []
    _missing(item, shape_of(kind), "", found)
    left_out = ("status", "metadata", "spec.template.metadata")
    return [
        (path, "FieldValueRequired", "Required value")
        for path in found
        if not path.startswith(left_out) and not path.endswith((".protocol",))
    ]


def _missing(value: Any, shape: Shape, path: str, found: list[str]) -> None:
    if isinstance(value, dict) and shape.form in ("struct", "atomic"):
        found += [
            f"{path}.{name}" if path else name
            for name in shape.required
            if value.get(name) is None and name not in shape.defaults
        ]
        for name, one in value.items():
            below = shape.field(name)
            if below is not None:
                _missing(one, below, f"{path}.{name}" if path else name, found)
    elif isinstance(value, list) and shape.form != "scalar":
        inner = shape.item()
        for number, one in enumerate(value):
            _missing(one, inner, f"{path}[{number}]", found)


def _content(kind: Kind, item: Object) -> Iterator[Cause]:
    name = name_of(item)
    pattern = _LABEL if kind.name in ("Service", "Namespace") and not kind.group else _SUBDOMAIN
    if not name:
        yield "metadata.name", "FieldValueRequired", "Required value: name or generateName is required"
    elif not pattern.fullmatch(name) and kind.group != "rbac.authorization.k8s.io":
        words = _RFC1123_LABEL if pattern is _LABEL else _RFC1123
        yield "metadata.name", "FieldValueInvalid", f"Invalid value: {go(name)}: {words}"
    if kind not in own_kinds():
        return
    for path, spec in pod_specs(item):
        yield from _pod(path, spec)
    if kind.name in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"):
        labels = at(item, "spec", "template", "metadata", "labels") or {}
        selector = at(item, "spec", "selector")
        if selector is not None and not selectors.matches(selector, labels):
            yield (
                "spec.template.metadata.labels", "FieldValueInvalid",
                f"Invalid value: {go(labels)}: `selector` does not match template `labels`",
            )  # fmt: skip
    if kind.name == "Job" and at(item, "spec", "template", "spec", "restartPolicy") in (None, "Always"):
        yield (
            "spec.template.spec.restartPolicy", "FieldValueNotSupported" if at(
                item, "spec", "template", "spec", "restartPolicy") else "FieldValueRequired",
            'Unsupported value: "Always": supported values: "OnFailure", "Never"' if at(
                item, "spec", "template", "spec", "restartPolicy") else
            'Required value: valid values: "OnFailure", "Never"',
        )  # fmt: skip


def _pod(path: str, spec: Object) -> Iterator[Cause]:
    volumes = {one.get("name") for one in spec.get("volumes") or ()}
    for group in ("initContainers", "containers"):
        for number, one in enumerate(spec.get(group) or ()):
            here = f"{path}.{group}[{number}]"
            if not one.get("image"):
                yield f"{here}.image", "FieldValueRequired", "Required value"
            yield from _resources(f"{here}.resources", one.get("resources") or {})
            for place, mount in enumerate(one.get("volumeMounts") or ()):
                if mount.get("name") not in volumes:
                    yield (
                        f"{here}.volumeMounts[{place}].name", "FieldValueNotFound",
                        f"Not found: {go(mount.get('name'))}",
                    )  # fmt: skip


def _resources(path: str, resources: Object) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, value in requests.items():
        if name in limits and quantity(value) > quantity(limits[name]):
            yield (
                f"{path}.requests", "FieldValueInvalid",
                f"Invalid value: {go(str(value))}: must be less than or equal to {name} limit of {limits[name]}",
            )  # fmt: skip
        if "/" in name and name not in limits:
            words = "Required value: Limit must be set for non overcommitable resources"
            yield f"{path}.limits", "FieldValueRequired", words


def _unchanged(kind: Kind, before: Object, item: Object) -> Iterator[Cause]:
    """What may not change once it is there."""
    if kind not in own_kinds():
        return
    old, new = before.get("spec") or {}, item.get("spec") or {}
    match kind.name:
        case "Deployment" | "ReplicaSet" | "DaemonSet":
            yield from _same("spec.selector", old.get("selector"), new.get("selector"))
        case "StatefulSet":
            allowed = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
                       "persistentVolumeClaimRetentionPolicy", "minReadySeconds")  # fmt: skip
            if {k: v for k, v in old.items() if k not in allowed} != {
                k: v for k, v in new.items() if k not in allowed
            }:
                yield "spec", "FieldValueForbidden", _STATEFUL
        case "Job":
            yield from _same("spec.completions", old.get("completions"), new.get("completions"))
            yield from _same("spec.selector", old.get("selector"), new.get("selector"))
            yield from _same("spec.template", old.get("template"), new.get("template"))
            yield from _same("spec.completionMode", old.get("completionMode"), new.get("completionMode"))
        case "PersistentVolumeClaim":
            yield from _claim(before, old, new)
        case "Service":
            if (
                old.get("clusterIP")
                and new.get("clusterIP") != old.get("clusterIP")
                and new.get("type") != "ExternalName"
            ):
                value = go([new.get("clusterIP")])
                yield (
                    "spec.clusterIPs[0]",
                    "FieldValueInvalid",
                    f"Invalid value: {value}: may not change once set",
                )
        case "ConfigMap" | "Secret":
            if before.get("immutable") and any(
                before.get(name) != item.get(name)
                for name in ("data", "binaryData", "immutable", "stringData")
            ):
                yield "data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"
            if kind.name == "Secret":
                yield from _same("type", before.get("type"), item.get("type"))
        case "RoleBinding" | "ClusterRoleBinding":
            if before.get("roleRef") != item.get("roleRef"):
                yield (
                    "roleRef",
                    "FieldValueInvalid",
                    f"Invalid value: {go(item.get('roleRef'))}: cannot change roleRef",
                )
        case "StorageClass":
            for name in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
                if before.get(name) != item.get(name):
                    yield name, "FieldValueForbidden", f"Forbidden: updates to {name} are forbidden."
        case "Pod":
            yield from _pod_unchanged(old, new)


def _same(path: str, old: Any, new: Any) -> Iterator[Cause]:
    if old is not None and old != new:
        yield path, "FieldValueInvalid", f"Invalid value: {go(new)}: field is immutable"


_FREE = ("resources", "volumeAttributesClassName")
_FORBIDDEN = (
    "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound "
    "claims"
)
_STATEFUL = (
    "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
    "forbidden"
)
_POD_FORBIDDEN = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _claim(before: Object, old: Object, new: Object) -> Iterator[Cause]:
    settable = ("volumeName",) if not old.get("volumeName") else ()
    fixed = {k: v for k, v in old.items() if k not in (*_FREE, *settable)}
    if not old.get("storageClassName"):
        fixed.pop("storageClassName", None)
        now = {k: v for k, v in new.items() if k not in (*_FREE, *settable, "storageClassName")}
    else:
        now = {k: v for k, v in new.items() if k not in (*_FREE, *settable)}
    bound = at(before, "status", "phase") == "Bound"
    was, wanted = (at(one, "resources", "requests", "storage") for one in (old, new))
    if fixed != now or (was != wanted and not bound):
        yield "spec", "FieldValueForbidden", _FORBIDDEN
    elif was and wanted and quantity(wanted) < quantity(was):
        yield (
            "spec.resources.requests.storage", "FieldValueForbidden",
            "Forbidden: field can not be less than status.capacity",
        )  # fmt: skip


def _pod_unchanged(old: Object, new: Object) -> Iterator[Cause]:
    def fixed(spec: Object) -> Object:
        """Less what may change: images, tolerations, the deadline, and the node of a pod that has none."""
        left = {
            k: v for k, v in spec.items() if k not in ("tolerations", "activeDeadlineSeconds", "nodeName")
        }
        for group in ("containers", "initContainers"):
            if group in left:
                left[group] = [{k: v for k, v in one.items() if k != "image"} for one in left[group]]
        return left

    if fixed(old) != fixed(new) or (old.get("nodeName") and old.get("nodeName") != new.get("nodeName")):
        yield "spec", "FieldValueForbidden", _POD_FORBIDDEN
