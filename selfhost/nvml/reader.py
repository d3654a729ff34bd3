"""Polling: the list of GPUs, lane by lane, each GPU published as soon as it is read.

Everything runs in the thread that calls `poll`, and NVML is initialised there too: its state after a fork, or shared by
threads that come and go, is undefined. A call that hangs holds that thread up and nothing else; `current_call` says
which.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ctypes import byref, c_char, c_int, c_uint, c_void_p, create_string_buffer
from dataclasses import dataclass, replace

from selfhost.nvml import codes
from selfhost.nvml.events import Events
from selfhost.nvml.fields import driver_numbers
from selfhost.nvml.gpu import GONE, Gpu, Lane
from selfhost.nvml.library import Library, open_library
from selfhost.nvml.question import Asked
from selfhost.nvml.tables import UUID
from selfhost.observation import GpuSnapshot, Missing, Reading, XidEvent
from selfhost.observation.reading import NOT_READ

__all__ = ["Lane", "NodeReadings", "NvmlReader", "open_nvml"]

# Who a GPU is and how it is now come together, so that one whose first call hangs hides no GPU before it; what is slow
# comes after the fast readings of all.
ROUNDS: tuple[tuple[Lane, ...], ...] = (("static", "fast"), ("slow",))
COUNT = ("nvmlDeviceGetCount_v2", "nvmlDeviceGetCount")
HANDLE = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex")
CUDA_VERSION = ("nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion")
# No node has more; a count beyond is a mistake of the library's. Ours.
MOST_GPUS = 1024

Publish = Callable[[GpuSnapshot], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReadings:
    """What NVML says of the node.

    Args:
        driver_version: `driver_version`, such as 580.95.05.
        nvml_version: such as 13.580.95.05.
        cuda_version: highest CUDA that the driver can run, such as 13.0.
        device_count: NVML's count when the list was last read.
        deaf: why Xid events are not heard, of a GPU or at all; None while they are.
    """

    driver_version: Reading[str] = NOT_READ
    nvml_version: Reading[str] = NOT_READ
    cuda_version: Reading[str] = NOT_READ
    device_count: Reading[int] = NOT_READ
    deaf: Missing | None = None


class NvmlReader:
    """The GPUs of this node. Use it in the thread that opened it.

    Args:
        library: initialised NVML.
        clock: Unix time, for the snapshots.
        monotonic: for durations.
    """

    def __init__(
        self,
        library: Library,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._library = library
        self._clock = clock
        self._monotonic = monotonic
        self._gpus: list[Gpu] = []
        self._events: Events | None = None
        self._listed = False
        self._node = NodeReadings()

    @property
    def current_call(self) -> tuple[str, float] | None:
        """Name of the NVML call under way, with its GPU, and when it began (monotonic); None between calls.

        Any thread may ask.
        """
        call, gpu = self._library.current, self._library.gpu
        return call if call is None or gpu is None else (f"{call[0]} of gpu {gpu}", call[1])

    @property
    def failed_calls(self) -> int:
        """Calls and values since the start that failed for another reason than an absent reading."""
        return self._library.failed

    @property
    def calls(self) -> int:
        """NVML calls since the start."""
        return self._library.calls

    def driver_facts(self) -> NodeReadings:
        """Versions of driver, NVML and CUDA, asked once: they cannot change while NVML is initialised."""
        if self._node.driver_version is NOT_READ:
            self._node = replace(
                self._node,
                driver_version=self._text("nvmlSystemGetDriverVersion"),
                nvml_version=self._text("nvmlSystemGetNVMLVersion"),
                cuda_version=self._cuda_version(),
            )
        return self._node

    def node_readings(self) -> NodeReadings:
        """The same with the number of GPUs; asks NVML only what it was not asked yet."""
        self.driver_facts()
        if self._node.device_count is NOT_READ:
            self._node = replace(self._node, device_count=self._count())
        return self._node if self._events is None else replace(self._node, deaf=self._events.deaf)

    def poll(self, lanes: frozenset[Lane], publish: Publish | None = None) -> tuple[GpuSnapshot, ...]:
        """Read these lanes of every GPU; never raises for what a GPU answers.

        A new GPU's static lane is read whether asked for or not. The list of GPUs is read anew with the static and the
        slow lane: that is when one that is gone is missed, and when one comes back. The fast lane of all GPUs comes
        before the slow lane of the first, so that a slow call costs no fast reading.

        Args:
            lanes: which to read.
            publish: called with each GPU's snapshot as soon as there is news of it.

        Returns:
            All GPUs seen since the start, in order of index; one that is gone keeps its last readings and has a fault.
        """
        driver = driver_numbers(self.driver_facts().driver_version)
        if not self._listed or lanes & {"static", "slow"}:
            self._list(driver)
        order = sorted(self._gpus, key=lambda gpu: (gpu.late, gpu.index))
        for gpu in order:
            gpu.begin()
            if gpu.handle is None and publish is not None:
                publish(gpu.snapshot)
        for round_ in ROUNDS:
            for gpu in order:
                self._library.gpu = gpu.index
                for lane in round_:
                    self._read(gpu, lane, lanes, publish)
        self._library.gpu = None
        return tuple(gpu.snapshot for gpu in sorted(self._gpus, key=lambda gpu: gpu.index))

    def _read(self, gpu: Gpu, lane: Lane, lanes: frozenset[Lane], publish: Publish | None) -> None:
        if not gpu.read(lane, self._clock(), lanes):
            return
        if lane == "static" and self._events is not None and gpu.handle is not None:
            self._events.register(gpu.handle, gpu.uuid)
        if publish is not None:
            publish(gpu.snapshot)

    def drain_events(self, at: float) -> tuple[XidEvent, ...]:
        """Xid events since the last call, without waiting.

        Args:
            at: Unix time that they are given.
        """
        if self._events is None:
            self._events = Events(self._library)
            for gpu in self._gpus:
                if gpu.handle is not None:
                    self._events.register(gpu.handle, gpu.uuid)
        return self._events.drain(at)

    def close(self) -> None:
        """Give everything back and shut NVML down."""
        if self._events is not None:
            self._events.close()
        for gpu in self._gpus:
            gpu.forget()
        self._library.close()

    def _list(self, driver: tuple[int, ...]) -> None:
        """Match NVML's list with the GPUs that are known, by UUID: indices shift when a GPU is gone."""
        if self._events is None:
            # Before the first readings, as NVML tells only of what happens from here on.
            self._events = Events(self._library)
        count = self._count()
        self._node = replace(self._node, device_count=count)
        if isinstance(count, Missing):
            return
        self._listed = True
        unmatched = list(self._gpus)
        nameless: list[tuple[int, c_void_p | None, Missing]] = []
        for index in range(min(count, MOST_GPUS)):
            self._library.gpu = index
            handle, failed = self._handle(index)
            uuid = failed if handle is None else self._uuid(handle)
            if isinstance(uuid, Missing):
                nameless.append((index, handle, uuid))
                continue
            gpu = next((one for one in unmatched if one.uuid == uuid), None)
            gpu = gpu or next((one for one in unmatched if one.uuid == f"unknown-{index}"), None)
            self._found(gpu, index, handle, driver, unmatched)
        for index, handle, reason in nameless:
            # A GPU that does not say who it is, is the known one that stood there, unless that was found elsewhere.
            gpu = next((one for one in unmatched if one.index == index), None)
            gpu = self._found(gpu, index, handle, driver, unmatched)
            if handle is None:
                gpu.detach(reason)
        self._library.gpu = None
        for gpu in unmatched:
            gpu.detach(GONE)

    def _found(
        self,
        gpu: Gpu | None,
        index: int,
        handle: c_void_p | None,
        driver: tuple[int, ...],
        unmatched: list[Gpu],
    ) -> Gpu:
        if gpu is None:
            gpu = Gpu(self._library, index, driver, self._monotonic)
            self._gpus.append(gpu)
        else:
            unmatched.remove(gpu)
        if handle is not None:
            gpu.attach(handle, index)
            if self._events is not None:
                self._events.register(handle, gpu.uuid)
        return gpu

    def _count(self) -> Reading[int]:
        count = c_uint()
        code = self._library.first(COUNT, byref(count))
        return self._failed(code) if code else count.value

    def _handle(self, index: int) -> tuple[c_void_p | None, Missing]:
        handle = c_void_p()
        code = self._library.first(HANDLE, c_uint(index), byref(handle))
        return (None, self._failed(code)) if code else (handle, NOT_READ)

    def _uuid(self, handle: c_void_p) -> Reading[str]:
        try:
            return Asked(self._library, handle, UUID).read()
        except codes.GpuFault as fault:
            return fault.reason

    def _failed(self, code: int) -> Missing:
        if code not in (3, 13):
            self._library.note(code)
        return codes.missing(code)

    def _text(self, symbol: str) -> Reading[str]:
        buffer: c_char = create_string_buffer(96)  # type: ignore[assignment]
        code = self._library.call(symbol, buffer, c_uint(96))
        return self._failed(code) if code else buffer.value.decode("utf-8", "replace")

    def _cuda_version(self) -> Reading[str]:
        version = c_int()
        code = self._library.first(CUDA_VERSION, byref(version))
        return self._failed(code) if code else f"{version.value // 1000}.{version.value % 1000 // 10}"


def open_nvml(
    *, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> NvmlReader | Missing:
    """NVML, ready to be polled by this thread; never raises.

    Returns:
        The reader, or a Missing with nvmlReturn_t and what to do: 12 no library, 9 driver not loaded, 18 library and
        driver differ; without a code where the Python package is at fault.
    """
    library = open_library(monotonic=monotonic)
    return library if isinstance(library, Missing) else NvmlReader(library, clock=clock, monotonic=monotonic)
