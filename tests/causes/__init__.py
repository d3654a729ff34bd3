"""Snapshots in a few words, and cases of them: what is seen, the code named first, words of its sentence or hint."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from selfhost.deploy.types import LogRef, Snapshot
from selfhost.plan import Plan
from tests.plans import plan

Object = dict[str, Any]
NOW = 1_790_000_000.0
NAME, SPACE = "qwen3-32b", "llm"
POD = f"{NAME}-7c9d-abcde"
LABEL = "nvidia.com/gpu.product"
PRODUCT = "NVIDIA-H100-80GB-HBM3"
IMAGE = "vllm/vllm-openai:v0.32.0"


def when(ago: float) -> str:
    """A time so many seconds ago."""
    return datetime.fromtimestamp(NOW - ago, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def box(
    name: str = "server",
    *,
    waiting: str = "",
    says: str = "",
    running: bool = False,
    ended: int | None = None,
    last: int | None = None,
    reason: str = "",
    message: str = "",
    restarts: int = 0,
    ready: bool = False,
    ran: float = 60.0,
) -> Object:
    """A container's status. `ended`: its exit code now; `last`: of the run before."""

    def over(code: int) -> Object:
        found = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "startedAt": when(ran + 5),
            "finishedAt": when(5),
        }
        return found | ({"message": message} if message else {})

    state: Object = {
        "waiting": {"reason": waiting or "ContainerCreating"} | ({"message": says} if says else {})
    }
    if running:
        state = {"running": {"startedAt": when(30)}}
    if ended is not None:
        state = {"terminated": over(ended)}
    return {
        "name": name,
        "image": IMAGE,
        "restartCount": restarts,
        "ready": ready,
        "state": state,
        "lastState": {"terminated": over(last)} if last is not None else {},
    }


def crashed(code: int = 1, *, restarts: int = 1, reason: str = "", message: str = "") -> Object:
    """A server in CrashLoopBackOff."""
    return box(
        waiting="CrashLoopBackOff",
        says=f"back-off 10s restarting failed container=server pod={POD}",
        last=code,
        restarts=restarts,
        reason=reason,
        message=message,
    )


def pod(
    *boxes: Object,
    name: str = POD,
    node: str = "gpu-1",
    phase: str = "Pending",
    reason: str = "",
    message: str = "",
    component: str = "server",
    gpus: int = 2,
    scheduler: str = "",
    inits: tuple[Object, ...] = (),
    gates: tuple[str, ...] = (),
    owner: str = f"{NAME}-7c9d",
    kind: str = "ReplicaSet",
    going: float | None = None,
    ago: float = 100.0,
    spec: Object | None = None,
    namespace: str = SPACE,
    labels: bool = True,
) -> Object:
    """A pod of the deployment, on its way."""
    resources = {"cpu": "8", "memory": "20Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    metadata: Object = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "creationTimestamp": when(ago),
        "ownerReferences": [{"kind": kind, "name": owner}],
        "labels": {"app.kubernetes.io/instance": NAME, "app.kubernetes.io/component": component}
        if labels
        else {},
    }
    if going is not None:
        metadata["deletionTimestamp"] = when(going)
    status: Object = {"phase": phase, "containerStatuses": list(boxes), "initContainerStatuses": list(inits)}
    status |= {"reason": reason} if reason else {}
    status |= {"message": message} if message else {}
    if scheduler:
        node = ""
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": scheduler,
                "lastTransitionTime": when(ago),
            }
        ]
    rule = {"key": LABEL, "operator": "In", "values": [PRODUCT]}
    server = {
        "name": "server",
        "image": IMAGE,
        "resources": {"requests": resources, "limits": resources},
        "startupProbe": {"periodSeconds": 10, "failureThreshold": 202},
    }
    whole: Object = {
        "containers": [server if component == "server" else {"name": "download", "image": IMAGE}],
        "nodeName": node,
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [rule]}]
                }
            }
        },
        "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": f"{NAME}-weights"}}],
        "securityContext": {"runAsUser": 10001},
        "schedulingGates": [{"name": one} for one in gates],
    }
    return {"metadata": metadata, "spec": whole | (spec or {}), "status": status}


def download(*boxes: Object, **more: Any) -> Object:
    """The pod that fetches the weights."""
    given: Object = {
        "name": f"{NAME}-download-1-x",
        "component": "download",
        "gpus": 0,
        "kind": "Job",
        "owner": f"{NAME}-download-1",
        "phase": "Failed",
    }
    return pod(*boxes, **(given | more))


def node(
    name: str = "gpu-1",
    *,
    gpus: int = 8,
    product: str = PRODUCT,
    taints: tuple[str, ...] = (),
    cordoned: bool = False,
    ready: bool = True,
    cpu: str = "64",
    memory: str = "512Gi",
    labels: Object | None = None,
) -> Object:
    """A node. `taints`: `key` or `key=value`, each NoSchedule."""
    has = {
        "cpu": cpu,
        "memory": memory,
        "pods": "110",
        "ephemeral-storage": "900Gi",
        "nvidia.com/gpu": str(gpus),
    }
    marks = [
        dict(zip(("key", "value"), one.split("="), strict=False)) | {"effect": "NoSchedule"} for one in taints
    ]
    if cordoned:
        marks.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    words = "kubelet is posting ready status" if ready else "Kubelet stopped posting node status."
    return {
        "metadata": {"name": name, "labels": ({LABEL: product} if product else {}) | (labels or {})},
        "spec": {"taints": marks} | ({"unschedulable": True} if cordoned else {}),
        "status": {
            "allocatable": has,
            "capacity": has,
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown", "message": words}],
        },
    }


def other(name: str, on: str, gpus: int, *, namespace: str = "team-a", cpu: str = "1") -> Object:
    """Somebody else's pod that runs."""
    asks = {"cpu": cpu, "nvidia.com/gpu": str(gpus)}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {"nodeName": on, "containers": [{"name": "x", "resources": {"requests": asks}}]},
        "status": {"phase": "Running"},
    }


def event(reason: str, message: str, *, about: str = POD, kind: str = "Pod", ago: float = 10.0) -> Object:
    """An event."""
    return {
        "reason": reason,
        "message": message,
        "lastTimestamp": when(ago),
        "count": 1,
        "involvedObject": {"kind": kind, "name": about, "namespace": SPACE},
    }


def claim(phase: str = "Pending", storage_class: str | None = "fast") -> Object:
    """The claim of the weights."""
    spec: Object = {"accessModes": ["ReadWriteMany"]} | (
        {"storageClassName": storage_class} if storage_class else {}
    )
    return {
        "metadata": {"name": f"{NAME}-weights", "creationTimestamp": when(100)},
        "spec": spec,
        "status": {"phase": phase},
    }


def about_claim(reason: str, message: str) -> Object:
    """An event about it."""
    return event(reason, message, about=f"{NAME}-weights", kind="PersistentVolumeClaim")


def job(reason: str = "", *, succeeded: int = 0) -> Object:
    """The download's Job; `reason`: why it failed for good."""
    said = {
        "DeadlineExceeded": "Job was active longer than specified deadline",
        "BackoffLimitExceeded": "Job has reached the specified backoff limit",
    }.get(reason, "")
    conditions = [{"type": "Failed", "status": "True", "reason": reason, "message": said}] if reason else []
    return {
        "metadata": {"name": f"{NAME}-download-1"},
        "spec": {"activeDeadlineSeconds": 8080},
        "status": {"succeeded": succeeded, "conditions": conditions},
    }


def snap(
    *pods: Object,
    log: str | None = None,
    running: str | None = None,
    planned: Plan | None = None,
    **more: Any,
) -> Snapshot:
    """A snapshot. `log`: of the first pod's run that failed, `running`: of its present one."""
    logs = dict(more.pop("logs", {}))
    if log is not None:
        statuses = (*pods[0]["status"]["initContainerStatuses"], *pods[0]["status"]["containerStatuses"])
        failed = next(one for one in statuses if one["lastState"] or "terminated" in one["state"])
        ref = LogRef(
            pod=pods[0]["metadata"]["name"],
            container=failed["name"],
            previous="terminated" not in failed["state"],
        )
        logs[ref] = log
    if running is not None:
        logs[
            LogRef(
                pod=pods[0]["metadata"]["name"], container=pods[0]["status"]["containerStatuses"][0]["name"]
            )
        ] = running
    return Snapshot(name=NAME, namespace=SPACE, now=NOW, plan=planned or plan(), pods=pods, logs=logs, **more)


def failed(log: str, *, restarts: int = 1, **more: Any) -> Snapshot:
    """A server that crashed, and its log."""
    return snap(pod(crashed(restarts=restarts), phase="Running"), log=log, **more)


def fetched(log: str, *, reason: str = "", code: int = 1) -> Snapshot:
    """A download that failed, its log, and why its Job gave up."""
    return snap(download(box("download", ended=code)), log=log, jobs=(job(reason),))


CLUSTER = "0/3 nodes are available: "
NOT_HELPFUL = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
LACK_OF_GPUS = CLUSTER + "1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu." + NOT_HELPFUL
NO_LABEL = CLUSTER + "3 node(s) didn't match Pod's node affinity/selector." + NOT_HELPFUL
UNBOUND = CLUSTER + "pod has unbound immediate PersistentVolumeClaims. not found"
BUSY = (other("train", "gpu-1", 7), other("notebook", "gpu-2", 8))
TWO = (node("gpu-1"), node("gpu-2"))
CORE = "(EngineCore pid=104) ERROR 11-26 12:00:59 [core.py:1510] "
DIED = (
    "\n(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause "
    "above. Failed core proc(s): {}"
)
LOADED = (
    "(EngineCore pid=104) INFO 11-26 12:00:40 [gpu_model_runner.py:5150] Model loading "
    "took 30.52 GiB memory and 28.4 seconds\n"
)
TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {asks} GiB. GPU 0 has a "
    "total capacity of 79.19 GiB of "
    "which {free} GiB is free. Including non-PyTorch memory, this process has 70.10 GiB memory in use."
)


def waiting(words: str, **more: Any) -> Snapshot:
    """A pod that the scheduler does not place."""
    return snap(pod(scheduler=words), **more)


def pulling(words: str, *, reason: str = "ErrImagePull") -> Snapshot:
    """A container whose image does not come."""
    return snap(pod(box(waiting=reason, says=words)))


def mounting(reason: str, words: str, **more: Any) -> Snapshot:
    """A pod that has a node, and whose volumes do not come."""
    return snap(pod(box()), events=(event(reason, words),), **more)


def refused(words: str, **more: Any) -> Snapshot:
    """A Deployment whose pods are not accepted."""
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": words,
        "lastTransitionTime": when(50),
    }
    return snap(workloads=({"metadata": {"name": NAME}, "status": {"conditions": [condition]}},), **more)


def said(line: str) -> str:
    """An engine's core that fails with a line, and its server after it."""
    return CORE + "EngineCore failed to start.\n" + CORE + line + DIED


FORBIDDEN = 'pods "qwen3-32b-7c9d-x" is forbidden: '
