"""Cases of the process, its surroundings, and nothing at all."""

from __future__ import annotations

from selfhost.deploy.types import Snapshot
from tests.causes import (
    IMAGE,
    LOADED,
    NAME,
    TORCH,
    box,
    crashed,
    download,
    event,
    failed,
    pod,
    said,
    snap,
)

CASES: dict[str, tuple[Snapshot, str | None, str]] = {
    # host
    "host memory": (
        snap(pod(crashed(137, reason="OOMKilled"), phase="Running"), log=LOADED),
        "oom-killed",
        "limit of 20.00 GiB",
    ),
    "killed by somebody": (
        snap(pod(crashed(137, restarts=3), phase="Running"), log=LOADED),
        "crash-loop",
        "SIGKILL",
    ),
    "shared memory": (
        snap(pod(crashed(135), phase="Running"), log="Bus error (core dumped)"),
        "shared-memory",
        "/dev/shm",
    ),
    "shared memory full": (
        failed("OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'"),
        "shared-memory",
        "too small",
    ),
    "nccl": (
        failed(
            said("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)")
        ),
        "nccl",
        "cannot talk",
    ),
    "nccl after memory": (
        failed(
            LOADED
            + said(TORCH.format(asks="0.50", free="0.10"))
            + "\nRuntimeError: NCCL error: remote process exited"
        ),
        "gpu-memory",
        "short",
    ),
    "rights": (
        failed("PermissionError: [Errno 13] Permission denied: '/weights/hub/version.txt'"),
        "permission-denied",
        "/weights/hub/version.txt as user 10001",
    ),
    "read-only root": (
        failed("OSError: [Errno 30] Read-only file system: '/root/.cache'"),
        "permission-denied",
        "--writable-root",
    ),
    "rights that only warned": (
        failed(
            "WARNING 11-26 12:00:00 [usage.py:1] Permission denied: '/x'\n"
            + "\n".join(["INFO 11-26 12:00:00 [a.py:1] more"] * 20)
            + "\nKeyError: 'strange'",
            restarts=4,
        ),
        "crash-loop",
        "exit code 1",
    ),
    "no such program": (
        snap(
            pod(
                box(
                    waiting="RunContainerError",
                    says=(
                        "failed to create containerd task: OCI runtime create failed: runc "
                        'create failed: unable to start container process: exec: "vllm": '
                        "executable file not found in $PATH: unknown"
                    ),
                )
            )
        ),
        "program-missing",
        "no program vllm",
    ),
    "root": (
        snap(
            pod(
                box(
                    waiting="CreateContainerConfigError",
                    says="container has runAsNonRoot and image will run as root (pod: x, container: server)",
                )
            )
        ),
        "container-config",
        "as root",
    ),
    "config of a container": (
        snap(pod(box(waiting="CreateContainerConfigError", says="failed to generate container spec"))),
        "container-config",
        "cannot make",
    ),
    "network plugin": (
        snap(
            pod(box()),
            events=(
                event(
                    "FailedCreatePodSandBox",
                    (
                        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed "
                        'to setup network for sandbox "x": plugin type="calico" failed'
                    ),
                ),
            ),
        ),
        "sandbox",
        "network",
    ),
    "old processor": (
        snap(pod(crashed(132), phase="Running"), log="nothing"),
        "illegal-instruction",
        "CPU of gpu-1",
    ),
    # symptoms
    "startup probe": (
        snap(
            pod(box(running=True, last=137, restarts=1, ran=2030), phase="Running"),
            log=LOADED,
            events=(event("Killing", "Container server failed startup probe, will be restarted"),),
        ),
        "startup-probe",
        "2,030 s; it had come to: 30.52 GiB of weights loaded",
    ),
    "startup probe that only failed": (
        snap(
            pod(box(running=True), phase="Running"),
            events=(
                event(
                    "Unhealthy",
                    "Startup probe failed: Get http://10.0.0.1:8000/health: connect: connection refused",
                ),
            ),
        ),
        None,
        "",
    ),
    "liveness": (
        snap(
            pod(box(running=True, last=137, restarts=3), phase="Running"),
            log="x",
            events=(event("Killing", "Container server failed liveness probe, will be restarted"),),
        ),
        "liveness-probe",
        "3 times",
    ),
    "killed for memory, not by the probe": (
        failed(
            said(TORCH.format(asks="0.50", free="0.10")),
            events=(event("Killing", "Container server failed startup probe, will be restarted"),),
        ),
        "gpu-memory",
        "short",
    ),
    "segmentation fault": (
        snap(pod(crashed(139, restarts=5), phase="Running"), log="Fatal Python error: Segmentation fault"),
        "crash-loop",
        "SIGSEGV (exit code 139), 5 times",
    ),
    "first crash, log unread": (snap(pod(crashed(), phase="Running")), "crashed", "exit code 1"),
    "cannot start": (
        snap(pod(box(waiting="CreateContainerError", says="context deadline exceeded by containerd"))),
        "not-made",
        "cannot be started",
    ),
    "deadline": (
        snap(
            pod(box(running=True), phase="Running"),
            running="Loading safetensors checkpoint shards:  25% Completed | 1/4 [05:00<15:00]",
            workloads=(
                {
                    "metadata": {"name": NAME},
                    "status": {
                        "conditions": [
                            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
                        ]
                    },
                },
            ),
        ),
        "deadline",
        "loading (1 of 4 shards) for 30 s",
    ),
    # nothing wrong
    "pulling": (snap(pod(box()), events=(event("Pulling", f'Pulling image "{IMAGE}"'),)), None, ""),
    "loading": (snap(pod(box(running=True), phase="Running"), running=LOADED), None, ""),
    "waits for the weights": (
        snap(
            pod(box(waiting="PodInitializing"), inits=(box("weights", running=True),)),
            download(box("download", running=True), phase="Running"),
        ),
        None,
        "",
    ),
    "not looked at yet": (snap(pod(node="")), None, ""),
    "crash of an older ReplicaSet": (
        snap(
            pod(crashed(restarts=9), phase="Running", owner="old"),
            log="x",
            replica_sets=tuple(
                {
                    "metadata": {
                        "name": name,
                        "annotations": {"deployment.kubernetes.io/revision": rank},
                        "ownerReferences": [{"name": NAME}],
                    }
                }
                for name, rank in (("old", "9"), ("new", "10"))
            ),
        ),
        None,
        "",
    ),
}
