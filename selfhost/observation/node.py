"""The node around its GPUs: driver, NVML's own state, Xid events, the kernel log, device files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from selfhost.observation.engine import EngineSnapshot
from selfhost.observation.gpu import GpuSnapshot
from selfhost.observation.reading import NOT_READ, Missing, Reading

SCHEMA = "selfhost/observation/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlState:
    """NVML itself.

    Args:
        fault: why it cannot be used: no library (12), driver not loaded (9), library and driver differ (18), another
            code, or a call that does not return; None while it answers.
        poll_seconds: how long the last complete poll took.
        stuck_seconds: how long the call under way has not returned, 0 while none is late.
        stuck_call: name of that call.
        failed_calls: NVML calls since the start that failed for another reason than an absent reading.
        deaf: why its Xid events are not heard, of a GPU or at all; None while they are.
    """

    fault: Missing | None = None
    poll_seconds: float | None = None
    stuck_seconds: float = 0.0
    stuck_call: str | None = None
    failed_calls: int = 0
    deaf: Missing | None = field(default=None, metadata={"later": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class XidEvent:
    """One Xid as NVML delivered it. `uuid` is None where the event names no GPU that is known."""

    at: float
    xid: int
    uuid: str | None = None
    gpu_instance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """One line of the kernel log about an Xid or SXid, or about a GPU that fell off the bus.

    Args:
        at: Unix time.
        kind: `xid` of a GPU, `sxid` of an NVSwitch.
        code: number of the Xid; 79 where the line says it fell off the bus without a number.
        pci_address: as the line gives it, lower case.
        pid, process: whose work it was, where the line says.
        detail: the rest of the line, for the evidence and for codes that have to be decoded.
    """

    at: float
    kind: Literal["xid", "sxid"]
    code: int
    pci_address: str
    pid: int | None = None
    process: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """A /dev/nvidia* file, and whether this user may open it."""

    path: str
    usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSnapshot:
    """A node at one moment.

    Args:
        host: its name.
        boot_id: /proc/sys/kernel/random/boot_id, None where it cannot be read.
        booted_at: Unix time of the boot, None where it cannot be read.
        in_container: this process runs in a container.
        host_pids: this process is in the host's own PID namespace, so that every process can be seen.
        driver_version, nvml_version: as NVML tells them, such as 580.95.05 and 13.580.95.05.
        cuda_version: highest CUDA the driver can run, such as 13.0.
        kernel_driver_version: of /proc/driver/nvidia/version: what is loaded, whatever the library is.
        device_count: NVML's count.
        gpus: in order of index; a GPU that was seen since the start and is gone stays here, with a fault.
        system_memory_total_bytes, system_memory_available_bytes: main memory, for boards that share it.
        kernel_log: Xid lines since boot; Missing without a kernel log to read.
        xids: Xid events since the start of this process.
    """

    host: str
    boot_id: str | None = None
    booted_at: float | None = None
    in_container: bool = False
    host_pids: bool = field(default=False, metadata={"later": True})
    driver_version: Reading[str] = NOT_READ
    nvml_version: Reading[str] = NOT_READ
    cuda_version: Reading[str] = NOT_READ
    kernel_driver_version: Reading[str] = NOT_READ
    device_count: Reading[int] = NOT_READ
    nvml: NvmlState = NvmlState()
    gpus: tuple[GpuSnapshot, ...] = ()
    xids: tuple[XidEvent, ...] = ()
    kernel_log: Reading[tuple[KernelEvent, ...]] = NOT_READ
    device_files: tuple[DeviceFile, ...] = ()
    system_memory_total_bytes: int | None = None
    system_memory_available_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything that was seen at one moment; a line of a recording.

    Args:
        at: Unix time.
        engines_looked_for: engines were searched or named; an empty `engines` then means there are none.
    """

    schema: str
    at: float
    node: NodeSnapshot
    engines: tuple[EngineSnapshot, ...] = ()
    engines_looked_for: bool = False
