"""Dialogues about lists, permissions, quotas, limits, Pod Security, owners and scales."""

from __future__ import annotations

from tests.kube_dialogues.steps import (
    APPS,
    BATCH,
    CLAIM,
    CORE,
    HARDENED,
    MAP,
    MERGE,
    RBAC,
    REVIEWS,
    WEB,
    Step,
    apply,
    claim,
    config,
    container,
    delete,
    deployment,
    get,
    job,
    make,
    merge,
    obj,
    pod,
    review,
)

RULED: dict[str, tuple[Step, ...]] = {
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
        get(WEB, "alice"),
        get("/api/v1/nodes", "alice"),
        make(f"{CORE}/configmaps", config(a="1"), "alice"),
        apply(WEB, deployment(), user="alice"),
        make(REVIEWS, review("get", "apps", "deployments"), "alice"),
        make(f"{RBAC}/roles", obj("rbac.authorization.k8s.io/v1", "Role", "r", {"rules": [
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch", "list"]},
            {"apiGroups": [""], "resources": ["pods/log"], "resourceNames": ["p"], "verbs": ["get"]}]})),
        make(f"{RBAC}/rolebindings", obj("rbac.authorization.k8s.io/v1", "RoleBinding", "r", {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]})),
        get(WEB, "alice"),
        apply(WEB, deployment(), user="alice"),
        make(REVIEWS, review("get", "apps", "deployments"), "alice"),
        make(REVIEWS, review("create", "apps", "deployments"), "alice"),
        make(REVIEWS, review("get", "", "pods", subresource="log", name="p"), "alice"),
        make(REVIEWS, review("get", "", "pods", subresource="log"), "alice"),
        get(f"{CORE}/pods/p/log", "alice"),
        delete(WEB),
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
        apply(CLAIM, claim()),
        make(f"{CORE}/persistentvolumeclaims", claim() | {"metadata": {"name": "second"}}),
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
        make(f"{CORE}/persistentvolumeclaims", claim()),
    ),
    "pod-security": (
        merge("/api/v1/namespaces/NS", {"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}),
        make(f"{CORE}/pods", pod("plain")),
        make(f"{CORE}/pods", pod("host", hostNetwork=True, volumes=[{"name": "h", "hostPath": {"path": "/x"}}],
             containers=[container(securityContext={"privileged": True, "runAsUser": 0})])),
        make(f"{CORE}/pods", pod("two", containers=[container(), container() | {"name": "d"}])),
        make(f"{CORE}/pods", pod("good", **HARDENED)),
        apply(WEB, deployment()),
        apply(f"{BATCH}/jobs/pull", job()),
    ),
    "owners": (
        make(f"{CORE}/configmaps", config(a="1")),
        delete(f"{MAP}?propagationPolicy=Foreground"),
        get(MAP),
        delete(f"{MAP}?propagationPolicy=Foreground"),
        merge(MAP, {"metadata": {"finalizers": None}}),
        get(MAP),
        make(f"{CORE}/configmaps", obj("v1", "ConfigMap", "m", finalizers=["example.com/hold"])),
        delete(MAP, {"propagationPolicy": "Orphan"}),
        merge(MAP, {"metadata": {"finalizers": ["example.com/hold"]}}),
        merge(MAP, {"metadata": {"finalizers": []}}),
        get(MAP),
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
        apply(WEB, deployment()),
        get(f"{WEB}/scale"),
        Step(method="PATCH", path=f"{WEB}/scale?fieldManager=scaler", form=MERGE, body={"spec": {"replicas": 3}}),
        get(WEB),
        apply(WEB, deployment()),
        Step(method="PATCH", path=f"{WEB}/status?fieldManager=ctl", form=MERGE, body={
            "spec": {"replicas": 9}, "status": {"replicas": 1, "observedGeneration": 1}}),
        apply(WEB, deployment(replicas=3)),
    ),
}  # fmt: skip
