"""Every question by lane, and the functions that answer it, newest first; each names its column of nvidia-smi.

Names, signatures and units: nvml.h r615 as nvidia-ml-py 13.615.71 binds it; deprecations: NVIDIA's list of CUDA 13
(https://docs.nvidia.com/deploy/nvml-api/api/deprecated.html). Both read 2026-11-21.
"""

from __future__ import annotations

from ctypes import c_int, c_uint, c_ulonglong
from typing import Any

from selfhost.nvml import structs, values
from selfhost.nvml.fields import ALL_LINKS
from selfhost.nvml.question import Question, Way
from selfhost.observation import FabricState, Missing, Reading
from selfhost.observation.reading import FUNCTION_NOT_FOUND

# total, reserved, free, used
MemoryFigures = tuple[int, Reading[int], int, int]

RESERVED_FOLDED = Missing(
    missing="this driver counts its reserve in the memory used (before version 2 of the call, driver 510)",
    code=FUNCTION_NOT_FOUND,
)
OLD_FABRIC = Missing(missing="the driver's version of the fabric's state lacks it", code=FUNCTION_NOT_FOUND)


def _figures(total: int, reserved: Reading[int], free: int, used: int) -> Reading[MemoryFigures]:
    if total == 0:
        return Missing(missing="NVML gives no memory of the board's own")
    if total >= values.BLANK_64 or used > total or free > total:
        return values.impossible(f"{used} of {total} bytes used, {free} free")
    return total, reserved, free, used


def _memory_v2(memory: Any) -> Reading[MemoryFigures]:
    """nvml.h (r615) says both that the reserve is part of `used` and that it is not: the sum tells which holds."""
    total, reserved, free, used = memory.total, memory.reserved, memory.free, memory.used
    if reserved > total:
        return _figures(total, values.impossible(reserved), free, used)
    folded = free + used == total and reserved <= used
    return _figures(total, reserved, free, used - reserved if folded else used)


def _memory_v1(memory: Any) -> Reading[MemoryFigures]:
    return _figures(memory.total, RESERVED_FOLDED, memory.free, memory.used)


# memory.total, memory.reserved, memory.free, memory.used
MEMORY: Question[MemoryFigures] = Question(
    (
        Way("nvmlDeviceGetMemoryInfo_v2", (structs.MemoryV2,), _memory_v2, version=structs.MEMORY_V2),
        Way("nvmlDeviceGetMemoryInfo", (structs.Memory,), _memory_v1),
    )
)
# utilization.gpu, utilization.memory
UTILIZATION: Question[tuple[Reading[float], Reading[float]]] = Question(
    (
        Way(
            "nvmlDeviceGetUtilizationRates",
            (structs.Utilization,),
            lambda rates: (values.percent(rates.gpu), values.percent(rates.memory)),
        ),
    )
)
# temperature.gpu
TEMPERATURE: Question[int] = Question(
    (
        Way(
            "nvmlDeviceGetTemperatureV",
            (structs.Temperature,),
            lambda sensor: values.celsius(sensor.temperature),
            version=structs.TEMPERATURE_V1,
        ),
        Way("nvmlDeviceGetTemperature", (c_uint,), lambda output: values.celsius(output.value), inputs=(0,)),
    )
)
POWER = values.uint("nvmlDeviceGetPowerUsage", convert=values.watts)  # power.draw
ENERGY = values.ulong(
    "nvmlDeviceGetTotalEnergyConsumption"
)  # no column; millijoules since the driver was loaded
SM_CLOCK = values.uint("nvmlDeviceGetClockInfo", inputs=(1,))  # clocks.sm
MEMORY_CLOCK = values.uint("nvmlDeviceGetClockInfo", inputs=(2,))  # clocks.mem
# clocks_event_reasons.active, formerly clocks_throttle_reasons.active
CLOCK_REASONS = values.ulong(
    "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
)

FAST_FIELDS = {
    "memory_temperature": (82, 0),  # temperature.memory
    "energy": (83, 0),  # mJ
    "power_instant": (186, 0),  # power.draw.instant, mW
    "recovery_action": (230, 0),  # gpu_recovery_action
    "nvlink_sent": (138, ALL_LINKS),  # KiB, as the next
    "nvlink_received": (139, ALL_LINKS),
    "pcie_sent": (197, 0),  # bytes, as the next
    "pcie_received": (198, 0),
    # clocks_event_reasons_counters.*, ns
    "power_cap": (74, 0),
    "thermal": (75, 0),
    "sync_boost": (76, 0),
    "board_limit": (77, 0),
    "low_utilization": (78, 0),
    "reliability": (79, 0),
    "sw_thermal": (269, 0),
    "hw_thermal": (270, 0),
    "power_brake": (271, 0),
}

NAME = values.text("nvmlDeviceGetName", 96)  # name
UUID = values.text("nvmlDeviceGetUUID", 96)  # uuid
SERIAL = values.text("nvmlDeviceGetSerial", 30)  # serial
VBIOS = values.text("nvmlDeviceGetVbiosVersion", 32)  # vbios_version
MINOR = values.uint("nvmlDeviceGetMinorNumber")
ARCHITECTURE = values.uint("nvmlDeviceGetArchitecture")
# compute_cap
COMPUTE_CAPABILITY: Question[str] = Question(
    (
        Way(
            "nvmlDeviceGetCudaComputeCapability",
            (c_int, c_int),
            lambda major, minor: f"{major.value}.{minor.value}",
        ),
    )
)


def _pci_address(pci: Any) -> Reading[str]:
    """domain:bus:device.function with a domain of eight digits."""
    address = (pci.address or pci.legacy).decode("ascii", "replace")
    domain, separator, rest = address.partition(":")
    return f"{domain:0>8}:{rest}" if separator else values.impossible(repr(address))


# pci.bus_id
PCI_ADDRESS: Question[str] = Question(
    tuple(
        Way(symbol, (structs.Pci,), _pci_address)
        for symbol in ("nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo")
    )
)
PCIE_MAX_GENERATION = values.uint("nvmlDeviceGetMaxPcieLinkGeneration")  # pcie.link.gen.max
PCIE_MAX_WIDTH = values.uint("nvmlDeviceGetMaxPcieLinkWidth")  # pcie.link.width.max
PCIE_DEVICE_GENERATION = values.uint("nvmlDeviceGetGpuMaxPcieLinkGeneration")  # pcie.link.gen.gpumax
SM_CLOCK_MAX = values.uint("nvmlDeviceGetMaxClockInfo", inputs=(1,))  # clocks.max.sm
POWER_LIMIT_DEFAULT = values.uint(
    "nvmlDeviceGetPowerManagementDefaultLimit", convert=values.watts
)  # power.default_limit
# nvmlTemperatureThresholds_t 0 to 3; boards before Ada
THRESHOLDS = {
    name: values.uint("nvmlDeviceGetTemperatureThreshold", convert=values.celsius, inputs=(kind,))
    for kind, name in enumerate(("shutdown", "slowdown", "memory_max", "gpu_max"))
}
GPM_SUPPORT: Question[bool] = Question(
    (
        Way(
            "nvmlGpmQueryDeviceSupport",
            (structs.Versioned,),
            lambda support: support.value == 1,
            version=structs.GPM_V1,
        ),
    )
)
STATIC_FIELDS = {
    "nvlink_count": (91, 0),
    "margin_shutdown": (193, 0),
    "margin_slowdown": (194, 0),
    "margin_memory_max": (195, 0),
    "margin_gpu_max": (196, 0),
}

# enforced.power.limit, else power.limit
POWER_LIMIT = values.uint(
    "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit", convert=values.watts
)
FAN = values.uint("nvmlDeviceGetFanSpeed", convert=values.fan_percent)  # fan.speed


def _sampled(symbol: str) -> Question[float]:
    return Question((Way(symbol, (c_uint, c_uint), lambda ratio, _period: values.percent(ratio.value)),))


ENCODER = _sampled("nvmlDeviceGetEncoderUtilization")  # utilization.encoder
DECODER = _sampled("nvmlDeviceGetDecoderUtilization")  # utilization.decoder
# temperature.gpu.tlimit
MARGIN: Question[int] = Question(
    (
        Way(
            "nvmlDeviceGetMarginTemperature",
            (structs.Versioned,),
            lambda margin: values.margin_celsius(margin.value),
            version=structs.VERSIONED_V1,
        ),
    )
)
# pstate; 32 stands for unknown
PERFORMANCE_STATE = values.uint(
    "nvmlDeviceGetPerformanceState", convert=lambda state: state if state < 16 else values.impossible(state)
)
PCIE_GENERATION = values.uint("nvmlDeviceGetCurrPcieLinkGeneration")  # pcie.link.gen.gpucurrent
PCIE_WIDTH = values.uint("nvmlDeviceGetCurrPcieLinkWidth")  # pcie.link.width.current
PCIE_REPLAYS = values.uint("nvmlDeviceGetPcieReplayCounter")
PERSISTENCE = values.uint("nvmlDeviceGetPersistenceMode", convert=values.flag)  # persistence_mode


def _two_flags(symbol: str) -> Question[tuple[Reading[bool], Reading[bool]]]:
    return Question(
        (
            Way(
                symbol,
                (c_uint, c_uint),
                lambda now, later: (values.flag(now.value), values.flag(later.value)),
            ),
        )
    )


ECC_MODE = _two_flags("nvmlDeviceGetEccMode")  # ecc.mode.current, ecc.mode.pending
MIG_MODE = _two_flags("nvmlDeviceGetMigMode")  # mig.mode.current, mig.mode.pending
# ecc.errors.{corrected,uncorrected}.{volatile,aggregate}.total
ECC_TOTALS = {
    f"{counter}_{kind}": values.ulong("nvmlDeviceGetTotalEccErrors", inputs=(error, scope))
    for error, kind in enumerate(("corrected", "uncorrected"))
    for scope, counter in enumerate(("volatile", "aggregate"))
}
# uncorrected errors of SRAM since the driver was loaded, and whether their threshold is passed
SRAM: Question[tuple[Reading[int], Reading[bool]]] = Question(
    (
        Way(
            "nvmlDeviceGetSramEccErrorStatus",
            (structs.SramErrors,),
            lambda errors: (
                values.count64(errors.volatile_parity + errors.volatile_secded),
                values.flag(errors.threshold_exceeded),
            ),
            version=structs.SRAM_V1,
        ),
    )
)
# ecc.errors.uncorrected.volatile.sram: uncorrected 1, volatile 0, NVML_MEMORY_LOCATION_SRAM 7
SRAM_COUNTER = values.ulong("nvmlDeviceGetMemoryErrorCounter", inputs=(1, 0, 7))
# remapped_rows.correctable, .uncorrectable, .pending, .failure
REMAPPED: Question[tuple[int, int, Reading[bool], Reading[bool]]] = Question(
    (
        Way(
            "nvmlDeviceGetRemappedRows",
            (c_uint, c_uint, c_uint, c_uint),
            lambda corrected, uncorrected, pending, failed: (
                corrected.value,
                uncorrected.value,
                values.flag(pending.value),
                values.flag(failed.value),
            ),
        ),
    )
)
# remapped_rows.histogram.none
REMAPPER_HISTOGRAM: Question[int] = Question(
    (
        Way(
            "nvmlDeviceGetRowRemapperHistogram",
            (structs.RemapperHistogram,),
            lambda banks: values.count32(banks.none),
        ),
    )
)
UNREPAIRABLE: Question[bool] = Question(
    (
        Way(
            "nvmlDeviceGetUnrepairableMemoryFlag_v1",
            (structs.Versioned,),
            lambda status: values.flag(status.value),
            version=structs.VERSIONED_V1,
        ),
    )
)
RETIRED_PENDING = values.uint(
    "nvmlDeviceGetRetiredPagesPendingStatus", convert=values.flag
)  # retired_pages.pending


def _fabric(
    fabric: Any, *, mask: Reading[int] = OLD_FABRIC, summary: Reading[int] = OLD_FABRIC
) -> FabricState:
    return FabricState(state=fabric.state, status=fabric.status, health_mask=mask, summary=summary)


# fabric.state, fabric.status
FABRIC: Question[FabricState] = Question(
    (
        Way(
            "nvmlDeviceGetGpuFabricInfoV",
            (structs.FabricV3,),
            lambda fabric: _fabric(fabric, mask=fabric.health_mask, summary=fabric.summary),
            version=structs.FABRIC_V3,
        ),
        Way(
            "nvmlDeviceGetGpuFabricInfoV",
            (structs.FabricV2,),
            lambda fabric: _fabric(fabric, mask=fabric.health_mask),
            version=structs.FABRIC_V2,
        ),
        Way("nvmlDeviceGetGpuFabricInfo", (structs.Fabric,), _fabric),
    )
)
SLOW_FIELDS = {
    "volatile_corrected": (3, 0),
    "volatile_uncorrected": (4, 0),
    "aggregate_corrected": (5, 0),
    "aggregate_uncorrected": (6, 0),
    "retired_single": (29, 0),
    "retired_double": (30, 0),
    "retired_pending": (31, 0),
    "pcie_replays": (94, 0),
    "remapped_corrected": (142, 0),
    "remapped_uncorrected": (143, 0),
    "remapped_pending": (144, 0),
    "remapped_failed": (145, 0),
    # The bank remapper of Blackwell: groups of banks with no spare left, and whether a remapping waits for a reset.
    "banks_without_spares": (306, 0),
    "bank_pending": (307, 0),
}

GPU_INSTANCE = values.uint("nvmlDeviceGetGpuInstanceId")
COMPUTE_INSTANCE = values.uint("nvmlDeviceGetComputeInstanceId")
MIG_DEVICES_MAX = values.uint("nvmlDeviceGetMaxMigDeviceCount")
# GPU and compute slices, memory in MiB
MIG_ATTRIBUTES: Question[tuple[int, int, int]] = Question(
    (
        Way(
            "nvmlDeviceGetAttributes_v2",
            (structs.Attributes,),
            lambda attributes: (attributes.gpu_slices, attributes.compute_slices, attributes.memory_mb),
        ),
    )
)
EVENT_TYPES: Question[int] = Question(
    (Way("nvmlDeviceGetSupportedEventTypes", (c_ulonglong,), lambda output: int(output.value)),)
)
