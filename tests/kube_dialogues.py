"""Requests to a Kubernetes API server, one after the other: what the fake is held to a real one by.

Each dialogue has a namespace of its own. What a server gives by chance (UIDs, times, versions, addresses) is written as
marks, in the order in which it comes: two answers with one version have one mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Object = dict[str, Any]
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"
STRATEGIC, PATCH = "application/strategic-merge-patch+json", "application/json-patch+json"
SECONDS = 60


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
_HARDENED: Object = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [container(securityContext=ENGINE["securityContext"])],
}
_WEB, _MAP, _POD = f"{APPS}/deployments/web", f"{CORE}/configmaps/m", f"{CORE}/pods/p"
_CLAIM = f"{CORE}/persistentvolumeclaims/weights"


def _claim(**spec: Any) -> Object:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    return obj("v1", "PersistentVolumeClaim", "weights", {"spec": asked | spec})


def _service(**spec: Any) -> Object:
    return obj(
        "v1", "Service", "web", {"spec": {"selector": {"app": "web"}, "ports": [{"port": 8000}]} | spec}
    )


def _job(image: str = "example/pull:1") -> Object:
    spec = {"restartPolicy": "Never", "containers": [container(image=image)]}
    return obj("batch/v1", "Job", "pull", {"spec": {"template": {"spec": spec}, "backoffLimit": 2}})


def _review(verb: str, group: str, resource: str, **more: str) -> Object:
    asked = {"namespace": "NS", "verb": verb, "group": group, "resource": resource} | more
    return {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }  # fmt: skip


_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
DIALOGUES: dict[str, tuple[Step, ...]] = {
    "apply-deployment": (
        apply(_WEB, deployment(container=ENGINE, pod={"volumes": VOLUMES}), dry=True),
        get(_WEB),
        apply(_WEB, deployment(container=ENGINE, pod={"volumes": VOLUMES})),
        apply(_WEB, deployment(container=ENGINE, pod={"volumes": VOLUMES})),
        apply(_WEB, deployment(container=ENGINE, pod={"volumes": VOLUMES[:2]}), dry=True),
        apply(_WEB, deployment(
            container=ENGINE | {"env": [{"name": "A", "value": "2"}]}, pod={"volumes": VOLUMES[:2]})),
        apply(_WEB, deployment(container=ENGINE | {"args": ["--c"]}, replicas=None)),
        get(_WEB),
    ),
    "conflicts": (
        apply(_WEB, deployment(container={"env": [{"name": "A", "value": "1"}]})),
        apply(_WEB, deployment(replicas=2), "other"),
        apply(_WEB, deployment(replicas=2), "other", force=True),
        apply(_WEB, deployment(container={"env": [{"name": "A", "value": "1"}]})),
        merge(_WEB, {"spec": {"replicas": 5, "template": {"spec": {"containers": [container(image="x:2")]}}}}),
        apply(_WEB, deployment(replicas=2), "other"),
        apply(_WEB, deployment(replicas=2, container={"image": "x:3", "env": [{"name": "A", "value": "9"}]}), "third"),
        apply(_WEB, deployment(replicas=2), "other", force=True, dry=True),
        apply(_WEB, deployment(replicas=None), "other", force=True),
        get(_WEB),
    ),
    "conflicts-of-one": (
        apply(_MAP, config(a="1", b="2")),
        apply(_MAP, config(a="2"), "other"),
        apply(_MAP, config(a="2", b="3"), "other"),
        apply(_MAP, config(a="1", c="3"), "other"),
        merge(_MAP, {"data": {"b": None}}),
        apply(_MAP, config(c="3")),
        apply(_MAP, config(c="3"), "other"),
        apply(_MAP, obj("v1", "ConfigMap", "m"), "other"),
    ),
    "lists": (
        apply(_WEB, deployment(container={"env": [{"name": n, "value": n} for n in "abc"]})),
        apply(_WEB, deployment(container={"env": [{"name": n, "value": n} for n in "xy"]}), "other"),
        apply(_WEB, deployment(container={"env": [{"name": n, "value": n} for n in "cza"]})),
        apply(_WEB, deployment(container={"env": [{"name": n, "value": n} for n in "ybx"]}), "other"),
        apply(_WEB, deployment(container={"env": [{"name": n, "value": n} for n in "nxqb"]}), "other"),
        apply(_WEB, deployment(container={"env": [{"name": n, "value": n} for n in "czma"]}), "other"),
        apply(_WEB, deployment(container={"args": ["1"], "command": []})),
        apply(_WEB, deployment(container={"ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}]})),
        merge(_WEB, {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}),
        apply(_WEB, deployment() | {"metadata": {"name": "web", "finalizers": ["example.com/c"]}}),
        merge(_WEB, {"metadata": {"finalizers": None}}),
    ),
    "service": (
        apply(f"{CORE}/services/web", _service(), dry=True),
        apply(f"{CORE}/services/web", _service()),
        apply(f"{CORE}/services/web", _service()),
        apply(f"{CORE}/services/web", _service(ports=[{"port": 80, "targetPort": "http", "name": "web"}])),
        merge(f"{CORE}/services/web", {"spec": {"clusterIP": "10.0.0.77"}}),
        make(f"{CORE}/services", _service(type="LoadBalancer") | {"metadata": {"name": "Bad_Name"}}),
    ),
    "claim": (
        apply(_CLAIM, _claim()),
        apply(_CLAIM, _claim()),
        apply(_CLAIM, _claim(accessModes=["ReadWriteMany"])),
        apply(_CLAIM, _claim(resources={"requests": {"storage": "20Gi"}})),
        delete(_CLAIM, {"propagationPolicy": "Background"}),
        get(_CLAIM),
        merge(_CLAIM, {"metadata": {"finalizers": None}}),
        get(_CLAIM),
    ),
    "job": (
        apply(f"{BATCH}/jobs/pull", _job()),
        apply(f"{BATCH}/jobs/pull", _job()),
        apply(f"{BATCH}/jobs/pull", _job("example/pull:2")),
        delete(f"{BATCH}/jobs/pull", {"propagationPolicy": "Background"}),
        make(f"{BATCH}/jobs", obj("batch/v1", "Job", "x", {
            "spec": {"template": {"spec": {"containers": [container()]}}}})),
    ),
    "pod": (
        make(f"{CORE}/pods", pod()),
        merge(_POD, {"spec": {"containers": [container(image="x:2")]}}),
        merge(_POD, {"spec": {"hostNetwork": True}}),
        Step(method="POST", path=f"{_POD}/binding", body={
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "n"}}),
        Step(method="PATCH", path=f"{_POD}/status?fieldManager=kubelet", form=STRATEGIC, body={"status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "X"}]}}),
        Step(method="PATCH", path=f"{_POD}/status?fieldManager=kubelet", form=STRATEGIC, body={"status": {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}}),
        delete(_POD, {"preconditions": {"uid": "other"}}),
        delete(_POD),
        get(_POD),
        delete(_POD, {"gracePeriodSeconds": 0}),
        get(_POD),
        make(f"{CORE}/pods", pod("unbound")),
        delete(f"{CORE}/pods/unbound", {"propagationPolicy": "Background"}),
        make(f"{CORE}/pods", pod("bad", containers=[{"name": "c"}])),
        make(f"{CORE}/pods", pod("bad", containers=[container(volumeMounts=[{"name": "w", "mountPath": "/w"}])])),
        make(f"{CORE}/pods", pod("bad", containers=[container(resources={"requests": {"nvidia.com/gpu": "1"}})])),
        make(f"{CORE}/pods", pod("bad", containers=[container(
            resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}})])),
    ),
    "writes": (
        make(f"{CORE}/configmaps", config(a="1")),
        make(f"{CORE}/configmaps", config(a="1")),
        merge(_MAP, {"data": {"b": "2"}}),
        merge(_MAP, {"data": {"b": "2"}}),
        merge(_MAP, {"metadata": {"resourceVersion": "1"}, "data": {"b": "3"}}),
        Step(method="PUT", path=f"{_MAP}?fieldManager=putter", body=config(c="3")),
        Step(method="PUT", path=f"{_MAP}?fieldManager=putter", body=config("wrong", c="3")),
        Step(method="PATCH", path=_MAP, form=PATCH, body=[{"op": "add", "path": "/data/d", "value": "4"}]),
        make(f"{CORE}/configmaps?dryRun=All", config("dry", a="1")),
        get(f"{CORE}/configmaps/dry"),
        delete(_MAP, {"preconditions": {"resourceVersion": "1"}}),
        delete(f"{_MAP}?dryRun=All"),
        delete(_MAP),
        delete(_MAP),
        merge(_MAP, {"data": {"b": "2"}}),
        make("/api/v1/namespaces/not-there/configmaps", config(a="1")),
        get("/apis/example.com/v1/things"),
        make(f"{CORE}/secrets", obj("v1", "Secret", "s", {"stringData": {"key": "value"}})),
    ),
    "refusals": (
        apply(_WEB, deployment(replica=1)),
        make(f"{APPS}/deployments?fieldValidation=Strict", deployment(replica=1)),
        make(f"{APPS}/deployments?fieldValidation=Warn", deployment("warned", replica=1)),
        apply(_WEB, deployment(selector={"matchLabels": {"app": "other"}})),
        apply(_WEB, deployment()),
        apply(_WEB, deployment(
            selector={"matchLabels": {"app": "b"}},
            template={"metadata": {"labels": {"app": "b"}}, "spec": {"containers": [container()]}})),
        apply(_WEB, deployment("else")),
        Step(method="PATCH", path=_WEB, form=APPLY, body=deployment()),
        Step(method="PATCH", path=f"{_WEB}?fieldManager=x", form="text/plain", body={}),
    ),
    "lists-of-objects": (
        make(f"{CORE}/configmaps", obj("v1", "ConfigMap", "a", labels={"app": "x", "tier": "1"})),
        make(f"{CORE}/configmaps", obj("v1", "ConfigMap", "b", labels={"app": "x"})),
        make(f"{CORE}/configmaps", obj("v1", "ConfigMap", "c", labels={"app": "y"})),
        get(f"{CORE}/configmaps?labelSelector=app%3Dx"),
        get(f"{CORE}/configmaps?labelSelector=app%20in%20(x,y),!tier"),
        get(f"{CORE}/configmaps?labelSelector=app!%3Dx"),
        get(f"{CORE}/configmaps?labelSelector=tier"),
        get(f"{CORE}/configmaps?labelSelector=a%20b"),
        get(f"{CORE}/configmaps?fieldSelector=metadata.name%3Db"),
        get(f"{CORE}/configmaps?fieldSelector=spec.foo%3Db"),
        get(f"{CORE}/pods?fieldSelector=spec.foo%3Db"),
        get(f"{CORE}/pods?fieldSelector=status.phase%3DRunning"),
        get(f"{APPS}/deployments"),
    ),
    "access": (
        get(f"{APPS}/deployments", "alice"),
        get(_WEB, "alice"),
        get("/api/v1/nodes", "alice"),
        make(f"{CORE}/configmaps", config(a="1"), "alice"),
        apply(_WEB, deployment(), user="alice"),
        make(_REVIEWS, _review("get", "apps", "deployments"), "alice"),
        make(f"{RBAC}/roles", obj("rbac.authorization.k8s.io/v1", "Role", "r", {"rules": [
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch", "list"]},
            {"apiGroups": [""], "resources": ["pods/log"], "resourceNames": ["p"], "verbs": ["get"]}]})),
        make(f"{RBAC}/rolebindings", obj("rbac.authorization.k8s.io/v1", "RoleBinding", "r", {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]})),
        get(_WEB, "alice"),
        apply(_WEB, deployment(), user="alice"),
        make(_REVIEWS, _review("get", "apps", "deployments"), "alice"),
        make(_REVIEWS, _review("create", "apps", "deployments"), "alice"),
        make(_REVIEWS, _review("get", "", "pods", subresource="log", name="p"), "alice"),
        make(_REVIEWS, _review("get", "", "pods", subresource="log"), "alice"),
        get(f"{CORE}/pods/p/log", "alice"),
        delete(_WEB),
    ),
    "quota": (
        make(f"{CORE}/resourcequotas", obj("v1", "ResourceQuota", "gpus", {"spec": {"hard": {
            "requests.nvidia.com/gpu": "1", "count/configmaps": "1", "persistentvolumeclaims": "1"}}})),
        Step(method="PATCH", path=f"{CORE}/resourcequotas/gpus/status", form=MERGE, body={"status": {
            "hard": {"requests.nvidia.com/gpu": "1", "count/configmaps": "1", "persistentvolumeclaims": "1"},
            "used": {"requests.nvidia.com/gpu": "0", "count/configmaps": "0", "persistentvolumeclaims": "0"}}}),
        make(f"{CORE}/pods", pod("two", containers=[container(resources={"limits": {"nvidia.com/gpu": "2"}})])),
        make(f"{CORE}/pods", pod("one", containers=[container(resources={"limits": {"nvidia.com/gpu": "1"}})])),
        make(f"{CORE}/pods", pod("more", containers=[container(resources={"limits": {"nvidia.com/gpu": "1"}})])),
        make(f"{CORE}/configmaps", config(a="1")),
        apply(f"{CORE}/configmaps/n", config("n", a="1")),
        apply(_CLAIM, _claim()),
        make(f"{CORE}/persistentvolumeclaims", _claim() | {"metadata": {"name": "second"}}),
    ),
    "quota-of-memory": (
        make(f"{CORE}/resourcequotas", obj("v1", "ResourceQuota", "all", {"spec": {"hard": {
            "limits.memory": "4Gi", "requests.cpu": "2", "pods": "5"}}})),
        Step(method="PATCH", path=f"{CORE}/resourcequotas/all/status", form=MERGE, body={"status": {
            "hard": {"limits.memory": "4Gi", "requests.cpu": "2", "pods": "5"},
            "used": {"limits.memory": "0", "requests.cpu": "0", "pods": "0"}}}),
        make(f"{CORE}/pods", pod("none")),
        make(f"{CORE}/pods", pod("big", containers=[container(
            resources={"limits": {"memory": "5Gi", "cpu": "1"}})])),
        make(f"{CORE}/pods", pod("busy", containers=[container(
            resources={"limits": {"memory": "6Gi", "cpu": "2500m"}})])),
    ),
    "limits": (
        make(f"{CORE}/limitranges", obj("v1", "LimitRange", "l", {"spec": {"limits": [
            {"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "100m"},
             "max": {"memory": "4Gi"}, "min": {"memory": "512Mi"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}}]}})),
        make(f"{CORE}/pods", pod("defaults")),
        make(f"{CORE}/pods", pod("big", containers=[container(resources={"limits": {"memory": "8Gi"}})])),
        make(f"{CORE}/pods", pod("small", containers=[container(resources={"limits": {"memory": "8Mi"}})])),
        make(f"{CORE}/persistentvolumeclaims", _claim()),
    ),
    "pod-security": (
        merge("/api/v1/namespaces/NS", {"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}),
        make(f"{CORE}/pods", pod("plain")),
        make(f"{CORE}/pods", pod("host", hostNetwork=True, volumes=[{"name": "h", "hostPath": {"path": "/x"}}],
             containers=[container(securityContext={"privileged": True, "runAsUser": 0})])),
        make(f"{CORE}/pods", pod("two", containers=[container(), container() | {"name": "d"}])),
        make(f"{CORE}/pods", pod("good", **_HARDENED)),
        apply(_WEB, deployment()),
        apply(f"{BATCH}/jobs/pull", _job()),
    ),
    "owners": (
        make(f"{CORE}/configmaps", config(a="1")),
        delete(f"{_MAP}?propagationPolicy=Foreground"),
        get(_MAP),
        delete(f"{_MAP}?propagationPolicy=Foreground"),
        merge(_MAP, {"metadata": {"finalizers": None}}),
        get(_MAP),
        make(f"{CORE}/configmaps", obj("v1", "ConfigMap", "m", finalizers=["example.com/hold"])),
        delete(_MAP, {"propagationPolicy": "Orphan"}),
        merge(_MAP, {"metadata": {"finalizers": ["example.com/hold"]}}),
        merge(_MAP, {"metadata": {"finalizers": []}}),
        get(_MAP),
    ),
    "others": (
        apply("/apis/networking.k8s.io/v1/namespaces/NS/networkpolicies/n", obj(
            "networking.k8s.io/v1", "NetworkPolicy", "n", {"spec": {
                "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                "ingress": [{"ports": [{"port": 8000}], "from": [{"podSelector": {}}]}]}})),
        apply("/apis/policy/v1/namespaces/NS/poddisruptionbudgets/b", obj(
            "policy/v1", "PodDisruptionBudget", "b", {"spec": {
                "maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}})),
        apply("/apis/autoscaling/v2/namespaces/NS/horizontalpodautoscalers/h", obj(
            "autoscaling/v2", "HorizontalPodAutoscaler", "h", {"spec": {
                "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"},
                             "target": {"type": "AverageValue", "averageValue": "5"}}}]}})),
        apply(f"{CORE}/serviceaccounts/a", obj("v1", "ServiceAccount", "a", {"automountServiceAccountToken": False})),
        apply("/apis/coordination.k8s.io/v1/namespaces/NS/leases/l", obj(
            "coordination.k8s.io/v1", "Lease", "l", {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 30}})),
        apply("/apis/networking.k8s.io/v1/namespaces/NS/ingresses/i", obj(
            "networking.k8s.io/v1", "Ingress", "i", {"spec": {"rules": [{"host": "x.example", "http": {"paths": [
                {"path": "/", "pathType": "Prefix",
                 "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})),
        make(f"{APPS}/statefulsets", obj("apps/v1", "StatefulSet", "s", {"spec": deployment()["spec"]})),
        make(f"{APPS}/replicasets", obj("apps/v1", "ReplicaSet", "s", {"spec": deployment()["spec"]})),
        make(f"{APPS}/daemonsets", obj("apps/v1", "DaemonSet", "s", {"spec": {
            k: v for k, v in deployment()["spec"].items() if k != "replicas"}})),
    ),
    "scale": (
        apply(_WEB, deployment()),
        get(f"{_WEB}/scale"),
        Step(method="PATCH", path=f"{_WEB}/scale?fieldManager=scaler", form=MERGE, body={"spec": {"replicas": 3}}),
        get(_WEB),
        apply(_WEB, deployment()),
        Step(method="PATCH", path=f"{_WEB}/status?fieldManager=ctl", form=MERGE, body={
            "spec": {"replicas": 9}, "status": {"replicas": 1, "observedGeneration": 1}}),
        apply(_WEB, deployment(replicas=3)),
    ),
}  # fmt: skip


class Marks:
    """What comes by chance, as marks in the order of its coming."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._seen: dict[str, str] = {}

    def of(self, value: Any, key: str = "") -> Any:
        """A value with its marks."""
        if isinstance(value, dict):
            found = {name: self.of(one, name) for name, one in value.items()}
            if str(found.get("kind", "")).endswith("Review"):
                found["metadata"] = {}
            if str(found.get("kind", "")).endswith("List"):
                found["metadata"] = {}
            return found
        if key == "managedFields":  # sorted by seconds
            value = sorted(
                value, key=lambda one: (one["operation"], one["manager"], one.get("subresource", ""))
            )
        if isinstance(value, list):
            return [self.of(one, key) for one in value]
        if not isinstance(value, str):
            return value
        if key == "resourceVersion":
            return self._mark("version", value)
        text = value.replace(self._namespace, "NS")
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
        # Go values, and a diff of them
        text = re.sub(r"(Invalid value: \{).*\"[Ss]pec\":.*(\}: field is immutable)", r"\1…\2", text)
        text = re.sub(r"\n@@.*", "", text, flags=re.DOTALL)
        text = re.sub(r"in record \(\d+\)", "in record (VERSION)", text)
        return self._mark("address", text) if re.fullmatch(r"10\.0\.\d+\.\d+", text) else text

    def _mark(self, kind: str, value: str) -> str:
        known = sum(mark.startswith(kind) for mark in self._seen.values())
        return self._seen.setdefault(f"{kind} {value}", f"{kind}-{known + 1}")


def transcript(name: str, ask: Ask, namespace: str) -> list[list[Any]]:
    """What a server answers in a dialogue: status, body, warnings of each request."""
    marks = Marks(namespace)
    said: list[list[Any]] = []
    space = obj("v1", "Namespace", namespace)
    ask(Step(method="POST", path="/api/v1/namespaces", body=space))
    for step in DIALOGUES[name]:
        body = json.loads(json.dumps(step.body).replace("NS", namespace)) if step.body is not None else None
        path = step.path.replace("NS", quote(namespace))
        code, answer, warnings = ask(
            Step(method=step.method, path=path, body=body, form=step.form, user=step.user)
        )
        said.append([code, marks.of(answer), [marks.of(one) for one in warnings]])
    return said
