"""What was seen of a node at one moment: GPUs, processes, engines, each reading a value or a Missing with its reason.

Everything here is frozen and knows no clock, no library and no network, so that a recording is as good as the machine.
"""

from selfhost.observation.engine import (
    CacheConfig,
    EngineAddress,
    EngineSnapshot,
    LatencySum,
    StartupMemory,
)
from selfhost.observation.gpu import (
    BootTotals,
    EccCounts,
    FabricState,
    FastReadings,
    GpuIdentity,
    GpuProcess,
    GpuSnapshot,
    MigInstance,
    NvLink,
    RemappedRows,
    SlowReadings,
)
from selfhost.observation.node import DeviceFile, KernelEvent, NodeSnapshot, NvmlState, Observation, XidEvent
from selfhost.observation.reading import Missing, Reading, known, number, supported

__all__ = [
    "BootTotals",
    "CacheConfig",
    "DeviceFile",
    "EccCounts",
    "EngineAddress",
    "EngineSnapshot",
    "FabricState",
    "FastReadings",
    "GpuIdentity",
    "GpuProcess",
    "GpuSnapshot",
    "KernelEvent",
    "LatencySum",
    "MigInstance",
    "Missing",
    "NodeSnapshot",
    "NvLink",
    "NvmlState",
    "Observation",
    "Reading",
    "RemappedRows",
    "SlowReadings",
    "StartupMemory",
    "XidEvent",
    "known",
    "number",
    "supported",
]
