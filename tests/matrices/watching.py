"""The target monitor: what it may see and which GPUs it watches."""

from __future__ import annotations

from selfhost.manifests import RenderOptions
from tests.matrices import Case, fitting
from tests.plans import plan

IMAGE = "registry.example/selfhost:0.1.0"
HOST = "the monitor looks at the host: its processes and the kubelet's socket"
# hostPID, root and the two that ask for another user: see scripts/lint_manifests.py.
HOST_CHECKS = frozenset({"CKV_K8S_17", "CKV_K8S_40", "CKV_K8S_23"})
PRIVILEGED = frozenset({"CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_28", "CKV_K8S_37"})


def cases() -> dict[str, Case]:
    """The monitor for several GPUs, and its options."""
    made = {
        gpu: Case(plan=fitting(gpu), target="monitor", unrestricted=HOST, beyond=HOST_CHECKS)
        for gpu in ("h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "a100-sxm-80gb", "l40s-48gb")
    }
    asked: dict[str, dict[str, object]] = {
        "own-namespace": {"monitor_namespace": "gpu-monitor", "namespace": "models"},
        "image": {"monitor_image": f"{IMAGE}@sha256:" + "cd" * 32},
        "all-nodes": {"all_gpu_nodes": True, "runtime_class": "nvidia", "dcgm_names": True},
        "api-server": {"api_server": "10.0.0.0/28"},
        "no-operator": {"pod_monitor": False},
    }
    for name, values in asked.items():
        options = RenderOptions(**values)  # type: ignore[arg-type]
        made[name] = Case(
            plan=plan(), target="monitor", options=options, unrestricted=HOST, beyond=HOST_CHECKS
        )
    made["kernel-log"] = Case(
        plan=plan(), target="monitor", options=RenderOptions(kernel_log=True), unrestricted=HOST,
        beyond=HOST_CHECKS | PRIVILEGED,
    )  # fmt: skip
    made["restricted"] = Case(
        plan=plan(), target="monitor", options=RenderOptions(host_pid=False, monitor_root=False)
    )
    return made
