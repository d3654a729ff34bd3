"""What objects use of a ResourceQuota (pkg/quota/v1/evaluator/core)."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.store import Store
from tests.fakes.kube.wire import Object, at, namespace_of, quantity, quantity_text

_COUNTED = {
    "Pod": "pods", "Service": "services", "ConfigMap": "configmaps", "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims", "ResourceQuota": "resourcequotas",
}  # fmt: skip
_BARE = ("cpu", "memory", "ephemeral-storage")


def pod_usage(spec: Object) -> dict[str, Decimal]:
    """requests.X and limits.X of a pod: its containers together, or its largest start-up container."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    peaks: dict[str, Decimal] = defaultdict(Decimal)
    for one in spec.get("containers") or ():
        for name, value in _amounts(one).items():
            sums[name] += value
    for one in spec.get("initContainers") or ():
        for name, value in _amounts(one).items():
            if one.get("restartPolicy") == "Always":
                sums[name] += value
            else:
                peaks[name] = max(peaks[name], value)
    return {name: max(sums[name], peaks[name]) for name in {*sums, *peaks}}


def _amounts(container: Object) -> dict[str, Decimal]:
    return {
        f"{kind}.{name}": quantity(value)
        for kind in ("requests", "limits")
        for name, value in (at(container, "resources", kind) or {}).items()
    }


def usage(kind: Kind, item: Object) -> dict[str, Decimal]:
    """What one object uses."""
    found: dict[str, Decimal] = {f"count/{kind.resource}": Decimal(1)}
    if not kind.group and kind.name in _COUNTED:
        found[_COUNTED[kind.name]] = Decimal(1)
    if kind.name == "Pod":
        amounts = pod_usage(item.get("spec") or {})
        found |= {
            name: value for name, value in amounts.items() if "/" not in name or name.startswith("requests.")
        }
        found |= {name: amounts[f"requests.{name}"] for name in _BARE if f"requests.{name}" in amounts}
    elif kind.name == "PersistentVolumeClaim":
        storage = at(item, "spec", "resources", "requests", "storage")
        if storage is not None:
            found["requests.storage"] = quantity(storage)
            name = at(item, "spec", "storageClassName")
            if name:
                found[f"{name}.storageclass.storage.k8s.io/requests.storage"] = quantity(storage)
                found[f"{name}.storageclass.storage.k8s.io/persistentvolumeclaims"] = Decimal(1)
    return found


def in_scope(quota: Object, kind: Kind, item: Object) -> bool:
    """Whether a quota counts an object: scopes are of pods, by their quality of service and priority class."""
    scopes = at(quota, "spec", "scopes") or []
    classes = at(quota, "spec", "scopeSelector", "matchExpressions") or []
    if not scopes and not classes:
        return True
    if kind.name != "Pod":
        return False
    best = at(item, "status", "qosClass") == "BestEffort"
    ends = at(item, "spec", "activeDeadlineSeconds") is not None
    held = {"BestEffort": best, "NotBestEffort": not best, "Terminating": ends, "NotTerminating": not ends}
    if not all(held.get(scope, False) for scope in scopes):
        return False
    name = at(item, "spec", "priorityClassName") or ""
    for one in classes:
        values = one.get("values") or ()
        right = {
            "In": name in values,
            "NotIn": name not in values,
            "Exists": bool(name),
            "DoesNotExist": not name,
        }
        if one.get("scopeName") == "PriorityClass" and not right[one["operator"]]:
            return False
    return True


def unstated(kind: Kind, item: Object, hard: Object) -> str:
    """What a pod has to say where a quota limits it, and does not."""
    if kind.name != "Pod":
        return ""
    missing = []
    wanted = {f"requests.{name}" if name in _BARE else name: name for name in hard}
    for full, name in sorted(wanted.items(), key=lambda one: one[1]):
        side, _, resource = full.partition(".")
        if side not in ("requests", "limits") or resource not in _BARE:
            continue
        lacking = [
            str(one.get("name"))
            for one in [*(at(item, "spec", "initContainers") or ()), *(at(item, "spec", "containers") or ())]
            if resource not in (at(one, "resources", side) or {})
        ]
        if lacking:
            missing.append(f"{name} for: {','.join(lacking)}")
    return f"must specify {'; '.join(missing)}" if missing else ""


def used(store: Store, quota: Object) -> dict[str, Decimal]:
    """What is used of a quota in its namespace."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    namespace = namespace_of(quota)
    for item in store.everything():
        if namespace_of(item) != namespace:
            continue
        kind = store.named(item["apiVersion"], item["kind"])
        if kind is None or not in_scope(quota, kind, item) or _over(kind, item):
            continue
        for name, value in usage(kind, item).items():
            sums[name] += value
    return sums


def _over(kind: Kind, item: Object) -> bool:
    """A pod that has ended counts no more."""
    return kind.name == "Pod" and at(item, "status", "phase") in ("Succeeded", "Failed")


def shown(value: Decimal, name: str) -> str:
    """An amount as errors write it: bytes with a binary suffix where it divides."""
    if "memory" in name or "storage" in name:
        for suffix in ("Ti", "Gi", "Mi", "Ki"):
            text = quantity_text(value, f"1{suffix}")
            if text.endswith(suffix):
                return text
    return quantity_text(value)
