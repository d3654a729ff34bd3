"""What a node is apart from its GPUs: name, boot, container or not, the loaded driver, device files, main memory."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selfhost.node.cgroups import membership
from selfhost.node.proc import host_pids, names_in, read_text
from selfhost.observation import DeviceFile, Missing, Reading

# "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug …" and, for the open modules,
# "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build …".
_NVRM = re.compile(r"^NVRM version:.*?\s(\d{3,4}\.\d{2,3}(?:\.\d{2})?)\s", re.MULTILINE)
_VERSION = re.compile(r"\d{3,4}\.\d{2,3}(?:\.\d{2})?")
# Only a container has an /etc/hostname or /etc/hosts of its own: mounted by docker, containerd, podman or the kubelet.
_CONTAINER_MOUNT = re.compile(
    r"/docker/containers/|/var/lib/kubelet/pods/|/containerd/|/overlay-containers/|/containers/storage/"
)
_OWN_FILES = ("/etc/hostname", "/etc/resolv.conf", "/etc/hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node apart from its GPUs.

    Args:
        host: NODE_NAME where it is set (a pod's own name is not the node's), else the host name.
        boot_id: changes with each boot; None where it cannot be read.
        booted_at: Unix time, None where it cannot be read.
        in_container: this process runs in a container.
        host_pids: this process is in the host's own PID namespace.
        kernel_driver_version: of the NVIDIA module that is loaded.
        device_files: /dev/nvidia*, ascending.
        system_memory_total_bytes, system_memory_available_bytes: MemTotal and MemAvailable.
    """

    host: str
    boot_id: str | None
    booted_at: float | None
    in_container: bool
    host_pids: bool = False
    kernel_driver_version: Reading[str]
    device_files: tuple[DeviceFile, ...]
    system_memory_total_bytes: int | None
    system_memory_available_bytes: int | None


def node_facts(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> NodeFacts:
    """Reads them; takes well under a millisecond and raises nothing.

    Args:
        root: what stands before /proc, /sys and /dev.
        environment: where NODE_NAME is looked up; the process's own by default.
    """
    total, available = _memory(root)
    return NodeFacts(
        host=_host(root, os.environ if environment is None else environment),
        boot_id=(read_text(root / "proc/sys/kernel/random/boot_id", 64) or "").strip() or None,
        booted_at=_booted_at(root),
        in_container=in_container(root),
        host_pids=host_pids(root),
        kernel_driver_version=_driver(root),
        device_files=_device_files(root),
        system_memory_total_bytes=total,
        system_memory_available_bytes=available,
    )


def in_container(root: Path = Path("/")) -> bool:
    """Whether this process runs in a container, by what runtimes leave: marker files, the cgroup, own mounts."""
    if any((root / marker).exists() for marker in (".dockerenv", "run/.containerenv")):
        return True
    found = membership(read_text(root / "proc/self/cgroup") or "")
    if found.container_id or found.pod_uid:
        return True
    # With a cgroup namespace of its own (cgroup v2) a container sees only "0::/".
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        fields = line.split(" ")
        # mountinfo (proc(5)): the fourth field is the path within its file system, the fifth where it is mounted.
        if len(fields) > 4 and fields[4] in _OWN_FILES and _CONTAINER_MOUNT.search(fields[3]):
            return True
    return False


def _host(root: Path, environment: Mapping[str, str]) -> str:
    named = environment.get("NODE_NAME", "").strip()
    if named:
        return named
    here = (read_text(root / "proc/sys/kernel/hostname", 256) or "").strip()
    return here or socket.gethostname()


def _booted_at(root: Path) -> float | None:
    found = re.search(r"^btime (\d{1,12})$", read_text(root / "proc/stat") or "", re.MULTILINE)
    return float(found[1]) if found else None


def _driver(root: Path) -> Reading[str]:
    text = read_text(root / "proc/driver/nvidia/version", 4096)
    found = _NVRM.search(text + "\n") if text else None
    if found:
        return found[1]
    # Of the open and of the proprietary module alike; there in containers where /proc/driver is hidden.
    module = (read_text(root / "sys/module/nvidia/version", 64) or "").strip()
    if _VERSION.fullmatch(module):
        return module
    if text is None and not module:
        return Missing(missing="no NVIDIA kernel module is loaded, as far as /proc and /sys show")
    return Missing(missing="/proc/driver/nvidia/version is not in a form that is known")


def _device_files(root: Path) -> tuple[DeviceFile, ...]:
    names = [name for name in names_in(root / "dev") if name.startswith("nvidia")]
    names.sort(
        key=lambda name: (not name[6:].isdecimal(), int(name[6:]) if name[6:].isdecimal() else 0, name)
    )
    return tuple(
        DeviceFile(path=f"/dev/{name}", usable=os.access(root / "dev" / name, os.R_OK | os.W_OK))
        for name in names
        if not (root / "dev" / name).is_dir()  # /dev/nvidia-caps
    )


def _memory(root: Path) -> tuple[int | None, int | None]:
    text = read_text(root / "proc/meminfo") or ""

    def of(name: str) -> int | None:
        found = re.search(rf"^{name}:\s+(\d{{1,15}}) kB$", text, re.MULTILINE)
        return int(found[1]) * 1024 if found else None

    return of("MemTotal"), of("MemAvailable")
