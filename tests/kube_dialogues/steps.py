"""One request of a dialogue, and the objects that dialogues speak of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"
STRATEGIC, PATCH = "application/strategic-merge-patch+json", "application/json-patch+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request. `NS` in its path stands for the dialogue's namespace."""

    method: str
    path: str
    body: Any = None
    form: str = JSON
    user: str = ""


Ask = Callable[[Step], tuple[int, Any, tuple[str, ...]]]
CORE, APPS, BATCH = "/api/v1/namespaces/NS", "/apis/apps/v1/namespaces/NS", "/apis/batch/v1/namespaces/NS"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/NS"


def get(path: str, user: str = "") -> Step:
    return Step(method="GET", path=path, user=user)


def make(path: str, body: Object, user: str = "") -> Step:
    return Step(
        method="POST", path=f"{path}{'&' if '?' in path else '?'}fieldManager=maker", body=body, user=user
    )


def apply(
    path: str,
    body: Object,
    manager: str = "selfhost",
    *,
    force: bool = False,
    dry: bool = False,
    user: str = "",
) -> Step:
    query = f"fieldManager={manager}&fieldValidation=Strict"
    query += ("&force=true" if force else "") + ("&dryRun=All" if dry else "")
    return Step(method="PATCH", path=f"{path}?{query}", body=body, form=APPLY, user=user)


def merge(path: str, body: Object, manager: str = "editor") -> Step:
    return Step(method="PATCH", path=f"{path}?fieldManager={manager}", body=body, form=MERGE)


def delete(path: str, body: Object | None = None) -> Step:
    return Step(method="DELETE", path=path, body=body)


def obj(api_version: str, kind: str, name: str, body: Object | None = None, **metadata: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **metadata}} | (body or {})


def container(**more: Any) -> Object:
    return {"name": "c", "image": "example/engine:1"} | more


def deployment(name: str = "web", replicas: int | None = 1, **spec: Any) -> Object:
    pod = {"containers": [container(**spec.pop("container", {}))]} | spec.pop("pod", {})
    found: Object = {"replicas": replicas} if replicas is not None else {}
    found |= {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }
    return obj("apps/v1", "Deployment", name, {"spec": found | spec}, labels={"app": name})


def pod(name: str = "p", **spec: Any) -> Object:
    return obj("v1", "Pod", name, {"spec": {"containers": [container()]} | spec})


def config(name: str = "m", **data: str) -> Object:
    return obj("v1", "ConfigMap", name, {"data": data})


ENGINE: Object = {
    "ports": [{"containerPort": 8000, "name": "http"}],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ],
    "args": ["--a", "--b"],
    "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "2Gi"}, "requests": {"cpu": "500m"}},
    "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
    "livenessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 30},
    "startupProbe": {"httpGet": {"port": 8000}, "failureThreshold": 90},
    "volumeMounts": [{"name": "w", "mountPath": "/models"}, {"name": "s", "mountPath": "/dev/shm"}],
    "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
VOLUMES: list[Object] = [
    {"name": "w", "persistentVolumeClaim": {"claimName": "weights"}},
    {"name": "s", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    {"name": "c", "configMap": {"name": "x"}},
    {"name": "k", "secret": {"secretName": "x"}},
    {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    {"name": "i", "image": {"reference": "example/model:1"}},
]
HARDENED: Object = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [container(securityContext=ENGINE["securityContext"])],
}
WEB, MAP, POD = f"{APPS}/deployments/web", f"{CORE}/configmaps/m", f"{CORE}/pods/p"
CLAIM = f"{CORE}/persistentvolumeclaims/weights"


def claim(**spec: Any) -> Object:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    return obj("v1", "PersistentVolumeClaim", "weights", {"spec": asked | spec})


def service(**spec: Any) -> Object:
    return obj(
        "v1", "Service", "web", {"spec": {"selector": {"app": "web"}, "ports": [{"port": 8000}]} | spec}
    )


def job(image: str = "example/pull:1") -> Object:
    spec = {"restartPolicy": "Never", "containers": [container(image=image)]}
    return obj("batch/v1", "Job", "pull", {"spec": {"template": {"spec": spec}, "backoffLimit": 2}})


def review(verb: str, group: str, resource: str, **more: str) -> Object:
    asked = {"namespace": "NS", "verb": verb, "group": group, "resource": resource} | more
    return {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }  # fmt: skip


REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
