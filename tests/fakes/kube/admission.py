"""What is changed or refused before it is stored: namespaces, limits, quotas, Pod Security, service accounts, webhooks.

Words of the plugins of Kubernetes 1.36: plugin/pkg/admission, pkg/quota/v1, pod-security-admission/policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.fakes.kube import podsecurity, quotas
from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.store import Store, absent
from tests.fakes.kube.wire import (
    Object,
    RefusalError,
    at,
    deleting,
    name_of,
    namespace_of,
    pod_specs,
    quantity,
)

_TOLERATED = 300  # seconds (plugin/pkg/admission/defaulttolerationseconds)
_LEVEL = "pod-security.kubernetes.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A validating webhook.

    Args:
        name: of it.
        wanted: which objects it refuses.
        message: why.
        code: of HTTP; a webhook that says none makes it 400.
        away: it does not answer instead.
    """

    name: str
    wanted: Callable[[Object], bool]
    message: str
    code: int = 403
    away: bool = False


@dataclass(slots=True)
class Admission:
    """The plugins that are on. `fill` makes what every namespace has."""

    store: Store
    webhooks: list[Webhook] = field(default_factory=list)
    service_accounts: bool = True
    fill: Callable[[str], None] | None = None

    # -- changing ---------------------------------------------------------------------------------------------------

    def mutate(self, kind: Kind, before: Object | None, item: Object, user: str) -> Object:
        """An object as it goes on.

        Raises:
            RefusalError: its namespace is not there or goes, or what it names is missing.
        """
        if kind.namespaced and before is None:
            self._live_namespace(kind, item)
        if before is not None:
            return item
        if kind.name == "Pod":
            self._account(item)
            self._priority(item)
            self._defaults(item)
            self._limits(item)
        elif kind.name == "PersistentVolumeClaim":
            self._class(item)
        return item

    def _kind(self, name: str, api_version: str = "v1") -> Kind:
        found = self.store.named(api_version, name)
        assert found is not None
        return found

    def _live_namespace(self, kind: Kind, item: Object) -> None:
        name = namespace_of(item)
        spaces = self._kind("Namespace")
        found = self.store.find(spaces, "", name)
        if found is None:
            raise absent(spaces, name)
        if deleting(found):
            raise forbidden(
                kind, name_of(item),
                f"unable to create new content in namespace {name} because it is being terminated",
                causes=[{"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated",
                         "field": "metadata.namespace"}],
            )  # fmt: skip

    def _account(self, item: Object) -> None:
        if not self.service_accounts:
            return
        spec = item["spec"]
        spec.setdefault("serviceAccountName", "default")
        name = spec["serviceAccountName"] or "default"
        if name == "default" and self.fill is not None:
            self.fill(namespace_of(item))  # the plugin waits for it: ten tries of 100 ms and more
        account = self.store.find(self._kind("ServiceAccount"), namespace_of(item), name)
        if account is None:
            raise forbidden(
                self._kind("Pod"), name_of(item),
                f'error looking up service account {namespace_of(item)}/{name}: serviceaccount "{name}" not found',
            )  # fmt: skip
        automatic = spec.get(
            "automountServiceAccountToken", account.get("automountServiceAccountToken", True)
        )
        if automatic and not any(
            "kube-api-access" in one.get("name", "") for one in spec.get("volumes") or ()
        ):
            self._token(spec)

    def _token(self, spec: Object) -> None:
        name = "kube-api-access-" + "x7k2p"
        sources: list[Any] = [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {
                "apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]  # fmt: skip
        place = "/var/run/secrets/kubernetes.io/serviceaccount"
        added = False
        for one in [*(spec.get("initContainers") or ()), *spec.get("containers", ())]:
            mounts = one.setdefault("volumeMounts", [])
            if not any(mount.get("mountPath") == place for mount in mounts):
                mounts.append({"name": name, "readOnly": True, "mountPath": place})
                added = True
        if added:
            spec.setdefault("volumes", []).append({"name": name, "projected": {"sources": sources}})

    def _priority(self, item: Object) -> None:
        spec = item["spec"]
        tolerations = spec.setdefault("tolerations", [])
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            if not any(
                one.get("key") in (key, None) and one.get("effect") in ("NoExecute", None)
                for one in tolerations
            ):
                tolerations.append(
                    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATED}
                )  # fmt: skip
        spec["preemptionPolicy"] = spec.get("preemptionPolicy") or "PreemptLowerPriority"
        name = spec.get("priorityClassName")
        if not name:
            spec["priority"] = 0
            return
        found = self.store.find(self._kind("PriorityClass", "scheduling.k8s.io/v1"), "", name)
        if found is None and name not in ("system-node-critical", "system-cluster-critical"):
            raise forbidden(self._kind("Pod"), name_of(item), f"no PriorityClass with name {name} was found")
        item["spec"]["priority"] = found["value"] if found is not None else 2_000_000_000

    def _class(self, item: Object) -> None:
        """The cluster's default StorageClass, where a claim names none."""
        spec = item.setdefault("spec", {})
        if "storageClassName" in spec or spec.get("volumeName"):
            return
        mark = "storageclass.kubernetes.io/is-default-class"
        classes = self.store.all(self._kind("StorageClass", "storage.k8s.io/v1"))
        default = next((one for one in classes if at(one, "metadata", "annotations", mark) == "true"), None)
        if default is not None:
            spec["storageClassName"] = name_of(default)

    def _ranges(self, namespace: str) -> list[Object]:
        return [
            limit
            for one in self.store.all(self._kind("LimitRange"), namespace)
            for limit in at(one, "spec", "limits") or ()
        ]

    def _defaults(self, item: Object) -> None:
        said: list[str] = []
        spec = item["spec"]
        for limit in self._ranges(namespace_of(item)):
            if limit.get("type") != "Container":
                continue
            for one in [*(spec.get("initContainers") or ()), *spec.get("containers", ())]:
                resources = one.setdefault("resources", {})
                for place, given in (("requests", "defaultRequest"), ("limits", "default")):
                    missing = {
                        k: v
                        for k, v in (limit.get(given) or {}).items()
                        if k not in (resources.get(place) or {})
                    }
                    if missing:
                        resources[place] = (resources.get(place) or {}) | missing
                        said.append(f"{', '.join(sorted(missing))} {place[:-1]} for container {one['name']}")
        if said:
            annotations = item["metadata"].setdefault("annotations", {})
            annotations["kubernetes.io/limit-ranger"] = f"LimitRanger plugin set: {'; '.join(said)}"

    def _limits(self, item: Object) -> None:
        found: list[str] = []
        spec = item["spec"]
        for limit in self._ranges(namespace_of(item)):
            if limit.get("type") == "Container":
                for one in [*(spec.get("initContainers") or ()), *spec.get("containers", ())]:
                    found += _beyond(limit, "Container", one.get("resources") or {})
            elif limit.get("type") == "Pod":
                usage = quotas.pod_usage(spec)
                sums = {
                    kind: {
                        name.removeprefix(f"{kind}."): str(value)
                        for name, value in usage.items()
                        if name.startswith(f"{kind}.")
                    }
                    for kind in ("requests", "limits")
                }
                found += _beyond(limit, "Pod", sums)
        if found:
            words = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            raise forbidden(self._kind("Pod"), name_of(item), words)

    # -- refusing ---------------------------------------------------------------------------------------------------

    def validate(
        self, kind: Kind, before: Object | None, item: Object, user: str, warnings: list[str]
    ) -> None:
        """Nothing, where an object may be stored.

        Raises:
            RefusalError: it may not.
        """
        if kind.namespaced:
            self._security(kind, before, item, warnings)
        for hook in self.webhooks:
            if hook.wanted(item):
                raise _denied(hook)
        if kind.name == "PersistentVolumeClaim" and before is None:
            self._claim_limits(item)
        if kind.namespaced and before is None:
            self._quota(kind, item)

    def _security(self, kind: Kind, before: Object | None, item: Object, warnings: list[str]) -> None:
        space = self.store.find(self._kind("Namespace"), "", namespace_of(item))
        labels = at(space, "metadata", "labels") or {}
        specs = list(pod_specs(item))
        if not specs or (before is not None and list(pod_specs(before)) == specs):
            return
        for mode in ("enforce", "warn"):
            level = labels.get(_LEVEL + mode, "privileged")
            version = labels.get(f"{_LEVEL}{mode}-version", "latest")
            if level == "privileged" or (mode == "enforce" and kind.name != "Pod"):
                continue
            found = podsecurity.violations(specs[0][1], level)
            if not found:
                continue
            words = f'PodSecurity "{level}:{version}": {", ".join(found)}'
            if mode == "enforce":
                raise forbidden(kind, name_of(item), f"violates {words}")
            if not any(words in one for one in warnings):
                warnings.append(f"would violate {words}")

    def _claim_limits(self, item: Object) -> None:
        found: list[str] = []
        requests = at(item, "spec", "resources", "requests") or {}
        for limit in self._ranges(namespace_of(item)):
            if limit.get("type") == "PersistentVolumeClaim":
                found += _beyond(limit, "PersistentVolumeClaim", {"requests": requests})
        if found:
            words = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            raise forbidden(self._kind("PersistentVolumeClaim"), name_of(item), words)

    def _quota(self, kind: Kind, item: Object) -> None:
        needed = quotas.usage(kind, item)
        for quota in self.store.all(self._kind("ResourceQuota"), namespace_of(item)):
            hard: Object = at(quota, "spec", "hard") or {}
            if not quotas.in_scope(quota, kind, item):
                continue
            words = quotas.unstated(kind, item, hard)
            if words:
                raise forbidden(kind, name_of(item), f"failed quota: {name_of(quota)}: {words}")
            used = quotas.used(self.store, quota)
            over = [
                name
                for name in sorted(hard)
                if needed.get(name) and used.get(name, Decimal(0)) + needed[name] > quantity(hard[name])
            ]
            if over:
                lists = (
                    ",".join(f"{name}={quotas.shown(values.get(name, Decimal(0)), name)}" for name in over)
                    for values in (needed, used, {name: quantity(hard[name]) for name in over})
                )
                asked, taken, most = lists
                raise forbidden(
                    kind, name_of(item),
                    f"exceeded quota: {name_of(quota)}, requested: {asked}, used: {taken}, limited: {most}",
                )  # fmt: skip


def forbidden(kind: Kind, name: str, words: str, causes: list[Object] | None = None) -> RefusalError:
    """403 of admission."""
    details: Object = {"name": name} | ({"group": kind.group} if kind.group else {}) | {"kind": kind.plural}
    details |= {"causes": causes} if causes else {}
    return RefusalError(
        403, "Forbidden", f'{kind.resource} "{name}" is forbidden: {words}', details=details
    )  # fmt: skip


def _denied(hook: Webhook) -> RefusalError:
    if hook.away:
        words = (
            f'failed calling webhook "{hook.name}": failed to call webhook: Post '
            f'"https://webhook.default.svc:443/validate?timeout=10s": {hook.message}'
        )
        return RefusalError(
            500, "InternalError", f"Internal error occurred: {words}", details={"causes": [{"message": words}]}
        )  # fmt: skip
    reason = {403: "Forbidden", 422: "Invalid"}.get(hook.code, "")
    return RefusalError(
        hook.code, reason, f'admission webhook "{hook.name}" denied the request: {hook.message}'
    )


def _beyond(limit: Object, what: str, resources: Object) -> list[str]:
    """What of a LimitRange's item does not hold (plugin/pkg/admission/limitranger)."""
    found = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, least in sorted((limit.get("min") or {}).items()):
        given = requests.get(name)
        if given is None:
            found.append(f"minimum {name} usage per {what} is {least}.  No request is specified")
        elif quantity(given) < quantity(least):
            found.append(f"minimum {name} usage per {what} is {least}, but request is {given}")
    for name, most in sorted((limit.get("max") or {}).items()):
        given = limits.get(name, requests.get(name) if what == "PersistentVolumeClaim" else None)
        word = "request" if what == "PersistentVolumeClaim" else "limit"
        if given is None:
            found.append(f"maximum {name} usage per {what} is {most}.  No limit is specified")
        elif quantity(given) > quantity(most):
            found.append(f"maximum {name} usage per {what} is {most}, but {word} is {given}")
    return found
