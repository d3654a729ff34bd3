"""Whose work a GPU does: a process's program, container, pod and unit, where they can be told from here for certain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from selfhost.node.cgroups import membership
from selfhost.node.containers import ContainerNames
from selfhost.node.podresources import DeviceOwner, PodResources
from selfhost.node.proc import holds_gpu, host_pids, read_text
from selfhost.observation import GpuProcess, GpuSnapshot, MigInstance, known

_LONGEST_NAME = 64
# The kernel keeps this many bytes of a name (TASK_COMM_LEN less its zero).
_COMM_BYTES = 15

# Variables that make CUDA trace, profile, dump or wait (DCGM 4.6.0 diagnostics, env_variables test; read 2026-11-21).
_DEBUGGING = (
    "CUDA_DEVICE_WAITS_ON_EXCEPTION",
    "CUDA_ENABLE_COREDUMP_ON_EXCEPTION",
    "CUDA_INJECTION64_PATH",
    "CUDA_PROFILE",
    "NSIGHT_CUDA_DEBUGGER",
)


def attribute(
    processes: tuple[GpuProcess, ...], root: Path = Path("/"), *, names: ContainerNames | None = None
) -> tuple[GpuProcess, ...]:
    """Fills in what /proc says of each process.

    In a container with a PID namespace of its own, a number from NVML is nobody here or somebody else. It is believed
    there only when that process has an NVIDIA device file open; otherwise everything stays None.

    Args:
        processes: as NVML gave them.
        root: what stands before /proc.
        names: finds names of containers and pods; kept by the caller, because it remembers them.
    """
    names = names or ContainerNames(root)
    same_numbers = host_pids(root)
    return tuple(_attributed(process, root, names, same_numbers=same_numbers) for process in processes)


def attribute_gpus(
    gpus: tuple[GpuSnapshot, ...],
    root: Path = Path("/"),
    *,
    pods: PodResources | None = None,
    names: ContainerNames | None = None,
) -> tuple[GpuSnapshot, ...]:
    """Fills in the processes of every GPU, and which pod was given the GPU or its MIG instances.

    A GPU that several pods share (time-slicing) names no pod itself; its processes do.

    Args:
        gpus: as NVML gave them.
        root: what stands before /proc, /var and /run.
        pods: the kubelet's list, None outside Kubernetes.
        names: see `attribute`.
    """
    names = names or ContainerNames(root)
    listed = pods.list() if pods is not None else ()
    owners = listed if known(listed) else ()
    return tuple(_with_owners(gpu, owners, root, names) for gpu in gpus)


def program_name(comm: str, argv: tuple[str, ...]) -> str | None:
    """A program's name: never its arguments, which may be secrets, and nothing a terminal could take for a command.

    Args:
        comm: /proc/<pid>/comm, cut to 15 bytes by the kernel.
        argv: /proc/<pid>/cmdline; its first word gives the rest of a name that was cut.
    """
    name = comm
    if argv and len(comm.encode()) >= _COMM_BYTES:
        # A title that a program wrote over its arguments (`VLLM::EngineCore`) may go on after a space.
        first = argv[0].partition(" ")[0].rpartition("/")[2]
        name = first if first.startswith(comm) else comm
    name = "".join(character if character.isprintable() else "?" for character in name)[:_LONGEST_NAME]
    return name or None


def _attributed(process: GpuProcess, root: Path, names: ContainerNames, *, same_numbers: bool) -> GpuProcess:
    if process.pid <= 0 or not (same_numbers or holds_gpu(root, process.pid)):
        return process
    where = root / "proc" / str(process.pid)
    comm = read_text(where / "comm", 256)
    if comm is None:
        return process
    line = read_text(where / "cmdline", 4096) or ""
    member = membership(read_text(where / "cgroup") or "")
    found = names.find(member.container_id, member.pod_uid)
    return replace(
        process,
        name=program_name(comm.rstrip("\n"), tuple(line.split("\0"))),
        container_id=member.container_id,
        pod_uid=member.pod_uid,
        unit=member.unit,
        container=found.container if found else None,
        pod=found.pod if found else None,
        namespace=found.namespace if found else None,
        debugging=_debugging(read_text(where / "environ") or ""),
    )


def _debugging(environment: str) -> tuple[str, ...]:
    """Which of those variables are set, and not to 0. The rest of the environment, and every value, stays here."""
    pairs = (entry.partition("=") for entry in environment.split("\0"))
    named = {name for name, _, value in pairs if value not in ("", "0")}
    return tuple(name for name in _DEBUGGING if name in named)


def _with_owners(
    gpu: GpuSnapshot, owners: tuple[DeviceOwner, ...], root: Path, names: ContainerNames
) -> GpuSnapshot:
    minor = gpu.identity.minor if known(gpu.identity.minor) else None
    whole = tuple(owner for owner in owners if owner.holds(gpu.identity.uuid, minor))
    mig = tuple(_mig_with_owner(instance, owners, minor) for instance in gpu.slow.mig)
    processes = gpu.slow.processes
    if known(processes):
        processes = tuple(
            _with_pod(process, whole, mig) for process in attribute(processes, root, names=names)
        )
    only = whole[0] if len({owner.who for owner in whole}) == 1 else None
    return replace(
        gpu,
        slow=replace(gpu.slow, mig=mig, processes=processes),
        pod=only.pod if only else None,
        namespace=only.namespace if only else None,
        container=only.container if only else None,
    )


def _mig_with_owner(instance: MigInstance, owners: tuple[DeviceOwner, ...], minor: int | None) -> MigInstance:
    held = [
        owner for owner in owners if owner.holds(instance.uuid, minor, gpu_instance=instance.gpu_instance)
    ]
    if len({owner.who for owner in held}) != 1:
        return instance
    return replace(instance, pod=held[0].pod, namespace=held[0].namespace, container=held[0].container)


def _with_pod(
    process: GpuProcess, owners: tuple[DeviceOwner, ...], mig: tuple[MigInstance, ...]
) -> GpuProcess:
    """A process in a pod whose name the node's files did not tell: the one pod that was given the device."""
    if process.pod is not None or process.pod_uid is None:
        return process
    who: set[tuple[str, str, str | None]] = {owner.who for owner in owners}
    if process.mig_instance is not None:
        who = {
            (instance.namespace, instance.pod, instance.container)
            for instance in mig
            if instance.gpu_instance == process.mig_instance and instance.pod and instance.namespace
        }
    if len(who) != 1:
        return process
    namespace, pod, container = who.pop()
    return replace(process, namespace=namespace, pod=pod, container=container)
