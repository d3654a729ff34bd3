"""Observations for tests of checks: an invented H100 that is well, and small changes of it; none is of a real GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from selfhost.health import Check, Context, assess
from selfhost.observation import (
    BootTotals,
    EccCounts,
    FabricState,
    FastReadings,
    GpuIdentity,
    GpuProcess,
    GpuSnapshot,
    KernelEvent,
    Missing,
    NodeSnapshot,
    NvLink,
    NvmlState,
    Observation,
    RemappedRows,
    SlowReadings,
    XidEvent,
)
from selfhost.observation.node import SCHEMA

NOW = 1_795_700_000.0
BOOTED = NOW - 40 * 86_400
ABSENT = Missing(missing="not supported by this board", code=3)
REFUSED = Missing(missing="unknown error", code=999)


def identity(index: int = 0, **changes: Any) -> GpuIdentity:
    well = GpuIdentity(
        index=index,
        uuid=f"GPU-{index:08d}-aaaa-bbbb-cccc-dddddddddddd",
        pci_address=f"00000000:{0x18 + index:02X}:00.0",
        name="NVIDIA H100 80GB HBM3",
        memory_total_bytes=80 << 30,
        pcie_max_generation=5,
        pcie_max_width=16,
        sm_clock_max_mhz=1980,
        shutdown_celsius=92,
        slowdown_celsius=89,
        memory_max_celsius=95,
        gpu_max_celsius=87,
        margin_shutdown_celsius=-8,
        margin_slowdown_celsius=-2,
        margin_gpu_max_celsius=0,
    )
    return replace(well, **changes)


def fast(**changes: Any) -> FastReadings:
    well = FastReadings(
        memory_used_bytes=68 << 30,
        memory_reserved_bytes=600 << 20,
        utilization_ratio=0.95,
        temperature_celsius=58,
        memory_temperature_celsius=64,
        power_watts=512.0,
        energy_joules=1e6,
        sm_clock_mhz=1950,
        clock_reasons=0x4,
        recovery_action=0,
        held_down=BootTotals(
            power_cap_seconds=300.0,
            thermal_seconds=0.0,
            board_limit_seconds=0.0,
            reliability_seconds=0.0,
            sw_thermal_seconds=0.0,
            hw_thermal_seconds=0.0,
            power_brake_seconds=0.0,
        ),
    )
    return replace(well, **changes)


def links(count: int = 18, down: tuple[int, ...] = (), **errors: Any) -> tuple[NvLink, ...]:
    counts = {"crc_errors": 0, "replay_errors": 0, "recovery_errors": 0} | errors
    return tuple(NvLink(index=index, active=index not in down, **counts) for index in range(count))


def slow(**changes: Any) -> SlowReadings:
    well = SlowReadings(
        margin_celsius=29,
        performance_state=0,
        pcie_generation=5,
        pcie_width=16,
        pcie_replays=3,
        persistence=True,
        ecc_enabled=True,
        ecc_pending=True,
        ecc=EccCounts(
            volatile_corrected=2,
            volatile_uncorrected=0,
            aggregate_uncorrected=0,
            sram_uncorrected=0,
            sram_threshold_exceeded=False,
        ),
        remapped=RemappedRows(
            corrected=1, uncorrected=0, pending=False, failed=False, banks_without_spares=0
        ),
        unrepairable_memory=False,
        retired_pages=0,
        retired_pending=False,
        inforom_valid=True,
        mig_enabled=False,
        mig_pending=False,
        nvlinks=links(),
        fabric=FabricState(state=3, status=0, health_mask=0xAA, summary=1),
        processes=(GpuProcess(pid=4123, memory_bytes=67 << 30, name="VLLM::Worker"),),
    )
    return replace(well, **changes)


def gpu(
    index: int = 0,
    *,
    at: float = NOW,
    who: dict[str, Any] | None = None,
    quick: dict[str, Any] | None = None,
    rare: dict[str, Any] | None = None,
    **changes: Any,
) -> GpuSnapshot:
    """A GPU that is well but for changes of its identity, fast and slow readings."""
    well = GpuSnapshot(
        identity=identity(index, **(who or {})),
        fast_at=at,
        slow_at=at,
        fast=fast(**(quick or {})),
        slow=slow(**(rare or {})),
    )
    return replace(well, **changes)


def node(*gpus: GpuSnapshot, **changes: Any) -> NodeSnapshot:
    well = NodeSnapshot(
        host="gpu-3",
        booted_at=BOOTED,
        driver_version="580.95.05",
        nvml_version="13.580.95.05",
        cuda_version="13.0",
        kernel_driver_version="580.95.05",
        device_count=len(gpus),
        nvml=NvmlState(poll_seconds=0.012),
        gpus=gpus,
        kernel_log=(),
    )
    return replace(well, **changes)


def seen(*nodes: NodeSnapshot, every: float = 2.0, **changes: Any) -> tuple[Observation, ...]:
    """A history: the nodes, the last of them at NOW."""
    start = NOW - every * (len(nodes) - 1)
    return tuple(
        Observation(schema=SCHEMA, at=start + every * place, node=one, **changes)
        for place, one in enumerate(nodes)
    )


def polls(count: int, every: float = 2.0, **changes: Any) -> tuple[Observation, ...]:
    """The same GPU, polled several times. A change that is a function is given the number of the poll."""
    nodes = []
    for place in range(count):
        values: dict[str, Any] = {
            part: {name: value(place) if callable(value) else value for name, value in some.items()}
            for part, some in changes.items()
        }
        nodes.append(node(gpu(at=NOW - every * (count - 1 - place), **values)))
    return seen(*nodes, every=every)


def judge(history: tuple[Observation, ...], **context: Any) -> dict[str, list[Check]]:
    """The checks by code."""
    found: dict[str, list[Check]] = {}
    for check in assess(history, Context(now=NOW, **context)).checks:
        found.setdefault(check.code, []).append(check)
    return found


def line(code: int, at: float = NOW - 100, address: str = "0000:18:00", **changes: Any) -> KernelEvent:
    return KernelEvent(at=at, kind="xid", code=code, pci_address=address, **changes)


def event(code: int, at: float = NOW - 100, index: int = 0) -> XidEvent:
    return XidEvent(at=at, xid=code, uuid=identity(index).uuid)
