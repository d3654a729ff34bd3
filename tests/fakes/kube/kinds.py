"""Kinds that the server serves, and the schemas that server-side apply merges them by.

Kubernetes' own schemas are those of kubernetes-validate (OpenAPI of release 1.36, with x-kubernetes-list-type and the
like: compared with what a kube-apiserver 1.36 serves, no list or map differs); those of custom resources stand in their
definitions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import kubernetes_validate

_RELEASE = "v1.36.0-local"
_FILE = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / _RELEASE / "_definitions.json"
Form = Literal["scalar", "atomic", "struct", "keyed", "set", "unknown"]
# kubernetes-validate leaves defaults out; these stand in the keys of lists (core/v1, generated openapi).
_KEY_DEFAULTS = {"protocol": "TCP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of objects. `status`: written by a request of its own, as `scale` is read."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True
    status: bool = False
    scale: bool = False
    schema: Any = field(default=None, compare=False, repr=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As errors call it: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified(self) -> str:
        """As errors about content call it: `Deployment.apps`, `Pod`."""
        return f"{self.name}.{self.group}" if self.group else self.name

    @property
    def verbs(self) -> list[str]:
        return ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


# api version, kind, plural, and: c of no namespace, s with a status, a scale
_TABLE = """
v1 Namespace namespaces cs
v1 Node nodes cs
v1 Pod pods s
v1 Event events
v1 ConfigMap configmaps
v1 Secret secrets
v1 Service services s
v1 Endpoints endpoints
v1 ServiceAccount serviceaccounts
v1 PersistentVolumeClaim persistentvolumeclaims s
v1 PersistentVolume persistentvolumes cs
v1 ResourceQuota resourcequotas s
v1 LimitRange limitranges
apps/v1 Deployment deployments sa
apps/v1 ReplicaSet replicasets sa
apps/v1 StatefulSet statefulsets sa
apps/v1 DaemonSet daemonsets s
apps/v1 ControllerRevision controllerrevisions
batch/v1 Job jobs s
batch/v1 CronJob cronjobs s
coordination.k8s.io/v1 Lease leases
discovery.k8s.io/v1 EndpointSlice endpointslices
storage.k8s.io/v1 StorageClass storageclasses c
storage.k8s.io/v1 CSIDriver csidrivers c
storage.k8s.io/v1 CSINode csinodes c
networking.k8s.io/v1 NetworkPolicy networkpolicies
networking.k8s.io/v1 Ingress ingresses s
networking.k8s.io/v1 IngressClass ingressclasses c
policy/v1 PodDisruptionBudget poddisruptionbudgets s
autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers s
rbac.authorization.k8s.io/v1 Role roles
rbac.authorization.k8s.io/v1 RoleBinding rolebindings
rbac.authorization.k8s.io/v1 ClusterRole clusterroles c
rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings c
resource.k8s.io/v1 ResourceClaimTemplate resourceclaimtemplates
resource.k8s.io/v1 ResourceClaim resourceclaims s
resource.k8s.io/v1 ResourceSlice resourceslices c
resource.k8s.io/v1 DeviceClass deviceclasses c
scheduling.k8s.io/v1 PriorityClass priorityclasses c
node.k8s.io/v1 RuntimeClass runtimeclasses c
apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions cs
admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration validatingwebhookconfigurations c
admissionregistration.k8s.io/v1 MutatingWebhookConfiguration mutatingwebhookconfigurations c
"""


@cache
def _definitions() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))["$defs"]
    return found


@cache
def own_kinds() -> tuple[Kind, ...]:
    """Kubernetes' own kinds that are served."""
    schemas = {
        (one["group"], one["version"], one["kind"]): schema
        for schema in _definitions().values()
        for one in schema.get("x-kubernetes-group-version-kind", ())
    }
    made = []
    for line in _TABLE.split("\n"):
        if not line.strip():
            continue
        api_version, name, plural, *marks = line.split()
        group, _, version = api_version.rpartition("/")
        marked = "".join(marks)
        made.append(
            Kind(
                group=group, version=version, name=name, plural=plural, namespaced="c" not in marked,
                status="s" in marked, scale="a" in marked, schema=schemas[(group, version, name)],
            )
        )  # fmt: skip
    return tuple(made)


def defined_kinds(definition: dict[str, Any]) -> tuple[Kind, ...]:
    """The kinds that a CustomResourceDefinition makes served."""
    spec = definition["spec"]
    return tuple(
        Kind(
            group=spec["group"], version=one["name"], name=spec["names"]["kind"], plural=spec["names"]["plural"],
            namespaced=spec.get("scope") == "Namespaced",
            status="status" in (one.get("subresources") or {}), scale="scale" in (one.get("subresources") or {}),
            schema=(one.get("schema") or {}).get("openAPIV3Schema") or {},
        )
        for one in spec["versions"]
        if one.get("served")
    )  # fmt: skip


class Shape:
    """What is known of a value's form: how it is merged, and the forms of what is in it."""

    __slots__ = ("_fields", "_schema", "form", "keys")

    def __init__(self, schema: Any) -> None:
        own = schema if isinstance(schema, dict) else {}
        seen = own
        while "$ref" in seen:
            seen = _definitions()[seen["$ref"].removeprefix("#/$defs/")]
        kinds = seen.get("type")
        kind = next((one for one in kinds if one != "null"), "") if isinstance(kinds, list) else kinds
        self._schema = seen
        self._fields: dict[str, Shape | None] = {}
        self.keys: tuple[str, ...] = ()
        self.form: Form = "scalar"
        map_type = own.get("x-kubernetes-map-type") or seen.get("x-kubernetes-map-type")
        list_type = own.get("x-kubernetes-list-type") or seen.get("x-kubernetes-list-type")
        if kind == "object":
            free = not seen.get("properties") and "additionalProperties" not in seen
            self.form = "atomic" if map_type == "atomic" else ("unknown" if free else "struct")
        elif kind == "array":
            self.form = "keyed" if list_type == "map" else "set" if list_type == "set" else "atomic"
            self.keys = tuple(
                own.get("x-kubernetes-list-map-keys") or seen.get("x-kubernetes-list-map-keys") or ()
            )
        elif seen.get("x-kubernetes-preserve-unknown-fields"):
            self.form = "unknown"

    def field(self, name: str) -> Shape | None:
        """The form of a member, None where there is no such field."""
        try:
            return self._fields[name]
        except KeyError:
            found = self._fields[name] = self._field(name)
            return found

    def _field(self, name: str) -> Shape | None:
        if self.form == "unknown":
            return UNKNOWN
        found = (self._schema.get("properties") or {}).get(name)
        if found is not None:
            return _shape(_Key(found))
        more = self._schema.get("additionalProperties")
        if isinstance(more, dict):
            return _shape(_Key(more))
        if more is True or self._schema.get("x-kubernetes-preserve-unknown-fields"):
            return UNKNOWN
        return None

    def item(self) -> Shape:
        """The form of a list's items."""
        return _shape(_Key(self._schema.get("items") or {}))

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self._schema.get("required") or ())

    def default(self, name: str) -> Any:
        """The default of a key that an item lacks."""
        found = (self._schema.get("properties") or {}).get(name) or {}
        return found.get("default", _KEY_DEFAULTS.get(name))

    @property
    def free(self) -> bool:
        """Whether it is a map of any names."""
        return "additionalProperties" in self._schema and not self._schema.get("properties")

    @property
    def defaults(self) -> dict[str, Any]:
        """Defaults of a custom resource's fields."""
        found = self._schema.get("properties") or {}
        return {
            name: one["default"] for name, one in found.items() if isinstance(one, dict) and "default" in one
        }


class _Key:
    """A schema as a key of a cache: by identity, as schemas live as long as the process."""

    __slots__ = ("schema",)

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.schema is self.schema


@cache
def _shape(key: _Key) -> Shape:
    return Shape(key.schema)


UNKNOWN = Shape({"type": "object"})
_METADATA = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
_TEXT = {"type": "string"}


@cache
def _root(kind_schema: _Key) -> Shape:
    schema = dict(kind_schema.schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    schema["properties"] = (schema.get("properties") or {}) | {
        "metadata": _METADATA,
        "apiVersion": _TEXT,
        "kind": _TEXT,
    }
    return Shape(schema)


def shape_of(kind: Kind) -> Shape:
    """The form of a kind's objects."""
    return _root(_Key(kind.schema))
