"""What is looked at before an engine is started: its port, its memory, its disk."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from selfhost.deploy.types import Cause
from selfhost.local.processes import PROC, who_listens
from selfhost.local.types import Wanted
from selfhost.plan import Plan
from selfhost.units import GIB, gib

# Main memory that vLLM's processes take beside weights and cache on a CPU: 1.41 GiB (Pss) with the tiny model once it
# had answered (vLLM 0.32.0 for CPUs, 2026-11-26). Ours: as much again as half of it, as the rest grows with requests.
ENGINE_BYTES = 2 * GIB
_CGROUP = Path("/sys/fs/cgroup")


def port_in_use(wanted: Wanted, proc: Path = PROC) -> Cause | None:
    """Why nothing can listen there; None where it can."""
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: what only waits for late packets of an earlier connection is no hindrance (socket(7)).
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((wanted.host, wanted.port))
        except OSError as error:
            return _no_port(wanted, error, proc)
    return None


def _no_port(wanted: Wanted, error: OSError, proc: Path) -> Cause:
    where = f"{wanted.host}:{wanted.port}"
    if error.errno != errno.EADDRINUSE:
        return Cause(
            code="address",
            sentence=f"Nothing can listen at {where}: {(error.strerror or 'error').lower()}.",
            hint="name another address with --bind, or another --port",
            final=True,
        )
    pid = who_listens(wanted.port, proc)
    who = "" if pid is None else f" by process {pid} ({_name(pid, proc)})"
    return Cause(
        code="port-in-use",
        sentence=f"Port {wanted.port} is in use{who}.",
        hint=f"end it, or add --port {wanted.port + 1}",
        final=True,
    )


def _name(pid: int, proc: Path) -> str:
    try:
        name = (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "of an unknown name"
    return name if name.isprintable() else ascii(name)


def available_bytes(proc: Path = PROC, cgroup: Path = _CGROUP) -> int:
    """Main memory that a program may still take: of the machine, or of what is left of this container's limit.

    MemAvailable of proc_meminfo(5); memory.max and memory.current of the kernel's cgroup-v2.rst. 2026-11-26.
    """
    found = 0
    for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            found = int(line.split()[1]) * 1024
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is not None and used is not None:
        found = min(found, max(0, limit - used))
    return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def needed_bytes(plan: Plan) -> int:
    """Main memory that a plan for a CPU takes at least: weights, the cache in whole GiB, and the engine itself."""
    cache = next((one.value for one in plan.engine.env if one.name == "VLLM_CPU_KVCACHE_SPACE"), "0")
    kept = int(cache) * GIB if cache.isdecimal() else plan.memory.kv_needed_bytes
    return plan.memory.weights_bytes + kept + (plan.memory.activation_bytes or 0) + ENGINE_BYTES


def no_memory(plan: Plan, available: Callable[[], int] = available_bytes) -> Cause | None:
    """Why a plan for a CPU has no room in main memory; None where it has, or runs on a GPU."""
    if plan.gpu.on != "cpu":
        return None
    needed, there = needed_bytes(plan), available()
    if needed <= there:
        return None
    return Cause(
        code="memory",
        sentence=f"The plan needs {gib(needed)} GiB of main memory, and {gib(there)} GiB are available: "
        f"{gib(needed - there)} GiB short.",
        hint="end other programs, or ask for less: --context, --concurrency, --kv-cache-memory",
        final=True,
    )


def no_disk(plan: Plan, folder: Path) -> Cause | None:
    """Why the weights have no room on the disk; None where they have, or are there already."""
    if plan.weights.kind != "hub":
        return None
    place = next(path for path in (folder, *folder.parents) if path.is_dir())
    free, needed = shutil.disk_usage(place).free, plan.weights.stored_bytes.value
    there = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink())
    if needed - there <= free:
        return None
    return Cause(
        code="disk",
        sentence=f"The weights need {gib(needed - there)} GiB in {folder}, and {gib(free)} GiB are free there.",
        hint="free some, or set XDG_STATE_HOME to a directory on another disk",
        final=True,
    )


def key_of(path: Path) -> str:
    """The API key that a file holds, without the blanks around it.

    Raises:
        UsageError: it cannot be read, or holds no key.
    """
    from selfhost.errors import UsageError

    try:
        if os.path.getsize(path) > 64 * 1024:
            raise UsageError(f"{path} is too large for a key.")
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"The key in {path} cannot be read: {words.lower()}.") from None
    if not key or not key.isprintable():
        raise UsageError(
            f"{path} holds no key of one printable line.", hint=f"openssl rand -hex 32 > {path} makes one."
        )
    return key
