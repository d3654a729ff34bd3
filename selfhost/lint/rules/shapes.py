"""Shapes that the API server, server-side apply or a custom resource's schema refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from selfhost.lint.edits import drop_item, drop_key
from selfhost.lint.model import Lot, Pod
from selfhost.lint.nodes import Map
from selfhost.lint.types import Found, Rule, Where

_CONTAINER_KEYS = (
    "env", "envFrom", "args", "command", "ports", "volumeMounts", "resources", "securityContext", "lifecycle",
    "livenessProbe", "readinessProbe", "startupProbe",
)  # fmt: skip
_POD_KEYS = (
    "volumes", "initContainers", "tolerations", "imagePullSecrets", "nodeSelector", "affinity", "securityContext",
    "topologySpreadConstraints",
)  # fmt: skip
_SELECTING = ("Deployment", "StatefulSet", "DaemonSet")
_BUILT_IN = ("apps", "batch", "")


def _twice(lot: Lot) -> Iterator[Found]:
    for where, key, first in lot.duplicates:
        yield Found(where=where, message=f"key {key} stands twice in one mapping, first on line {first}")


def _nulls(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        group = pod.owner.api_version.rpartition("/")[0]
        if pod.owner.kind in _SELECTING and "selector" not in pod.owner.body.map("spec"):
            continue  # a patch: null takes a field away there
        for where, mapping, keys in _holders(pod):
            for key in keys:
                if key not in mapping or mapping[key] is not None:
                    continue
                custom = group not in _BUILT_IN
                yield Found(
                    where=where(mapping.line(key), key),
                    message=f"{key} is null"
                    + (f", which the schema of {pod.owner.kind} refuses" if custom else ""),
                    fix=f"leave {key} out, or write [] or {{}}",
                    edits=drop_key(mapping, key),
                    severity="error"
                    if custom
                    else "warning"
                    if key in ("env", "args", "command")
                    else "note",
                )


def _holders(pod: Pod) -> Iterator[tuple[Callable[[int, str], Where], Map, tuple[str, ...]]]:
    yield pod.at, pod.spec, _POD_KEYS
    for container in pod.containers:
        yield container.at, container.body, _CONTAINER_KEYS


def _variables(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        for container in pod.containers:
            last: dict[str, int] = {}
            entries = list(container.body.seq("env").maps())
            for (index, _), variable in zip(entries, container.variables, strict=True):
                if variable.name and variable.name in last:
                    yield Found(
                        where=variable.where,
                        message=f"variable {variable.name} stands twice; the last one counts",
                        fix=f"keep one {variable.name}",
                        edits=drop_item(container.body.seq("env"), last[variable.name]),
                    )
                last[variable.name] = index


def _repeated(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        if pod.managed and pod.group_size is None:
            continue  # an operator may merge several parts into one pod
        yield from _again(
            ((each.name, each.where) for each in pod.volumes if each.kind != "claim-template"), "volume"
        )
        yield from _again(((each.name, each.where) for each in pod.containers), "container")
        for container in pod.containers:
            mounts = ((each.path, each.where) for each in container.mounts)
            yield from _again(mounts, "mount path")
            yield from _again(((each.name, each.where) for each in container.ports), "port name")
            numbers = (
                (f"{each.number}/{each.protocol}", each.where) for each in container.ports if each.number
            )
            yield from _again(numbers, "port")


def _again(named: Iterator[tuple[str, Where]], what: str) -> Iterator[Found]:
    seen: set[str] = set()
    for name, where in named:
        if name and name in seen:
            yield Found(
                where=where, message=f"{what} {name} stands twice", fix="keep one, or rename the other"
            )
        seen.add(name)


def _mounts(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        if pod.managed or isinstance(pod.spec.get("volumes"), str):
            continue
        names = {each.name for each in pod.volumes}
        for container in pod.containers:
            for mount in container.mounts:
                if mount.name not in names:
                    yield Found(
                        where=mount.where,
                        message=f"mount {mount.path or mount.name} names volume {mount.name}, which the "
                        "pod does not have",
                    )


RULES = (
    Rule(
        code="SH001",
        title="Key twice in one mapping",
        severity="error",
        reason="YAML allows a key once: strict readers refuse the file, the others take the last value without a word.",
        fix="Keep one of them.",
        sources=("YAML 1.2.2, 3.2.1.3; kubectl's strict field validation, Kubernetes 1.27",),
        check=_twice,
    ),
    Rule(
        code="SH002",
        title="Null field",
        severity="warning",
        reason="`env:` with nothing behind it is null, not an empty list; schemas of custom resources refuse it.",
        fix="Leave the field out.",
        sources=("LeaderWorkerSet v1 schema against a render of llm-d-modelservice, 2026-11-21",),
        check=_nulls,
        fixable=True,
    ),
    Rule(
        code="SH003",
        title="Variable twice in one container",
        severity="error",
        reason="Server-side apply, which Helm 4 uses, refuses two entries of one name; elsewhere the "
        "last one counts silently.",
        fix="Keep one entry.",
        sources=(
            (
                "Helm 4.3 release notes, server-side apply by default; core/v1 Container.env (list map by "
                "name), 2026-11-21"
            ),
        ),
        check=_variables,
        fixable=True,
    ),
    Rule(
        code="SH004",
        title="Name, port or path twice",
        severity="error",
        reason="Names of volumes, containers and ports and mount paths are unique within a pod or "
        "container; the API server "
        "refuses the second.",
        fix="Rename or remove one.",
        sources=("core/v1 PodSpec validation, Kubernetes 1.37",),
        check=_repeated,
    ),
    Rule(
        code="SH005",
        title="Mount of a volume that is not there",
        severity="error",
        reason="The API server refuses a pod that mounts a volume it does not have.",
        fix="Add the volume, or remove the mount.",
        sources=("core/v1 PodSpec validation, Kubernetes 1.37",),
        check=_mounts,
    ),
)
