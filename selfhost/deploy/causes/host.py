"""What the container's surroundings do to the process: memory of the host, shared memory, rights, network of the GPUs.

Words of the kubelet and containerd (OOMKilled, exit codes of signals), Linux errno, glibc, and NCCL 2.2x (NCCL's own
lines, and torch.distributed's around them).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.cluster.values import part, parts, text
from selfhost.deploy.amounts import MEMORY, amounts
from selfhost.deploy.causes._scene import Box, Ended, Scene, Seen, reached
from selfhost.deploy.engine_log import progress
from selfhost.deploy.types import Cause
from selfhost.units import gib

RANK = 530


def oom_killed(scene: Scene) -> Iterator[Cause]:
    """The kernel ended the container, or a process in it, as it used more host memory than its limit.

    The limit stands beside what the plan asks. GPU memory is another cause.

    Way out: a larger limit in the plan's pod, fewer workers, or, of a download, `--jobs` fewer.
    """
    for pod, box, ended in scene.ended():
        killed = ended.reason == "OOMKilled" or re.search(
            r"Cannot allocate memory|^MemoryError", box.log, re.MULTILINE
        )
        if not killed:
            continue
        limit = _limit(pod, box)
        planned = scene.plan.pod.memory_bytes if scene.plan and pod.component != "download" else None
        has = f" of {gib(limit)} GiB" if limit else ""
        because = (f"plan: {gib(planned.value)} GiB, as {planned.because}",) if planned else ()
        yield _ended(
            "oom-killed",
            pod,
            box,
            ended,
            (
                f"{box.name} of {pod.name} used more host memory than its limit{has}, and was "
                f"ended for it{_how_far(scene, box)}."
            ),
            (
                f"Give it more: memory in the plan's pod (now {gib(limit)} GiB), then deploy again."
                if limit
                else f"Give it a limit that the node has: {pod.node or 'the node'} itself was out of memory."
            ),
            *because,
            final=ended.reason == "OOMKilled" and box.restarts >= 1,
        )


def shared_memory(scene: Scene) -> Iterator[Cause]:
    """/dev/shm is too small for what the workers exchange.

    Way out: a larger memory volume at /dev/shm; plans of selfhost size it by the workers.
    """
    pattern = (
        r"No space left on device.*(?:/dev/shm|shm)|(?:/dev/shm|shm_open|shared "
        r"memory).*(?:No space left|too small|Bus error)|Error while creating shared memory "
        r"segment|insufficient shared memory"
    )
    for pod, box, ended in scene.ended():
        found = next((one for one in box.log.splitlines() if re.search(pattern, one)), "")
        bus = ended.code == 135 or "Bus error" in box.log
        if found or bus:
            planned = scene.plan.pod.shared_memory_bytes if scene.plan else None
            yield _ended(
                "shared-memory",
                pod,
                box,
                ended,
                f"/dev/shm of {pod.name} is too small{f': {gib(planned.value)} GiB' if planned else ''}.",
                "Raise the sizeLimit of the volume at /dev/shm, and the memory limit by as much.",
                found,
            )


def nccl(scene: Scene) -> Iterator[Cause]:
    """The GPUs of one replica cannot talk to each other (NCCL).

    Way out: `NCCL_DEBUG=INFO` says more; between nodes the interface (`NCCL_SOCKET_IFNAME`) and open ports count.
    """
    pattern = (
        r"NCCL (?:error|WARN|failure)|ncclSystemError|ncclUnhandledCudaError"
        r"|ncclInternalError|ncclRemoteError|ncclInvalidUsage"
        r"|Watchdog caught collective operation timeout|DistBackendError|DistNetworkError|connectFullMesh failed"
    )
    for line in scene.lines(pattern, fatal=True):
        if re.search(r"out of memory", line.box.log):
            continue
        many = scene.plan is not None and scene.plan.split.pipeline > 1
        between = " between the nodes" if many else ""
        more = re.search(
            r"Last error:\s*\n?(.+)|(?:ncclSystemError|ncclInternalError|ncclRemoteError): (.+)", line.box.log
        )
        why = next((one.strip() for one in (more.groups() if more else ()) if one), "")
        yield line.cause(
            "nccl",
            (
                f"The GPUs of {line.pod.name} cannot talk to each "
                f"other{between}{f': {why[:120].rstrip(chr(46))}' if why else ''}."
            ),
            (
                "Deploy with the variable NCCL_DEBUG=INFO to see why; between nodes "
                "NCCL_SOCKET_IFNAME and open ports count."
            ),
            final=False,
            patience=120.0,
        )


def permission_denied(scene: Scene) -> Iterator[Cause]:
    """The process may not read or write where it has to: a volume of another owner, a read-only root.

    Way out: an fsGroup that the volume honours, its owner changed once, or `--writable-root`.
    """
    for line in scene.lines(
        (
            r"PermissionError: .*?(?:'([^']+)')?$|Permission denied:? ?'?(/[^\s':]+)?|Read-only "
            r"file system:? ?'?(/[^\s']+)?|EACCES"
        ),
        fatal=True,
    ):
        path = next((one for one in line.match.groups() if one), "")
        readonly = "Read-only" in line.match[0]
        context = part(line.pod.spec, "securityContext").get("runAsUser")
        who = f" as user {context}" if isinstance(context, int) else ""
        yield line.cause(
            "permission-denied",
            (
                f"{line.box.name} of {line.pod.name} may not {'write' if readonly else 'use'} "
                f"{path or 'a path it needs'}{who}."
            ),
            "Deploy with --writable-root, or mount a volume there."
            if readonly
            else (
                f"Let the volume belong to that user (chown -R {context or 'UID'} once), or "
                f"use storage that honours fsGroup."
            ),
        )


def program_missing(scene: Scene) -> Iterator[Cause]:
    """The image has not got the program that the container is to run.

    Way out: an `--image` of the planned engine.
    """
    for line in scene.created(
        r"exec: \"([^\"]+)\": (?:executable file not found|stat .*no such file|permission denied)"
    ):
        yield line.cause(
            "program-missing",
            f"{line.box.image} has no program {line.match[1]}.",
            "Deploy with an --image of the planned engine.",
        )


def container_config(scene: Scene) -> Iterator[Cause]:
    """The kubelet cannot make the container as it is described: a user it may not be, a variable it cannot have.

    Way out: what its words say.
    """
    for pod in scene.pods:
        for box in pod.boxes:
            if box.reason == "CreateContainerConfigError":
                root = re.search(
                    r"runAsNonRoot and image (?:will run as root|has non-numeric user)", box.message
                )
                yield Cause(
                    code="container-config",
                    sentence=f"{box.image} wants to run as root, and {pod.name} may not."
                    if root
                    else f"The kubelet cannot make the container {box.name} of {pod.name}.",
                    evidence=(box.message[:300],),
                    hint="Deploy with an --image that runs as another user."
                    if root
                    else f"kubectl describe pod {pod.name}",
                    final=bool(root),
                    patience_seconds=0.0 if root else 60.0,
                    since=pod.created,
                    pod=pod.name,
                    node=pod.node,
                )


def sandbox(scene: Scene) -> Iterator[Cause]:
    """The node cannot give the pod a network or a sandbox.

    Way out: look at the network plugin's pod of that node.
    """
    for pod in scene.pods:
        event = next(pod.said("FailedCreatePodSandBox", "NetworkNotReady"), None)
        if event is not None and pod.waits_to_start:
            yield Cause(
                code="sandbox",
                sentence=f"{pod.node} cannot set up {pod.name}: its network or its container runtime fails.",
                evidence=(event.message[:300],),
                hint=f"Look at the network plugin and the container runtime of {pod.node}.",
                patience_seconds=120.0,
                since=pod.created,
                pod=pod.name,
                node=pod.node,
            )


def illegal_instruction(scene: Scene) -> Iterator[Cause]:
    """The image's programs use instructions that the node's CPU has not got (exit code 132).

    Way out: nodes of a newer CPU, or an image built for this one.
    """
    for pod, box, ended in scene.ended():
        if ended.code == 132 or "Illegal instruction" in box.log:
            yield _ended(
                "illegal-instruction",
                pod,
                box,
                ended,
                f"{box.image} uses instructions that the CPU of {pod.node or 'the node'} does not have.",
                "Deploy onto nodes of a newer CPU, or with an --image built for this one.",
            )


def _limit(pod: Seen, box: Box) -> int:
    for one in (*parts(pod.spec, "containers"), *parts(pod.spec, "initContainers")):
        if text(one, "name") == box.name:
            return amounts(part(part(one, "resources"), "limits")).get(MEMORY, 0) // 1000
    return 0


def _how_far(scene: Scene, box: Box) -> str:
    found = progress(box.log.splitlines(), scene.engine)
    return f" at: {reached(found)}" if found else ""


def _ended(
    code: str, pod: Seen, box: Box, ended: Ended, sentence: str, hint: str, *more: str, final: bool = True
) -> Cause:
    return Cause(
        code=code,
        sentence=sentence,
        evidence=(f"{box.name}: exit code {ended.code}{f', {ended.reason}' if ended.reason else ''}", *more),
        hint=hint,
        final=final,
        since=ended.finished,
        pod=pod.name,
        node=pod.node,
    )
