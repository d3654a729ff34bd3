"""Cases of nodes, GPUs and the scheduler."""

from __future__ import annotations

from selfhost.deploy.types import Snapshot
from tests.causes import (
    BUSY,
    CLUSTER,
    LACK_OF_GPUS,
    NO_LABEL,
    TWO,
    box,
    event,
    failed,
    node,
    other,
    pod,
    said,
    snap,
    waiting,
)

CASES: dict[str, tuple[Snapshot, str | None, str]] = {
    # nodes
    "volume of the pod too full": (
        snap(
            pod(
                phase="Failed",
                reason="Evicted",
                message='Usage of EmptyDir volume "home" exceeds the limit "10Gi". ',
            )
        ),
        "evicted",
        "home grew beyond 10Gi",
    ),
    "node's storage low": (
        snap(
            pod(
                phase="Failed",
                reason="Evicted",
                message="The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi.",
            )
        ),
        "evicted",
        "gpu-1 was low on ephemeral-storage",
    ),
    "evicted and made anew": (
        snap(
            pod(
                name="a",
                phase="Failed",
                reason="Evicted",
                message="The node was low on resource: memory.",
                ago=500,
            ),
            pod(box(running=True), phase="Running"),
        ),
        None,
        "",
    ),
    "preempted": (
        snap(pod(phase="Failed"), events=(event("Preempted", "Preempted by pod uid-1 on node gpu-1"),)),
        "preempted",
        "higher priority",
    ),
    "node lost": (
        snap(pod(box(running=True), phase="Running"), nodes=(node(ready=False),)),
        "node-lost",
        "not ready or gone",
    ),
    "node in order": (snap(pod(box(running=True), phase="Running"), nodes=(node(),)), None, ""),
    "kubelet refuses": (
        snap(
            pod(
                phase="Failed",
                reason="OutOfcpu",
                message="Pod was rejected: Node didn't have enough resource: cpu",
            )
        ),
        "node-refused",
        "OutOfcpu",
    ),
    "topology manager": (
        snap(
            pod(
                phase="Failed",
                reason="TopologyAffinityError",
                message="Resources cannot be allocated with Topology locality",
            )
        ),
        "node-refused",
        "TopologyAffinityError",
    ),
    "old pod hangs": (
        snap(pod(scheduler=LACK_OF_GPUS), pod(box(running=True), name="old", going=900, phase="Running")),
        "stuck-terminating",
        "900 s ago",
    ),
    # GPUs
    "busy": (
        waiting(LACK_OF_GPUS, nodes=TWO, others=BUSY),
        "insufficient-gpus",
        "gpu-1 has 1 of 8, gpu-2 has 0 of 8",
    ),
    "busy, nodes unknown": (waiting(LACK_OF_GPUS), "insufficient-gpus", "2 nvidia.com/gpu"),
    "own old pods end": (
        waiting(
            LACK_OF_GPUS,
            nodes=(node("gpu-1", gpus=2),),
            others=(pod(box(running=True), name="old", going=-10, phase="Running"),),
        ),
        None,
        "",
    ),
    "own old pods stay": (
        waiting(
            LACK_OF_GPUS,
            nodes=(node("gpu-1", gpus=2),),
            others=(pod(box(running=True), name="old", phase="Running"),),
        ),
        "insufficient-gpus",
        "without --surge",
    ),
    "nodes too small": (
        waiting(LACK_OF_GPUS, nodes=(node("gpu-1", gpus=1), node("gpu-2", gpus=1))),
        "insufficient-gpus",
        "no node of the kind has more than 1",
    ),
    "freed meanwhile": (waiting(LACK_OF_GPUS, nodes=TWO, others=()), None, ""),
    "autoscaler": (
        waiting(
            LACK_OF_GPUS,
            nodes=TWO,
            others=BUSY,
            events=(event("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 2->3 (max: 4)}]"),),
        ),
        "insufficient-gpus",
        "an autoscaler is adding a node",
    ),
    "no autoscaling": (
        waiting(
            LACK_OF_GPUS,
            nodes=TWO,
            others=BUSY,
            events=(
                event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"),
            ),
        ),
        "insufficient-gpus",
        "gpu-1",
    ),
    "another product": (
        waiting(NO_LABEL, nodes=(node("a", product="NVIDIA-L4"), node("b", product="NVIDIA-L4"))),
        "no-such-gpu",
        "its GPU nodes are NVIDIA-L4",
    ),
    "label missing": (
        waiting(NO_LABEL, nodes=(node("a", product=""),)),
        "no-such-gpu",
        "kubectl label node a nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3",
    ),
    "cordoned": (
        waiting(
            CLUSTER + "1 node(s) were unschedulable, 2 Insufficient nvidia.com/gpu.",
            nodes=(node("gpu-1", cordoned=True), node("gpu-2")),
            others=(other("notebook", "gpu-2", 8),),
        ),
        "gpus-cordoned",
        "kubectl uncordon gpu-1",
    ),
    "no plugin": (
        waiting(LACK_OF_GPUS, nodes=(node("gpu-1", gpus=0),)),
        "gpus-not-advertised",
        "device plugin",
    ),
    # scheduling
    "kueue": (snap(pod(gates=("kueue.x-k8s.io/admission",), node="")), "scheduling-gated", "Kueue"),
    "another gate": (snap(pod(gates=("example.com/hold",), node="")), "scheduling-gated", "example.com/hold"),
    "claim of devices": (
        waiting(CLUSTER + "3 cannot allocate all claims. still not schedulable"),
        "resource-claim",
        "cannot allocate all claims",
    ),
    "claim not made yet": (
        waiting('waiting for dynamic resource controller to create the resourceclaim "gpu"'),
        "resource-claim",
        "resourceclaim",
    ),
    "memory": (
        waiting(CLUSTER + "3 Insufficient memory.", nodes=(node("gpu-1", memory="16Gi"),)),
        "insufficient-resources",
        "20.0 GiB of memory, and no node that would do has as much free: gpu-1 has 16.0 GiB",
    ),
    "cpu": (
        waiting(
            CLUSTER + "3 Insufficient cpu.",
            nodes=(node("gpu-1", cpu="8"),),
            others=(other("x", "gpu-1", 0, cpu="4"),),
        ),
        "insufficient-resources",
        "8 of CPU",
    ),
    "too many pods": (waiting(CLUSTER + "3 Too many pods."), "too-many-pods", "as many pods as it may"),
    "taint": (
        waiting(
            CLUSTER
            + "1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector.",
            nodes=(node("gpu-1", taints=("team=research",)), node("b", product="NVIDIA-L4")),
        ),
        "untolerated-taint",
        "team=research:NoSchedule",
    ),
    "taint in words": (
        waiting("0/1 nodes are available: 1 node(s) had untolerated taint {team: research}."),
        "untolerated-taint",
        "team: research",
    ),
    "tolerated taint": (
        waiting(
            LACK_OF_GPUS,
            nodes=(
                node("gpu-1", taints=("nvidia.com/gpu=present",)),
                node("cp", product="", gpus=0, taints=("node-role.kubernetes.io/control-plane",)),
            ),
            others=(other("train", "gpu-1", 8),),
        ),
        "insufficient-gpus",
        "gpu-1 has 0 of 8",
    ),
    "not ready": (
        waiting(
            CLUSTER
            + "1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector.",
            nodes=(
                node("gpu-1", taints=("node.kubernetes.io/disk-pressure",)),
                node("b", product="NVIDIA-L4"),
            ),
        ),
        "nodes-not-ready",
        "disk-pressure",
    ),
    "labels": (waiting(NO_LABEL), "node-affinity", "labels that"),
    "spread": (
        waiting(CLUSTER + "3 node(s) didn't match pod topology spread constraints."),
        "pod-affinity",
        "topology spread",
    ),
    "apart": (
        waiting(CLUSTER + "3 node(s) didn't match pod anti-affinity rules."),
        "pod-affinity",
        "anti-affinity",
    ),
    "host port": (
        waiting(CLUSTER + "3 node(s) didn't have free ports for the requested pod ports."),
        "host-port",
        "host port",
    ),
    "words of tomorrow": (waiting(CLUSTER + "3 node(s) had a bad day."), "unschedulable", "No node takes"),
    # devices
    "requirement of the image": (
        snap(
            pod(
                box(
                    waiting="RunContainerError",
                    says=(
                        "failed to create containerd task: failed to create shim task: OCI "
                        "runtime create failed: runc create failed: unable to start "
                        "container process: error during container init: error running "
                        "prestart hook #0: exit status 1, stdout: , stderr: "
                        "Auto-detected mode as 'legacy'\nnvidia-container-cli: "
                        "requirement error: unsatisfied condition: "
                        "cuda>=12.8, please update your driver to a "
                        "newer version, or use an earlier cuda container: unknown"
                    ),
                )
            ),
            nodes=(
                node(labels={"nvidia.com/cuda.driver.major": "535", "nvidia.com/cuda.driver.minor": "104"}),
            ),
        ),
        "driver-too-old",
        "(535.104) is too old",
    ),
    "torch's driver": (
        failed(
            said(
                "RuntimeError: The NVIDIA driver on your system is too old (found version "
                "12020). Please update your GPU driver"
            )
        ),
        "driver-too-old",
        "CUDA 12.2",
    ),
    "error 803": (
        failed(
            (
                "UserWarning: CUDA initialization: Unexpected error from cudaGetDeviceCount(). "
                "Error 803: system has unsupported display driver / cuda driver combination\n"
            )
            + said("RuntimeError: No CUDA GPUs are available")
        ),
        "driver-too-old",
        "do not go together",
    ),
    "error 802": (
        failed(
            said(
                "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"
            )
        ),
        "fabric-manager",
        "nvidia-fabricmanager",
    ),
    "no device": (
        failed(said("RuntimeError: No CUDA GPUs are available")),
        "no-cuda-device",
        "--runtime-class nvidia",
    ),
    "no device type": (
        failed("RuntimeError: Failed to infer device type, please set the environment variable"),
        "no-cuda-device",
        "sees no GPU",
    ),
    "ecc": (
        failed(said("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered")),
        "broken-gpu",
        "uncorrectable ECC",
    ),
    "lost": (
        snap(
            pod(
                phase="Failed",
                reason="UnexpectedAdmissionError",
                message=(
                    "Pod Allocate failed due to device plugin GetPreferredAllocation rpc "
                    "failed with err: rpc error: code = Unknown desc = Unable to retrieve "
                    "list of available devices: error creating nvml.Device 5: nvml: GPU "
                    "is lost, which is unexpected"
                ),
            )
        ),
        "broken-gpu",
        "GPU is lost",
    ),
    "plugin": (
        snap(
            pod(
                phase="Failed",
                reason="UnexpectedAdmissionError",
                message=(
                    "Pod was rejected: Allocate failed due to requested number of "
                    "devices unavailable for nvidia.com/gpu. Requested: 2, Available: 0, which is unexpected"
                ),
            )
        ),
        "device-plugin",
        "Requested: 2, Available: 0",
    ),
    "toolkit": (
        snap(
            pod(
                box(
                    waiting="RunContainerError",
                    says=(
                        "OCI runtime create failed: nvidia-container-cli: initialization "
                        "error: nvml error: driver not loaded: unknown"
                    ),
                )
            )
        ),
        "container-toolkit",
        "driver not loaded",
    ),
    "cdi": (
        snap(
            pod(
                box(
                    waiting="CreateContainerError",
                    says="CDI device injection failed: unresolvable CDI devices management.nvidia.com/gpu=GPU-1",
                )
            )
        ),
        "container-toolkit",
        "CDI device injection",
    ),
}
