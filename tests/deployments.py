"""A deployment and a cluster for tests of what comes before it: plain objects, as an API server tells them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from selfhost.cluster.types import Object
from selfhost.deploy.desired import desired
from selfhost.deploy.preflight.facts import Facts, Served
from selfhost.deploy.types import Desired
from selfhost.manifests.options import RenderOptions
from tests import plans

H100 = "NVIDIA-H100-80GB-HBM3"
SPACE = "llm"


@cache
def wanted(target: str = "kubernetes", options: RenderOptions | None = None, **changes: Any) -> Desired:
    """Qwen3-32B on two H100, or changed."""
    return desired(plans.plan(**changes), target, options or RenderOptions())


def options(**changes: Any) -> RenderOptions:
    """Options of the rendering; `access`, `gpus`, `scaling`, `weights` take a dict of changes."""
    found = RenderOptions()
    for name, value in changes.items():
        if isinstance(value, dict):
            value = replace(getattr(found, name), **value)
        found = replace(found, **{name: value})
    return found


def node(
    name: str = "gpu-1",
    gpus: int = 8,
    *,
    healthy: int | None = None,
    driver: str = "580.95.05",
    product: str = H100,
    labels: dict[str, str] | None = None,
    ready: bool = True,
    **spec: Any,
) -> Object:
    """A node with GPUs, labelled as feature discovery does."""
    capacity = {"cpu": "128", "memory": "1024Gi", "ephemeral-storage": "900Gi", "pods": "110"}
    allocatable = dict(capacity)
    found = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64"}
    if gpus:
        capacity["nvidia.com/gpu"] = str(gpus)
        allocatable["nvidia.com/gpu"] = str(gpus if healthy is None else healthy)
        found |= {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": product}
        found |= {"nvidia.com/cuda.driver-version.full": driver} if driver else {}
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    info = {"kubeletVersion": "v1.36.2", "architecture": "amd64"}
    return {
        "metadata": {"name": name, "labels": found | (labels or {})},
        "spec": spec,
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "conditions": conditions,
            "nodeInfo": info,
        },
    }


def pod(
    name: str,
    on: str = "gpu-1",
    gpus: int = 1,
    *,
    space: str = "others",
    labels: dict[str, str] | None = None,
    phase: str = "Running",
    spec: Object | None = None,
) -> Object:
    """A pod that is there; `on` is empty where it waits."""
    asked = {"nvidia.com/gpu": str(gpus), "cpu": "1"}
    own = spec or {"containers": [{"name": "c", "resources": {"requests": asked, "limits": asked}}]}
    return {
        "metadata": {"name": name, "namespace": space, "labels": labels or {}},
        "spec": own | ({"nodeName": on} if on else {}),
        "status": {"phase": phase},
    }


def own_pod(found: Desired, name: str = "old", on: str = "gpu-1", kind: str = "Deployment") -> Object:
    """A pod of the deployment itself, of its template."""
    item = next(one for one in found.objects if one["kind"] == kind)
    template = item["spec"]["template"]
    return pod(name, on, space=found.namespace, labels=template["metadata"]["labels"], spec=template["spec"])


def storage_class(name: str = "fast", *, default: bool = True, **more: Any) -> Object:
    """A StorageClass."""
    notes = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    facts = {"provisioner": "fast.example.com", "volumeBindingMode": "WaitForFirstConsumer"}
    return {"metadata": {"name": name, "annotations": notes}} | facts | more


def facts(**changes: Any) -> Facts:
    """A cluster that everything can be deployed on, or changed."""
    served = Served(
        versions=dict.fromkeys(
            (
                "v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "monitoring.coreos.com/v1", "policy/v1",
                "rbac.authorization.k8s.io/v1", "autoscaling/v2", "coordination.k8s.io/v1", "storage.k8s.io/v1",
                "resource.k8s.io/v1",
            )
        )
    )  # fmt: skip
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    well: dict[str, Any] = {
        "version": {"gitVersion": "v1.36.2"},
        "served": served,
        "namespace": {"metadata": {"name": SPACE, "labels": labels}},
        "nodes": (node(),),
        "storage_classes": (storage_class(),),
    }
    return Facts(**(well | changes))
