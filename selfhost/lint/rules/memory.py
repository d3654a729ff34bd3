"""Shared memory and main memory of the engine's pod."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.lint.edits import add_item
from selfhost.lint.model import Container, Engine, Lot, Mount, Pod, Volume
from selfhost.lint.rules.gpus import needed_gpus
from selfhost.lint.sizes import quantity, shown
from selfhost.lint.types import Edit, Found, Rule
from selfhost.units import GIB, MIB

_NCCL = (
    "NCCL's docs, troubleshooting (shared memory), and vllm-project/production-stack#276, #899, 2026-11-21"
)
# Ours: NCCL and vLLM's message queues between two workers take some hundred MiB; KServe gives 1 GiB, Dynamo 8.
LEAST_BYTES_PER_WORKER = 256 * MIB
# Ours: what the interpreter, torch and the CUDA libraries hold in each of server and workers, apart from shared memory.
LEAST_BYTES_PER_PROCESS = GIB


def _workers(pod: Pod, container: Container, engine: Engine) -> int:
    """GPU workers of one pod that talk through shared memory; 1 where that is unknown.

    Where options and GPUs contradict each other the larger counts: with either set right there are so many.
    """
    if engine.name not in ("vllm", "sglang", "tgi"):
        return 1
    if engine.tensor is None or engine.pipeline is None:
        return (
            container.gpus or 1
            if engine.name == "tgi" or engine.flag("tensor-parallel-size", "tp-size")
            else 1
        )
    world = engine.tensor * engine.pipeline
    needed = needed_gpus(pod, container, engine)
    here = max(container.gpus or 0, 0 if needed is None else needed[0])
    return min(world, here) if here else world


def _shared(pod: Pod, container: Container) -> tuple[Mount, Volume | None] | None:
    mount = next((each for each in container.mounts if each.path.rstrip("/") == "/dev/shm"), None)
    return None if mount is None else (mount, pod.volume(mount.name))


def _missing(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        workers = _workers(pod, container, engine)
        if workers < 2 or _shared(pod, container) is not None or pod.spec.get("hostIPC") is True:
            continue
        if any(each.path.rstrip("/") == "/dev" for each in container.mounts):
            continue
        if pod.managed not in (None, "kserve") or pod.owner.kind == "LLMInferenceService":
            continue  # KubeRay, NIM, Dynamo and LLMInferenceService mount one themselves
        size = f"{2 * workers}Gi"
        yield Found(
            where=container.where,
            message=f"{workers} GPU workers share the container's 64 MiB of /dev/shm",
            fix=f"mount an emptyDir with medium: Memory and sizeLimit: {size} at /dev/shm",
            edits=_mounted(pod, container, size),
        )


def _mounted(pod: Pod, container: Container, size: str) -> tuple[Edit, ...]:
    if pod.volume("dshm") is not None:
        return ()
    volume = add_item(
        pod.spec.seq("volumes"), f"name: dshm\nemptyDir:\n  medium: Memory\n  sizeLimit: {size}"
    )
    mount = add_item(container.body.seq("volumeMounts"), "name: dshm\nmountPath: /dev/shm")
    return (*volume, *mount) if volume and mount else ()


def _small(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        shared, workers = _shared(pod, container), _workers(pod, container, engine)
        if shared is None or shared[1] is None or shared[1].kind != "emptyDir":
            continue
        volume = shared[1]
        size = quantity(volume.body.get("sizeLimit"))
        where = pod.at(volume.where.line, f"volumes[{volume.name}]")
        if volume.body.text("medium") != "Memory":
            yield Found(
                where=where,
                message=f"volume {volume.name} at /dev/shm is an emptyDir on disk",
                fix="add medium: Memory",
            )
        elif size is not None and workers > 1 and size < workers * LEAST_BYTES_PER_WORKER:
            yield Found(
                where=where,
                message=f"{shown(size)} of shared memory for {workers} GPU workers",
                fix=f"set sizeLimit to {workers * 2}Gi and add it to the memory limit",
            )


def _unbounded(lot: Lot) -> Iterator[Found]:
    for pod, container, _ in lot.engines():
        shared = _shared(pod, container)
        volume = shared[1] if shared else None
        if volume is None or volume.kind != "emptyDir" or volume.body.text("medium") != "Memory":
            continue
        limit = quantity(container.limits.get("memory"))
        if "sizeLimit" not in volume.body and limit is None:
            yield Found(
                where=pod.at(volume.where.line, f"volumes[{volume.name}]"),
                message=f"volume {volume.name} at /dev/shm has no sizeLimit and the container no memory limit",
            )


def _uncounted(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        shared = _shared(pod, container)
        volume = shared[1] if shared else None
        if volume is None or volume.kind != "emptyDir" or volume.body.text("medium") != "Memory":
            continue
        size, limit = quantity(volume.body.get("sizeLimit")), quantity(container.limits.get("memory"))
        if size is None or limit is None:
            continue
        least = LEAST_BYTES_PER_PROCESS * (2 + _workers(pod, container, engine))
        if limit - size >= least:
            continue
        yield Found(
            where=container.at(container.limits.line("memory"), "resources.limits.memory"),
            message=f"memory limit {shown(limit)} holds {shown(size)} of shared memory and leaves the engine "
            f"{shown(max(0, limit - size))}",
            fix=f"raise the memory limit by {shown(size)}, or lower the sizeLimit",
            severity="error" if size >= limit else None,
        )


def _no_memory(lot: Lot) -> Iterator[Found]:
    for pod, container, _ in lot.engines():
        if pod.managed or "memory" in container.requests or "memory" in container.limits:
            continue
        yield Found(where=container.where, message="no memory request")


RULES = (
    Rule(
        code="SH010",
        title="Shared memory missing",
        severity="error",
        reason="Workers of one engine exchange data through /dev/shm, of which a container has 64 MiB: "
        "NCCL ends with a bus "
        "error or the engine hangs at its start.",
        fix="Mount an emptyDir with `medium: Memory` and a sizeLimit at /dev/shm, and add it to the memory limit.",
        sources=(_NCCL, "vLLM 0.32 docs/deployment/docker.md (--ipc=host or --shm-size), read 2026-11-21"),
        compose=True,
        compose_fix="Set `shm_size: 16gb`, or `ipc: host`.",
        check=_missing,
        fixable=True,
    ),
    Rule(
        code="SH011",
        title="Shared memory too small or on disk",
        severity="warning",
        reason="A full /dev/shm ends NCCL with a bus error; on disk it is slow, and the node may evict the pod for it.",
        fix="Give /dev/shm `medium: Memory` and some GiB for each GPU worker.",
        sources=(_NCCL,),
        check=_small,
    ),
    Rule(
        code="SH012",
        title="Shared memory not counted in the memory limit",
        severity="warning",
        reason="What is written to a memory-backed volume counts as memory of the container: when it "
        "fills, the kernel kills "
        "the engine.",
        fix="Make the memory limit the engine's own need plus the sizeLimit of /dev/shm.",
        sources=("https://kubernetes.io/docs/concepts/storage/volumes/#emptydir, 2026-11-21",),
        check=_uncounted,
    ),
    Rule(
        code="SH053",
        title="Shared memory without a bound",
        severity="note",
        reason="Without a sizeLimit and a memory limit /dev/shm may take all of the node's memory.",
        fix="Add a sizeLimit, and a memory limit that counts it.",
        sources=("https://kubernetes.io/docs/concepts/storage/volumes/#emptydir, 2026-11-21",),
        check=_unbounded,
    ),
    Rule(
        code="SH015",
        title="No memory request",
        severity="warning",
        reason="Without a request the scheduler counts no memory for the engine, and it is among the "
        "first to be evicted when "
        "the node runs short.",
        fix="Request the main memory that the engine needs while loading.",
        sources=(
            "https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/, 2026-11-21",
        ),
        check=_no_memory,
    ),
)
