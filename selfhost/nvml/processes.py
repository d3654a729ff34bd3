"""Processes on a GPU or a MIG device: `nvidia-smi --query-compute-apps=pid,used_memory`."""

from __future__ import annotations

from ctypes import Structure, byref, c_uint
from typing import Any

from selfhost.nvml import codes
from selfhost.nvml.library import Library
from selfhost.nvml.structs import Process, ProcessV1, ProcessWithProtected
from selfhost.nvml.values import BLANK_64
from selfhost.observation import GpuProcess, Missing, Reading
from selfhost.observation.reading import ABSENT_CODES, FUNCTION_NOT_FOUND

KINDS = {
    "compute": "nvmlDeviceGetComputeRunningProcesses",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses",
}
NO_INSTANCE = 0xFFFFFFFF
# Room for this many at first, and for so many more than NVML asks for when it does not fit.
ROOM = 64
NOT_SAID = Missing(missing="the driver does not say how much memory this process has")


def process_struct(library: Library, symbol: str, driver: tuple[int, ...]) -> type[Structure]:
    """The struct that a function fills.

    Drivers 535.43 to 535.86 gave the _v3 functions a longer one; they are told by their symbols, as nvitop does
    (nvitop 1.7.2, api/libnvml.py, read 2026-11-26), so that a backport is not mistaken.
    """
    if not symbol.endswith(("_v2", "_v3")):
        return ProcessV1
    longer = (
        symbol.endswith("_v3")
        and driver[:1] == (535,)
        and library.function("nvmlDeviceGetConfComputeMemSizeInfo") is not None
        and library.function("nvmlDeviceGetRunningProcessDetailList") is None
    )
    return ProcessWithProtected if longer else Process


class Processes:
    """Processes of one kind of one handle, by the newest function that the driver has: _v3, _v2, or the first."""

    __slots__ = ("_absent", "_array", "_handle", "_kind", "_library", "_struct", "_symbol")

    def __init__(self, library: Library, handle: Any, kind: str, driver: tuple[int, ...]) -> None:
        self._library = library
        self._handle = handle
        self._kind = kind
        self._absent: Missing | None = codes.missing(FUNCTION_NOT_FOUND)
        for suffix in ("_v3", "_v2", ""):
            self._symbol = KINDS[kind] + suffix
            if library.function(self._symbol) is not None:
                self._absent = None
                break
        self._struct = process_struct(library, self._symbol, driver)
        self._array = (self._struct * ROOM)()

    def read(self, instance: int | None = None) -> Reading[tuple[GpuProcess, ...]]:
        """Who holds a context.

        Args:
            instance: GPU instance that the handle belongs to, for drivers that do not say.

        Raises:
            GpuFault: the GPU is gone.
        """
        if self._absent is not None:
            return self._absent
        code, count = self._ask()
        if code == codes.INSUFFICIENT_SIZE:
            self._array = (self._struct * (count + ROOM))()
            code, count = self._ask()
        if code:
            return self._failed(code)
        found: dict[int, GpuProcess] = {}
        for entry in self._array[:count]:
            # A pid of 0 is no process: some drivers leave entries empty.
            if entry.pid:
                found[entry.pid] = self._process(entry, instance)
        return tuple(found.values())

    def _ask(self) -> tuple[int, int]:
        count = c_uint(len(self._array))
        code = self._library.call(self._symbol, self._handle, byref(count), self._array)
        return code, count.value

    def _process(self, entry: Any, instance: int | None) -> GpuProcess:
        said = getattr(entry, "gpu_instance", NO_INSTANCE)
        memory: Reading[int] = entry.memory if entry.memory < BLANK_64 else NOT_SAID
        return GpuProcess(
            pid=entry.pid,
            memory_bytes=memory,
            kind=self._kind,
            mig_instance=instance if said == NO_INSTANCE else said,
        )

    def _failed(self, code: int) -> Missing:
        reason = codes.missing(code)
        if code in ABSENT_CODES:
            self._absent = reason
            return reason
        self._library.note(code)
        if code in codes.GPU_FAULTS:
            raise codes.GpuFault(reason)
        return reason


def merged(
    compute: Reading[tuple[GpuProcess, ...]], graphics: Reading[tuple[GpuProcess, ...]]
) -> Reading[tuple[GpuProcess, ...]]:
    """Both kinds in one list: a pid that computes and draws stands once, as computing, which is what serves."""
    if isinstance(compute, Missing):
        return compute if isinstance(graphics, Missing) else graphics
    if isinstance(graphics, Missing):
        return compute
    pids = {process.pid for process in compute}
    return (*compute, *(process for process in graphics if process.pid not in pids))
