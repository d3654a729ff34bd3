"""Every metric of `selfhost monitor --serve`: name, type, help, labels, its reading, dcgm-exporter's name.

One table for the exporter, the alerting rules, the dashboard and the docs. Base units and `_total` counters, as
Prometheus' naming conventions ask. dcgm-exporter's names are of its etc/default-counters.csv (4.5.3-4.8.2, read
2026-11-21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "info"]
GPU_LABELS = ("gpu", "uuid", "pci_address", "model")
# Added to a GPU's labels where the kubelet or the processes' cgroups say whose it is.
OWNER_LABELS = ("namespace", "pod", "container")
ENGINE_LABELS = ("engine", "url", "served_model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dcgm:
    """dcgm-exporter's metric for the same reading: its value is ours times `scale`."""

    name: str
    kind: Kind = "gauge"
    scale: float = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric family.

    Args:
        name: as exported; a counter's ends in `_total`.
        path: dotted path of the reading in a GpuSnapshot (scope gpu), EngineSnapshot (engine) or NodeSnapshot (node);
            None where the exporter computes it.
        factor: what the reading is multiplied by to be in the unit of the name.
        labels: labels besides those of the scope.
    """

    name: str
    kind: Kind
    help: str
    scope: Literal["gpu", "engine", "node"]
    path: str | None = None
    labels: tuple[str, ...] = ()
    dcgm: Dcgm | None = None
    factor: float = 1


def _gpu(
    name: str,
    help_text: str,
    path: str | None,
    *,
    kind: Kind = "gauge",
    labels: tuple[str, ...] = (),
    dcgm: Dcgm | None = None,
    factor: float = 1,
) -> Metric:
    return Metric(
        name=f"selfhost_gpu_{name}",
        kind=kind,
        help=help_text,
        scope="gpu",
        path=path,
        labels=labels,
        dcgm=dcgm,
        factor=factor,
    )


def _engine(
    name: str, help_text: str, path: str | None, *, kind: Kind = "gauge", labels: tuple[str, ...] = ()
) -> Metric:
    return Metric(
        name=f"selfhost_engine_{name}", kind=kind, help=help_text, scope="engine", path=path, labels=labels
    )


def _node(
    name: str, help_text: str, path: str | None = None, *, kind: Kind = "gauge", labels: tuple[str, ...] = ()
) -> Metric:
    return Metric(name=f"selfhost_{name}", kind=kind, help=help_text, scope="node", path=path, labels=labels)


_MIB = 1 / 2**20
_MIG_LABELS = ("mig_uuid", "profile", "instance")

GPU_METRICS: tuple[Metric, ...] = (
    _gpu("up", "1 while the GPU answers, 0 once it is lost, needs a reset or does not answer.", None),
    _gpu(
        "info",
        "Facts about the GPU as labels.",
        None,
        kind="info",
        labels=("serial", "vbios", "architecture", "compute_capability"),
    ),
    _gpu(
        "utilization_ratio",
        "Share of the last sample period with any kernel running.",
        "fast.utilization_ratio",
        dcgm=Dcgm(name="DCGM_FI_DEV_GPU_UTIL", scale=100),
    ),
    _gpu(
        "memory_busy_ratio",
        "Share of time device memory was read or written.",
        "fast.memory_busy_ratio",
        dcgm=Dcgm(name="DCGM_FI_DEV_MEM_COPY_UTIL", scale=100),
    ),
    _gpu("memory_total_bytes", "Device memory.", "identity.memory_total_bytes"),
    _gpu(
        "memory_used_bytes",
        "Device memory in use, without the driver's reserve.",
        "fast.memory_used_bytes",
        dcgm=Dcgm(name="DCGM_FI_DEV_FB_USED", scale=_MIB),
    ),
    _gpu(
        "memory_free_bytes",
        "Device memory that is free.",
        "fast.memory_free_bytes",
        dcgm=Dcgm(name="DCGM_FI_DEV_FB_FREE", scale=_MIB),
    ),
    _gpu(
        "memory_reserved_bytes",
        "Device memory the driver keeps for itself.",
        "fast.memory_reserved_bytes",
        dcgm=Dcgm(name="DCGM_FI_DEV_FB_RESERVED", scale=_MIB),
    ),
    _gpu(
        "temperature_celsius",
        "Temperature of the GPU.",
        "fast.temperature_celsius",
        dcgm=Dcgm(name="DCGM_FI_DEV_GPU_TEMP"),
    ),
    _gpu(
        "memory_temperature_celsius",
        "Temperature of the memory.",
        "fast.memory_temperature_celsius",
        dcgm=Dcgm(name="DCGM_FI_DEV_MEMORY_TEMP"),
    ),
    _gpu("thermal_margin_celsius", "Degrees to go until clocks are cut.", "slow.margin_celsius"),
    _gpu("power_watts", "Power drawn.", "fast.power_watts", dcgm=Dcgm(name="DCGM_FI_DEV_POWER_USAGE")),
    _gpu("power_limit_watts", "Power limit in force.", "slow.power_limit_watts"),
    _gpu(
        "energy_joules_total",
        "Energy used since the driver was loaded.",
        "fast.energy_joules",
        kind="counter",
        dcgm=Dcgm(name="DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", kind="counter", scale=1000),
    ),
    _gpu(
        "sm_clock_hertz",
        "Clock of the multiprocessors.",
        "fast.sm_clock_mhz",
        factor=1e6,
        dcgm=Dcgm(name="DCGM_FI_DEV_SM_CLOCK", scale=1e-6),
    ),
    _gpu(
        "memory_clock_hertz",
        "Clock of the memory.",
        "fast.memory_clock_mhz",
        factor=1e6,
        dcgm=Dcgm(name="DCGM_FI_DEV_MEM_CLOCK", scale=1e-6),
    ),
    _gpu("clock_reason_active", "1 while the reason holds the clocks down.", None, labels=("reason",)),
    _gpu(
        "clock_held_down_seconds_total",
        "Time the reason held the clocks down since the driver was loaded.",
        None,
        kind="counter",
        labels=("reason",),
    ),
    _gpu(
        "sm_activity_ratio",
        "Share of multiprocessor time with work (GPM, Hopper and later).",
        "fast.sm_activity_ratio",
        dcgm=Dcgm(name="DCGM_FI_PROF_SM_ACTIVE"),
    ),
    _gpu(
        "tensor_activity_ratio",
        "Share of time the tensor cores worked (GPM, Hopper and later).",
        "fast.tensor_activity_ratio",
        dcgm=Dcgm(name="DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
    ),
    _gpu(
        "memory_activity_ratio",
        "Share of peak memory bandwidth in use (GPM, Hopper and later).",
        "fast.memory_activity_ratio",
        dcgm=Dcgm(name="DCGM_FI_PROF_DRAM_ACTIVE"),
    ),
    _gpu(
        "graphics_activity_ratio",
        "Share of time any engine for graphics or computation was active (GPM, Hopper and later).",
        "fast.graphics_activity_ratio",
        dcgm=Dcgm(name="DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
    ),
    _gpu(
        "encoder_utilization_ratio",
        "Share of time the video encoder was busy.",
        "slow.encoder_ratio",
        dcgm=Dcgm(name="DCGM_FI_DEV_ENC_UTIL", scale=100),
    ),
    _gpu(
        "decoder_utilization_ratio",
        "Share of time the video decoder was busy.",
        "slow.decoder_ratio",
        dcgm=Dcgm(name="DCGM_FI_DEV_DEC_UTIL", scale=100),
    ),
    _gpu("fan_speed_ratio", "Fan speed, of its most.", "slow.fan_ratio"),
    _gpu("performance_state", "P-state, 0 the highest.", "slow.performance_state"),
    _gpu("pcie_sent_bytes_total", "Bytes sent over PCIe.", "fast.pcie_sent_bytes", kind="counter"),
    _gpu(
        "pcie_received_bytes_total", "Bytes received over PCIe.", "fast.pcie_received_bytes", kind="counter"
    ),
    _gpu("pcie_link_generation", "PCIe generation in use; drops when idle.", "slow.pcie_generation"),
    _gpu(
        "pcie_link_generation_max",
        "Highest PCIe generation of this GPU in this slot.",
        "identity.pcie_max_generation",
    ),
    _gpu("pcie_link_lanes", "PCIe lanes in use.", "slow.pcie_width"),
    _gpu("pcie_link_lanes_max", "Most PCIe lanes of this GPU in this slot.", "identity.pcie_max_width"),
    _gpu(
        "pcie_replays_total",
        "PCIe packets that had to be sent again.",
        "slow.pcie_replays",
        kind="counter",
        dcgm=Dcgm(name="DCGM_FI_DEV_PCIE_REPLAY_COUNTER", kind="counter"),
    ),
    _gpu("nvlink_sent_bytes_total", "Bytes sent over all NVLinks.", "fast.nvlink_sent_bytes", kind="counter"),
    _gpu(
        "nvlink_received_bytes_total",
        "Bytes received over all NVLinks.",
        "fast.nvlink_received_bytes",
        kind="counter",
    ),
    _gpu("nvlink_up", "1 while the link is up.", None, labels=("link",)),
    _gpu("nvlink_errors_total", "NVLink errors of the kind.", None, kind="counter", labels=("link", "kind")),
    _gpu("ecc_errors_total", "ECC errors since driver load.", None, kind="counter", labels=("kind",)),
    _gpu("ecc_enabled", "1 where ECC is on.", "slow.ecc_enabled"),
    _gpu(
        "remapped_rows_corrected_total",
        "Rows remapped for errors that could be corrected.",
        "slow.remapped.corrected",
        kind="counter",
        dcgm=Dcgm(name="DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", kind="counter"),
    ),
    _gpu(
        "remapped_rows_uncorrected_total",
        "Rows remapped for errors that could not be corrected.",
        "slow.remapped.uncorrected",
        kind="counter",
        dcgm=Dcgm(name="DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", kind="counter"),
    ),
    _gpu("row_remap_pending", "1 while a remapping waits for a reset.", "slow.remapped.pending"),
    _gpu(
        "row_remap_failed",
        "1 once a row could not be remapped.",
        "slow.remapped.failed",
        dcgm=Dcgm(name="DCGM_FI_DEV_ROW_REMAP_FAILURE"),
    ),
    _gpu(
        "recovery_action",
        "What the driver asks for: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.",
        "fast.recovery_action",
    ),
    _gpu("xid_errors_total", "Xid errors seen by this exporter.", None, kind="counter", labels=("xid",)),
    _gpu("persistence_enabled", "1 where persistence mode is on.", "slow.persistence"),
    _gpu("mig_enabled", "1 where the GPU is divided into MIG instances.", "slow.mig_enabled"),
    _gpu("mig_memory_total_bytes", "Memory of a MIG instance.", None, labels=_MIG_LABELS),
    _gpu("mig_memory_used_bytes", "Memory in use in a MIG instance.", None, labels=_MIG_LABELS),
    _gpu("process_memory_bytes", "Device memory of a process.", None, labels=("pid", "process")),
)

ENGINE_METRICS: tuple[Metric, ...] = (
    _engine("up", "1 while the engine's metrics can be read.", None),
    _engine("healthy", "1 while the engine's health path answers 200.", None),
    _engine("gpus", "GPUs that the engine was joined with.", None),
    _engine("wedged", "1 when requests wait, no token comes, and the GPUs are busy with nothing.", None),
    _engine("requests_running", "Requests being computed.", "running"),
    _engine("requests_waiting", "Requests in the queue.", "waiting"),
    _engine("kv_usage_ratio", "Share of the KV cache in use.", "kv_usage_ratio"),
    _engine("prompt_tokens_total", "Prompt tokens computed.", "prompt_tokens", kind="counter"),
    _engine("generation_tokens_total", "Tokens generated.", "generation_tokens", kind="counter"),
    _engine("preemptions_total", "Requests put back for want of KV cache.", "preemptions", kind="counter"),
    _engine(
        "memory_predicted_bytes",
        "What plan.json predicted for the term, on the fullest GPU.",
        None,
        labels=("term",),
    ),
    _engine("memory_actual_bytes", "What was seen of the term, on the fullest GPU.", None, labels=("term",)),
)

NODE_METRICS: tuple[Metric, ...] = (
    _node("build_info", "Version of selfhost.", kind="info", labels=("version",)),
    _node(
        "driver_info",
        "Versions of driver, NVML and CUDA.",
        kind="info",
        labels=("driver_version", "nvml_version", "cuda_version"),
    ),
    _node("nvml_up", "1 while NVML can be used and answers."),
    _node("nvml_poll_seconds", "How long the last complete poll took."),
    _node("nvml_poll_age_seconds", "How long ago the last complete poll ended."),
    _node(
        "nvml_failed_calls_total",
        "NVML calls that failed for another reason than an absent reading.",
        "nvml.failed_calls",
        kind="counter",
    ),
    _node("gpus", "GPUs that NVML counts.", "device_count"),
    _node("gpus_expected", "GPUs that the baseline expects."),
    _node(
        "check_level",
        "Verdict of a check: 0 ok, 1 warn, 2 critical, 3 unknown; skipped checks are absent.",
        labels=("code", "gpu"),
    ),
    _node("health_level", "Verdict of the node: 0 ok, 1 warn, 2 critical, 3 unknown."),
)

METRICS: tuple[Metric, ...] = GPU_METRICS + ENGINE_METRICS + NODE_METRICS
# Values of the label `reason`: bits of the mask of clock event reasons (nvml.h r615), named as dcgm-exporter names
# those it knows (transformation/clockevents, read 2026-11-21), with the two bits of CUDA 13 that it does not.
CLOCK_REASONS: dict[int, str] = {
    0x1: "gpu_idle",
    0x2: "clocks_setting",
    0x4: "power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
# … and of how long each held the clocks down: the fields of BootTotals.
HELD_DOWN_REASONS: dict[str, str] = {
    "power_cap": "power_cap_seconds",
    "thermal": "thermal_seconds",
    "sync_boost": "sync_boost_seconds",
    "board_limit": "board_limit_seconds",
    "low_utilization": "low_utilization_seconds",
    "reliability": "reliability_seconds",
    "sw_thermal": "sw_thermal_seconds",
    "hw_thermal": "hw_thermal_seconds",
    "hw_power_brake": "power_brake_seconds",
}
ECC_KINDS: dict[str, str] = {"corrected": "volatile_corrected", "uncorrected": "volatile_uncorrected"}
NVLINK_KINDS: dict[str, str] = {"crc": "crc_errors", "replay": "replay_errors", "recovery": "recovery_errors"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DcgmOnly:
    """What dcgm-exporter has under one name and we under a label: its value is the reading times `scale`.

    Args:
        path: of the reading in a GpuSnapshot; None where the exporter computes it.
    """

    name: str
    kind: Kind
    path: str | None
    scale: float = 1


# Names of dcgm-exporter's default list and of the opt-in part of it that this exporter has readings for. Not among them
# is DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL: declared a counter, it is a rate. Violations are in nanoseconds.
DCGM_ONLY: tuple[DcgmOnly, ...] = (
    DcgmOnly(name="DCGM_FI_DEV_XID_ERRORS", kind="gauge", path=None),
    DcgmOnly(name="DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", kind="counter", path="slow.ecc.volatile_corrected"),
    DcgmOnly(name="DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", kind="counter", path="slow.ecc.volatile_uncorrected"),
    DcgmOnly(name="DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", kind="counter", path="slow.ecc.aggregate_corrected"),
    DcgmOnly(name="DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", kind="counter", path="slow.ecc.aggregate_uncorrected"),
    DcgmOnly(name="DCGM_FI_PROF_PCIE_TX_BYTES", kind="gauge", path="fast.pcie_sent_bytes_per_second"),
    DcgmOnly(name="DCGM_FI_PROF_PCIE_RX_BYTES", kind="gauge", path="fast.pcie_received_bytes_per_second"),
    DcgmOnly(name="DCGM_FI_DEV_RETIRED_PENDING", kind="counter", path="slow.retired_pending"),
    *(
        DcgmOnly(
            name=f"DCGM_FI_DEV_{name}_VIOLATION", kind="counter", path=f"fast.held_down.{field}", scale=1e9
        )
        for name, field in zip(
            ("POWER", "THERMAL", "SYNC_BOOST", "BOARD_LIMIT", "LOW_UTIL", "RELIABILITY"),
            tuple(HELD_DOWN_REASONS.values())[:6],
            strict=True,
        )
    ),
)
DCGM_LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "hostname")


def metric_names(*, dcgm: bool = False) -> frozenset[str]:
    """Every sample name that the exporter can emit."""
    names = {metric.name for metric in METRICS}
    if dcgm:
        names |= {metric.dcgm.name for metric in METRICS if metric.dcgm} | {one.name for one in DCGM_ONLY}
    return frozenset(names)
