"""Nodes as a kubelet registers them, with what NVIDIA's device plugin and feature discovery add to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.simulator.box import now_text

Object = dict[str, Any]
KUBELET = "v1.36.2"
LEASE_SECONDS = 40  # kubelet's default; renewed at a quarter of it


@dataclass(slots=True, kw_only=True)
class Node:
    """A simulated node.

    Args:
        name: of the node.
        gpus: how many.
        product: as nvidia.com/gpu.product has it.
        gpu_memory_mib: of each GPU.
        driver: full version.
        cuda: version that the driver brings.
        resource: name of the GPUs.
        cpu, memory, ephemeral: allocatable.
        taints: as in a node's spec.
        labels: more of them.
        unschedulable: cordoned.
        unhealthy: GPUs that the device plugin has but does not offer.
        discovery: whether NVIDIA's feature discovery labels the node.
        up: whether its kubelet is alive.
    """

    name: str
    gpus: int = 8
    product: str = "NVIDIA-H100-80GB-HBM3"
    gpu_memory_mib: int = 81559
    driver: str = "580.95.05"
    cuda: str = "13.0"
    resource: str = "nvidia.com/gpu"
    cpu: str = "128"
    memory: str = "1024Gi"
    ephemeral: str = "900Gi"
    taints: tuple[Object, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    unschedulable: bool = False
    unhealthy: int = 0
    discovery: bool = True
    up: bool = True

    def document(self, kubelet_port: int) -> Object:
        """As it is registered."""
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        }
        if self.gpus and self.discovery and self.resource == "nvidia.com/gpu":
            labels |= self._discovered()
        spec: Object = {}
        if self.taints:
            spec["taints"] = list(self.taints)
        if self.unschedulable:
            spec["unschedulable"] = True
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels | self.labels},
            "spec": spec,
            "status": self.status(kubelet_port),
        }

    def _discovered(self) -> dict[str, str]:
        """Labels of k8s-device-plugin's GPU feature discovery (its docs/gpu-feature-discovery/README.md)."""
        major, minor, revision, *_ = [*self.driver.split("."), "", ""]
        runtime = self.cuda.split(".")
        return {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": self.product,
            "nvidia.com/gpu.count": str(self.gpus),
            "nvidia.com/gpu.replicas": "1",
            "nvidia.com/gpu.memory": str(self.gpu_memory_mib),
            "nvidia.com/cuda.driver.major": major,
            "nvidia.com/cuda.driver.minor": minor,
            "nvidia.com/cuda.driver.rev": revision,
            "nvidia.com/cuda.driver-version.full": self.driver,
            "nvidia.com/cuda.driver-version.major": major,
            "nvidia.com/cuda.driver-version.minor": minor,
            "nvidia.com/cuda.driver-version.revision": revision,
            "nvidia.com/cuda.runtime.major": runtime[0],
            "nvidia.com/cuda.runtime.minor": runtime[1] if len(runtime) > 1 else "0",
            "nvidia.com/cuda.runtime-version.full": self.cuda,
            "nvidia.com/cuda.runtime-version.major": runtime[0],
            "nvidia.com/cuda.runtime-version.minor": runtime[1] if len(runtime) > 1 else "0",
            "nvidia.com/mig.strategy": "single",
        }

    def status(self, kubelet_port: int) -> Object:
        """Capacity, conditions, address of the kubelet."""
        capacity = {
            "cpu": self.cpu, "memory": self.memory, "ephemeral-storage": self.ephemeral, "pods": "250",
            "hugepages-1Gi": "0", "hugepages-2Mi": "0",
        }  # fmt: skip
        allocatable = dict(capacity)
        if self.gpus:
            capacity[self.resource] = str(self.gpus)
            allocatable[self.resource] = str(self.gpus - self.unhealthy)
        return {
            "capacity": capacity,
            "allocatable": allocatable,
            "conditions": conditions(),
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": self.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "osImage": "Ubuntu 24.04.3 LTS",
                "kernelVersion": "6.8.0-60-generic", "containerRuntimeVersion": "containerd://2.1.4",
                "kubeletVersion": KUBELET, "kubeProxyVersion": "", "machineID": self.name,
                "systemUUID": self.name, "bootID": self.name,
            },
        }  # fmt: skip

    def lease(self) -> Object:
        """The heartbeat."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
            },
        }  # fmt: skip


def conditions(ready: str = "True", reason: str = "KubeletReady", message: str = "") -> list[Object]:
    """Of a node (Kubernetes 1.36.2 pkg/kubelet/nodestatus/setters.go)."""
    now = now_text()
    unknown = ready == "Unknown"
    rows = [
        ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ]
    found = [
        {
            "type": kind,
            "status": "Unknown" if unknown else "False",
            "reason": reason if unknown else why,
            "message": message if unknown else said,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, why, said in rows
    ]
    said = message or "kubelet is posting ready status"
    row = {"type": "Ready", "status": ready, "reason": reason, "message": said}
    return [*found, row | {"lastHeartbeatTime": now, "lastTransitionTime": now}]
