"""MIG devices of a GPU: their profile, their memory and their processes."""

from __future__ import annotations

from ctypes import byref, c_uint, c_void_p
from typing import Any

from selfhost.nvml import codes
from selfhost.nvml.library import Library
from selfhost.nvml.processes import Processes
from selfhost.nvml.question import Asked, Question
from selfhost.nvml.tables import (
    COMPUTE_INSTANCE,
    GPU_INSTANCE,
    MEMORY,
    MIG_ATTRIBUTES,
    MIG_DEVICES_MAX,
    NAME,
    UUID,
)
from selfhost.observation import GpuProcess, MigInstance, Missing, Reading, known

# Most MIG devices that one GPU of any generation can be cut into, for drivers that do not tell.
MOST = 8


class Mig:
    """The MIG devices of one GPU, looked up anew at each reading: they may be made and destroyed at any time."""

    __slots__ = ("_driver", "_handle", "_library", "_most")

    def __init__(self, library: Library, handle: Any, driver: tuple[int, ...]) -> None:
        self._library = library
        self._handle = handle
        self._driver = driver
        self._most = Asked(library, handle, MIG_DEVICES_MAX)

    def read(self) -> tuple[tuple[MigInstance, ...], tuple[GpuProcess, ...]]:
        """The devices, and their compute processes.

        Raises:
            GpuFault: the GPU is gone.
        """
        most = self._most.read()
        instances: list[MigInstance] = []
        processes: list[GpuProcess] = []
        for index in range(MOST if isinstance(most, Missing) else min(most, 64)):
            handle = self._device(index)
            if handle is None:
                continue
            instance = self._instance(handle, index)
            instances.append(instance)
            found = Processes(self._library, handle, "compute", self._driver).read(instance.gpu_instance)
            processes.extend(found if known(found) else ())
        return tuple(instances), tuple(processes)

    def _device(self, index: int) -> c_void_p | None:
        handle = c_void_p()
        code = self._library.call(
            "nvmlDeviceGetMigDeviceHandleByIndex", self._handle, c_uint(index), byref(handle)
        )
        if code in codes.GPU_FAULTS:
            raise codes.GpuFault(codes.missing(code))
        # NOT_FOUND: no device at this index.
        return None if code else handle

    def _instance(self, handle: c_void_p, index: int) -> MigInstance:
        def ask(question: Question[Any]) -> Reading[Any]:
            return Asked(self._library, handle, question).read()

        uuid, gpu, compute, memory = ask(UUID), ask(GPU_INSTANCE), ask(COMPUTE_INSTANCE), ask(MEMORY)
        total, _, _, used = (memory,) * 4 if isinstance(memory, Missing) else memory
        return MigInstance(
            uuid=uuid if known(uuid) else f"unknown-mig-{index}",
            gpu_instance=gpu if known(gpu) else index,
            compute_instance=compute if known(compute) else 0,
            profile=self._profile(ask(NAME), ask(MIG_ATTRIBUTES)),
            memory_total_bytes=total,
            memory_used_bytes=used,
        )

    @staticmethod
    def _profile(name: Reading[str], attributes: Reading[tuple[int, int, int]]) -> Reading[str]:
        """Such as 1g.10gb: the end of the MIG device's name, else made of its slices as NVIDIA names profiles."""
        if known(name) and " MIG " in name:
            return name.rsplit(" MIG ", 1)[1].strip()
        if isinstance(attributes, Missing):
            return attributes
        gpu, compute, memory_mib = attributes
        prefix = f"{compute}c." if compute < gpu else ""
        return f"{prefix}{gpu}g.{round(memory_mib / 1024)}gb"


def with_instances(
    of_gpu: Reading[tuple[GpuProcess, ...]], of_instances: tuple[GpuProcess, ...]
) -> Reading[tuple[GpuProcess, ...]]:
    """Processes of a GPU with MIG: what its devices say goes before what the GPU says of the same process.

    One process may hold contexts in several instances, each with memory of its own.
    """
    if isinstance(of_gpu, Missing):
        return of_instances or of_gpu
    pids = {process.pid for process in of_instances}
    return (*of_instances, *(process for process in of_gpu if process.pid not in pids))
