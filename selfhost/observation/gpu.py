"""One GPU as NVML shows it: who it is, what is read every tick, and what is read now and then.

Each field names the `nvidia-smi --query-gpu=` column or the NVML call it can be checked against. Ratios are 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from selfhost.observation.reading import NOT_READ, Missing, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuIdentity:
    """What does not change while the driver is loaded; kept for a GPU that is lost, so that its series go on.

    Args:
        index: NVML's index at the time it was first seen (`index`).
        uuid: `GPU-…` (`uuid`); `unknown-<index>` where even that could not be read.
        pci_address: domain:bus:device.function, such as 00000000:18:00.0 (`pci.bus_id`).
        name: product name (`name`).
        minor: number of /dev/nvidia<minor>.
        architecture: as NVML names it: Ampere, Ada, Hopper, Blackwell, …
        compute_capability: such as 9.0 (`compute_cap`).
        memory_total_bytes: device memory (`memory.total`); Missing on boards with unified memory.
        unified_memory: CPU and GPU share one memory, and NVML has no figure of its own (GB10, Thor).
        pcie_max_generation, pcie_max_width: most that this device and this slot can do (`pcie.link.gen.max`).
        pcie_device_generation: most that the device alone can do (nvmlDeviceGetGpuMaxPcieLinkGeneration).
        sm_clock_max_mhz: `clocks.max.sm`.
        shutdown_celsius … gpu_max_celsius: nvmlDeviceGetTemperatureThreshold, boards before Ada.
        margin_shutdown_celsius … margin_gpu_max_celsius: NVML fields 193 to 196, degrees to go, may be negative.
        nvlink_count: NVML field 91.
        tensor_activity: the board has GPM (Hopper and later), so SM, tensor and DRAM activity can be read.
    """

    index: int
    uuid: str
    pci_address: str
    name: str
    serial: Reading[str] = NOT_READ
    minor: Reading[int] = NOT_READ
    vbios: Reading[str] = NOT_READ
    architecture: Reading[str] = NOT_READ
    compute_capability: Reading[str] = NOT_READ
    memory_total_bytes: Reading[int] = NOT_READ
    unified_memory: bool = False
    pcie_max_generation: Reading[int] = NOT_READ
    pcie_max_width: Reading[int] = NOT_READ
    pcie_device_generation: Reading[int] = NOT_READ
    sm_clock_max_mhz: Reading[int] = NOT_READ
    power_limit_default_watts: Reading[float] = NOT_READ
    shutdown_celsius: Reading[int] = NOT_READ
    slowdown_celsius: Reading[int] = NOT_READ
    memory_max_celsius: Reading[int] = NOT_READ
    gpu_max_celsius: Reading[int] = NOT_READ
    margin_shutdown_celsius: Reading[int] = NOT_READ
    margin_slowdown_celsius: Reading[int] = NOT_READ
    margin_memory_max_celsius: Reading[int] = NOT_READ
    margin_gpu_max_celsius: Reading[int] = NOT_READ
    nvlink_count: Reading[int] = NOT_READ
    tensor_activity: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BootTotals:
    """Counters since the driver was loaded, in seconds: how long the clocks were held down, and by what.

    NVML fields 74 to 79 and 269 to 271 (nanoseconds). The last three were renumbered between CUDA 13.0 and 13.0 U1,
    so that a driver of that time answers something else under their ids: Missing there.
    """

    power_cap_seconds: Reading[float] = NOT_READ
    thermal_seconds: Reading[float] = NOT_READ
    sync_boost_seconds: Reading[float] = NOT_READ
    board_limit_seconds: Reading[float] = NOT_READ
    low_utilization_seconds: Reading[float] = NOT_READ
    reliability_seconds: Reading[float] = NOT_READ
    sw_thermal_seconds: Reading[float] = NOT_READ
    hw_thermal_seconds: Reading[float] = NOT_READ
    power_brake_seconds: Reading[float] = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class FastReadings:
    """What is read every tick, in at most ten NVML calls.

    Args:
        utilization_ratio: share of the last sample period with any kernel running (`utilization.gpu`); says nothing
            about the work done.
        memory_busy_ratio: share of time memory was read or written (`utilization.memory`).
        memory_used_bytes: without the driver's reserve where NVML tells it apart (`memory.used`).
        memory_reserved_bytes: the driver's reserve (`memory.reserved`, driver 510 and later).
        clock_reasons: bit mask (`clocks_event_reasons.active`).
        recovery_action: NVML field 230: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset, 5-7 newer.
        sm_activity_ratio, tensor_activity_ratio, memory_activity_ratio: GPM metrics 2, 5 and 10; Hopper and later.
        graphics_activity_ratio: GPM metric 1: share of time any engine for graphics or computation was active.
        pcie_sent_bytes_per_second, pcie_received_bytes_per_second: GPM metrics 20 and 21.
        nvlink_sent_bytes, nvlink_received_bytes: counters, NVML fields 138 and 139.
        pcie_sent_bytes, pcie_received_bytes: counters, NVML fields 197 and 198.
    """

    memory_used_bytes: Reading[int] = NOT_READ
    memory_free_bytes: Reading[int] = NOT_READ
    memory_reserved_bytes: Reading[int] = NOT_READ
    utilization_ratio: Reading[float] = NOT_READ
    memory_busy_ratio: Reading[float] = NOT_READ
    temperature_celsius: Reading[int] = NOT_READ
    memory_temperature_celsius: Reading[int] = NOT_READ
    power_watts: Reading[float] = NOT_READ
    energy_joules: Reading[float] = NOT_READ
    sm_clock_mhz: Reading[int] = NOT_READ
    memory_clock_mhz: Reading[int] = NOT_READ
    clock_reasons: Reading[int] = NOT_READ
    recovery_action: Reading[int] = NOT_READ
    sm_activity_ratio: Reading[float] = NOT_READ
    tensor_activity_ratio: Reading[float] = NOT_READ
    memory_activity_ratio: Reading[float] = NOT_READ
    graphics_activity_ratio: Reading[float] = field(default=NOT_READ, metadata={"later": True})
    pcie_sent_bytes_per_second: Reading[float] = field(default=NOT_READ, metadata={"later": True})
    pcie_received_bytes_per_second: Reading[float] = field(default=NOT_READ, metadata={"later": True})
    nvlink_sent_bytes: Reading[int] = NOT_READ
    nvlink_received_bytes: Reading[int] = NOT_READ
    pcie_sent_bytes: Reading[int] = NOT_READ
    pcie_received_bytes: Reading[int] = NOT_READ
    held_down: BootTotals = BootTotals()


@dataclass(frozen=True, slots=True, kw_only=True)
class EccCounts:
    """ECC errors: volatile ones since the driver was loaded, aggregate ones over the board's life."""

    volatile_corrected: Reading[int] = NOT_READ
    volatile_uncorrected: Reading[int] = NOT_READ
    aggregate_corrected: Reading[int] = NOT_READ
    aggregate_uncorrected: Reading[int] = NOT_READ
    sram_uncorrected: Reading[int] = NOT_READ
    sram_threshold_exceeded: Reading[bool] = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class RemappedRows:
    """Rows of memory replaced by spares (`remapped_rows.*`), Ampere and later.

    `banks_without_spares` is the `none` column of the remapper's histogram.
    """

    corrected: Reading[int] = NOT_READ
    uncorrected: Reading[int] = NOT_READ
    pending: Reading[bool] = NOT_READ
    failed: Reading[bool] = NOT_READ
    banks_without_spares: Reading[int] = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class NvLink:
    """One link: whether it is up, and its error counters since the driver was loaded."""

    index: int
    active: Reading[bool] = NOT_READ
    crc_errors: Reading[int] = NOT_READ
    replay_errors: Reading[int] = NOT_READ
    recovery_errors: Reading[int] = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricState:
    """nvmlDeviceGetGpuFabricInfoV: registration of the GPU with the NVSwitch fabric.

    Args:
        state: 0 not supported, 1 not started, 2 in progress, 3 completed.
        status: nvmlReturn_t of the registration, meaningful once completed.
        health_mask: two- and four-bit fields; Missing before version 2 of the struct.
        summary: 0 not supported, 1 healthy, 2 unhealthy, 3 limited capacity; version 3 of the struct.
    """

    state: int
    status: int
    health_mask: Reading[int] = NOT_READ
    summary: Reading[int] = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process with a context on a GPU.

    Args:
        pid: as NVML gives it: of the host's PID namespace.
        memory_bytes: device memory; Missing where the driver does not say (MIG without rights, WDDM).
        kind: `compute` or `graphics`.
        name: command, None where /proc does not show this pid from here or shows somebody else's.
        container_id: 64 hex digits, None outside a container or where it cannot be seen.
        pod_uid, pod, namespace, container: Kubernetes' names where they are known.
        unit: systemd unit, for engines without a container.
        mig_instance: GPU instance id, None without MIG.
        debugging: names of variables in its environment that make CUDA trace, profile or wait; never their values.
    """

    pid: int
    memory_bytes: Reading[int] = NOT_READ
    kind: str = "compute"
    name: str | None = None
    container_id: str | None = None
    pod_uid: str | None = None
    pod: str | None = None
    namespace: str | None = None
    container: str | None = None
    unit: str | None = None
    mig_instance: int | None = None
    debugging: tuple[str, ...] = field(default=(), metadata={"later": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """One MIG device. `pod`, `namespace` and `container` name who was given it, where the kubelet says."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: Reading[str] = NOT_READ
    memory_total_bytes: Reading[int] = NOT_READ
    memory_used_bytes: Reading[int] = NOT_READ
    pod: str | None = None
    namespace: str | None = None
    container: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReadings:
    """What is read every few ticks: calls that are slow, or whose answer seldom changes.

    Args:
        margin_celsius: degrees to go until the slowdown limit (nvmlDeviceGetMarginTemperature), Ada and later.
        performance_state: 0 (highest) to 15 (`pstate`).
        unrepairable_memory: nvmlDeviceGetUnrepairableMemoryFlag, Hopper and later.
        retired_pages: pages retired for single- and double-bit errors together, boards before Ampere.
        mig_enabled, mig_pending, ecc_enabled, ecc_pending: current mode, and the mode after the next reset.
    """

    power_limit_watts: Reading[float] = NOT_READ
    fan_ratio: Reading[float] = NOT_READ
    encoder_ratio: Reading[float] = NOT_READ
    decoder_ratio: Reading[float] = NOT_READ
    margin_celsius: Reading[int] = NOT_READ
    performance_state: Reading[int] = NOT_READ
    pcie_generation: Reading[int] = NOT_READ
    pcie_width: Reading[int] = NOT_READ
    pcie_replays: Reading[int] = NOT_READ
    persistence: Reading[bool] = NOT_READ
    ecc_enabled: Reading[bool] = NOT_READ
    ecc_pending: Reading[bool] = NOT_READ
    ecc: EccCounts = EccCounts()
    remapped: RemappedRows = RemappedRows()
    unrepairable_memory: Reading[bool] = NOT_READ
    retired_pages: Reading[int] = NOT_READ
    retired_pending: Reading[bool] = NOT_READ
    inforom_valid: Reading[bool] = NOT_READ
    mig_enabled: Reading[bool] = NOT_READ
    mig_pending: Reading[bool] = NOT_READ
    mig: tuple[MigInstance, ...] = ()
    nvlinks: Reading[tuple[NvLink, ...]] = NOT_READ
    fabric: Reading[FabricState] = NOT_READ
    processes: Reading[tuple[GpuProcess, ...]] = NOT_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSnapshot:
    """One GPU at one moment.

    Args:
        fault: why the GPU as a whole gives no readings (lost, reset required, unknown error, a call that hangs);
            None while it answers. The other fields then hold what was read before the fault.
        fast_at, slow_at: Unix time of the last complete reading of the lane, None before the first.
        pod, namespace, container: whom the kubelet gave the whole GPU to.
    """

    identity: GpuIdentity
    fault: Missing | None = None
    fast_at: float | None = None
    slow_at: float | None = None
    fast: FastReadings = FastReadings()
    slow: SlowReadings = SlowReadings()
    pod: str | None = None
    namespace: str | None = None
    container: str | None = None

    @property
    def label(self) -> str:
        """How people are told which GPU it is: `gpu 5 (GPU-3f1c…)`, or `gpu 5` where it never said who it is."""
        uuid = self.identity.uuid
        known_as = "" if uuid.startswith("unknown-") else f" ({uuid[:12]}…)"
        return f"gpu {self.identity.index}{known_as}"
