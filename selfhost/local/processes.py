"""The processes of a run: found by what their environment says, told apart by when they began, never by number alone.

Read in proc_pid_stat(5), proc_pid_environ(5) and proc_pid_smaps(5) of Linux man-pages 6.9, 2026-11-26.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from selfhost.local.types import RUN_VARIABLE, Process

PROC = Path("/proc")
_PAUSE_SECONDS = 0.1
# Ours: what an engine left behind has nothing to finish.
_REST_SECONDS = 2.0
# Ours: what was killed is gone within a moment, unless it waits for a device.
_KILLED_SECONDS = 10.0
_STARTED = 22  # field of /proc/PID/stat; two before it are the number and the name in brackets


def boot(proc: Path = PROC) -> str:
    """What tells this start of the machine from any other; empty where nothing does."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def ticks_of(pid: int, proc: Path = PROC) -> int | None:
    """When a process began, in clock ticks; None where there is none, or only its remains."""
    fields = _stat(pid, proc)
    return None if not fields or fields[0] == "Z" else int(fields[_STARTED - 3])


def this(pid: int, proc: Path = PROC) -> Process | None:
    """The process that has the number now."""
    ticks = ticks_of(pid, proc)
    return None if ticks is None else Process(pid=pid, ticks=ticks, boot=boot(proc))


def alive(process: Process | None, proc: Path = PROC) -> bool:
    """Whether it is that very process that runs, not a later one with its number."""
    return process is not None and process.boot == boot(proc) and ticks_of(process.pid, proc) == process.ticks


def of_run(run: str, proc: Path = PROC) -> tuple[Process, ...]:
    """Every process of a run, its watcher too."""
    marked = f"{RUN_VARIABLE}={run}".encode()
    found = []
    for entry in os.listdir(proc):
        if not entry.isdecimal():
            continue
        try:
            environ = (proc / entry / "environ").read_bytes()
        except OSError:  # another user's, or gone
            continue
        if marked in environ.split(b"\0") and (process := this(int(entry), proc)) is not None:
            found.append(process)
    return tuple(found)


def memory_bytes(processes: tuple[Process, ...], proc: Path = PROC) -> int | None:
    """Memory of processes together, pages that they share counted once (Pss); None where none says so."""
    total = None
    for process in processes:
        try:
            text = (proc / str(process.pid) / "smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total = (total or 0) + int(line.split()[1]) * 1024
    return total


def send(process: Process, number: int) -> bool:
    """Send a signal to that very process.

    Returns:
        False where it is gone; a later one with its number gets nothing.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # The descriptor stands for whoever has the number now: that it is the one meant is looked at after it is open.
        if not alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def end(
    run: str,
    watcher: Process | None,
    engine: Process | None,
    *,
    within_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """End every process of a run: asked first, so that running requests finish, killed once their time is over.

    Args:
        run: which.
        watcher: asks the engine on its part; where it is gone every process of the run is asked.
        engine: has all the time there is; what it leaves behind has not. None where nobody knows it: then all have.
        within_seconds: how long they may take.
        clock, sleep: of the machine.

    Returns:
        Whether all of them are gone.
    """
    if watcher is None or not send(watcher, signal.SIGTERM):
        for process in of_run(run):
            send(process, signal.SIGTERM)
    deadline = clock() + within_seconds
    while engine is not None and alive(engine) and clock() < deadline:
        sleep(_PAUSE_SECONDS)
    if _gone(run, deadline if engine is None else clock() + _REST_SECONDS, clock, sleep):
        return True
    deadline = clock() + _KILLED_SECONDS
    while True:  # one that was just made by another is found by the next look
        for process in of_run(run):
            send(process, signal.SIGKILL)
        if not of_run(run):
            return True
        if clock() >= deadline:
            return False
        sleep(_PAUSE_SECONDS)


def _gone(run: str, deadline: float, clock: Callable[[], float], sleep: Callable[[float], object]) -> bool:
    while of_run(run):
        if clock() >= deadline:
            return False
        sleep(_PAUSE_SECONDS)
    return True


def _stat(pid: int, proc: Path) -> list[str]:
    """Fields of /proc/PID/stat from the third on: a process's name may hold blanks and brackets."""
    with suppress(OSError, ValueError):
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        return text[text.rindex(")") + 2 :].split()
    return []


def who_listens(port: int, proc: Path = PROC) -> int | None:
    """The process that listens at a port, None where nobody does or it cannot be known (proc_net(5))."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / name).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{words[9]}]")
    for entry in os.listdir(proc) if inodes else ():
        if entry.isdecimal():
            with suppress(OSError):
                folder = proc / entry / "fd"
                if any(os.readlink(folder / one) in inodes for one in os.listdir(folder)):
                    return int(entry)
    return None
