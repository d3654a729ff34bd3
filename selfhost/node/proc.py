"""Small pieces of /proc, read with a bound and without ever raising: a process may be gone, or not ours to look at.

`root` stands before every path, so that a tree made by a test, or a host's tree mounted into a container, does as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# More than any of the files below holds; a file that claims more is cut there.
_LARGEST_BYTES = 1 << 20
# PROC_PID_INIT_INO (0xEFFFFFFC) of the kernel's include/linux/proc_ns.h: inode of the machine's first PID namespace.
_FIRST_PID_NAMESPACE = "pid:[4026531836]"


def read_text(path: Path, largest: int = _LARGEST_BYTES) -> str | None:
    """The beginning of a file as text, None where it cannot be read."""
    try:
        # Not a blocking open: a name below /proc or /dev may turn out to be a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        pieces: list[bytes] = []
        left = largest
        while left > 0 and (piece := os.read(handle, min(left, 1 << 16))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces).decode("utf-8", errors="replace")
    except OSError:
        return None
    finally:
        os.close(handle)


def read_once(path: Path | str, largest: int = 4096) -> str | None:
    """A file of /proc that one read gives whole, such as stat or cmdline; None where it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return os.read(handle, largest).decode("utf-8", errors="replace")
    except OSError:
        return None
    finally:
        os.close(handle)


def read_link(path: Path) -> str | None:
    """Where a symbolic link points, None where that cannot be read."""
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return None


def names_in(path: Path) -> tuple[str, ...]:
    """Names in a directory, none where it cannot be read."""
    try:
        return tuple(os.listdir(path))
    except (OSError, ValueError):
        return ()


def pids(root: Path) -> tuple[int, ...]:
    """Every process that /proc lists, ascending."""
    return tuple(sorted(int(name) for name in names_in(root / "proc") if name.isdecimal()))


def parent_of(root: Path, pid: int) -> int | None:
    """The parent's pid; None where the process is gone."""
    stat = read_once(f"{root}/proc/{pid}/stat")
    # The name stands in parentheses and may hold any character, parentheses too: fields are counted from the last one.
    fields = stat.rpartition(")")[2].split() if stat else []
    return int(fields[1]) if len(fields) > 1 and fields[1].isdecimal() else None


def command_line(root: Path, pid: int) -> tuple[str, ...]:
    """A process's command line, empty for a kernel thread or a process that is gone.

    It holds secrets: nothing of it but what is known of a program leaves this package.
    """
    line = read_once(f"{root}/proc/{pid}/cmdline", 1 << 16)
    return tuple(line.rstrip("\0").split("\0")) if line else ()


def host_pids(root: Path) -> bool:
    """Whether /proc numbers processes as the GPU driver does: by the first PID namespace of the machine.

    In a container without `--pid=host` it does not, and a pid from NVML is nobody or somebody else there. Two signs,
    one is enough: our own namespace is the first, or pid 2 is the kernel's thread starter, which exists there alone.
    """
    if read_link(root / "proc/self/ns/pid") == _FIRST_PID_NAMESPACE:
        return True
    return (read_text(root / "proc/2/comm", 64) or "").strip() == "kthreadd" and parent_of(root, 2) == 0


def holds_gpu(root: Path, pid: int) -> bool:
    """Whether a process has an NVIDIA device file open, as every process with a GPU context has."""
    where = root / "proc" / str(pid) / "fd"
    return any((read_link(where / name) or "").startswith("/dev/nvidia") for name in names_in(where))


def ancestors(parents: dict[int, int], pid: int) -> Iterator[int]:
    """A process, its parent, and so on up to the first; ends in a circle too, which a recycled pid can make."""
    seen: set[int] = set()
    while pid > 0 and pid not in seen and pid in parents:
        seen.add(pid)
        yield pid
        pid = parents[pid]
