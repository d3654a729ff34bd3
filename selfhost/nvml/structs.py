"""NVML's structs as this package reads them: own declarations, so that the release of nvidia-ml-py does not matter.

Layouts and version words are those of nvml.h r615. `tests/test_nvml.py` holds their sizes against pynvml's. A version
word is the size of the struct with the version in its top byte.
"""

from __future__ import annotations

from ctypes import (
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_uint,
    c_uint8,
    c_uint32,
    c_ulonglong,
    c_void_p,
)


def _version(struct: type[Structure], version: int) -> int:
    from ctypes import sizeof

    return sizeof(struct) | version << 24


class Memory(Structure):
    """nvmlMemory_t: the driver's reserve is part of `used`."""

    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class MemoryV2(Structure):
    """nvmlMemory_v2_t (driver 510 and later)."""

    _fields_ = (
        ("version", c_uint),
        ("total", c_ulonglong),
        ("reserved", c_ulonglong),
        ("free", c_ulonglong),
        ("used", c_ulonglong),
    )


class Utilization(Structure):
    """nvmlUtilization_t, percent."""

    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class Temperature(Structure):
    """nvmlTemperature_v1_t; sensor 0 is the GPU's."""

    _fields_ = (("version", c_uint), ("sensor", c_uint), ("temperature", c_int))


class Versioned(Structure):
    """Structs of a version word and one value: margin temperature (signed), unrepairable memory, GPM support."""

    _fields_ = (("version", c_uint), ("value", c_int))


class Pci(Structure):
    """nvmlPciInfo_t; older functions fill the legacy address alone."""

    _fields_ = (
        ("legacy", c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("device_id", c_uint),
        ("subsystem_id", c_uint),
        ("address", c_char * 32),
    )


class FieldValue(Structure):
    """nvmlFieldValue_t; the union is read as eight bytes."""

    _fields_ = (
        ("field", c_uint32),
        ("scope", c_uint32),
        ("timestamp", c_int64),
        ("latency", c_int64),
        ("type", c_uint),
        ("code", c_uint),
        ("raw", c_ulonglong),
    )


class Process(Structure):
    """nvmlProcessInfo_v2_t, which the functions ending in _v2 and _v3 fill."""

    _fields_ = (
        ("pid", c_uint),
        ("memory", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class ProcessWithProtected(Structure):
    """What the _v3 functions filled in drivers 535.43 to 535.86, before it was taken back."""

    _fields_ = (*Process._fields_, ("protected", c_ulonglong))


class ProcessV1(Structure):
    """nvmlProcessInfo_v1_t, of the functions without a suffix."""

    _fields_ = (("pid", c_uint), ("memory", c_ulonglong))


class Fabric(Structure):
    """nvmlGpuFabricInfo_t, the first version."""

    _fields_ = (("cluster", c_uint8 * 16), ("status", c_uint), ("clique", c_uint32), ("state", c_uint))


class FabricV2(Structure):
    """nvmlGpuFabricInfo_v2_t."""

    _fields_ = (
        ("version", c_uint),
        ("cluster", c_uint8 * 16),
        ("status", c_uint),
        ("clique", c_uint32),
        ("state", c_uint),
        ("health_mask", c_uint32),
    )


class FabricV3(Structure):
    """nvmlGpuFabricInfo_v3_t."""

    _fields_ = (*FabricV2._fields_, ("summary", c_uint8))


class RemapperHistogram(Structure):
    """nvmlRowRemapperHistogramValues_t: banks by how many spare rows are left."""

    _fields_ = (("max", c_uint), ("high", c_uint), ("partial", c_uint), ("low", c_uint), ("none", c_uint))


class SramErrors(Structure):
    """nvmlEccSramErrorStatus_v1_t."""

    _fields_ = (
        ("version", c_uint),
        ("aggregate_parity", c_ulonglong),
        ("aggregate_secded", c_ulonglong),
        ("aggregate_corrected", c_ulonglong),
        ("volatile_parity", c_ulonglong),
        ("volatile_secded", c_ulonglong),
        ("volatile_corrected", c_ulonglong),
        ("buckets", c_ulonglong * 5),
        ("threshold_exceeded", c_uint),
    )


class EventData(Structure):
    """nvmlEventData_t; the first version of it lacks the last two."""

    _fields_ = (
        ("device", c_void_p),
        ("type", c_ulonglong),
        ("data", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class GpmMetric(Structure):
    """nvmlGpmMetric_t, with the three strings of its description."""

    _fields_ = (
        ("metric", c_uint),
        ("code", c_uint),
        ("value", c_double),
        ("short_name", c_char_p),
        ("long_name", c_char_p),
        ("unit", c_char_p),
    )


# NVML_GPM_METRIC_MAX of r615. The library fills the first `count` entries alone; the struct is there as a whole.
GPM_METRIC_MAX = 477


class GpmMetrics(Structure):
    """nvmlGpmMetricsGet_t."""

    _fields_ = (
        ("version", c_uint),
        ("count", c_uint),
        ("sample1", c_void_p),
        ("sample2", c_void_p),
        ("metrics", GpmMetric * GPM_METRIC_MAX),
    )


class Attributes(Structure):
    """nvmlDeviceAttributes_t of a MIG device."""

    _fields_ = (
        ("multiprocessors", c_uint),
        ("copy_engines", c_uint),
        ("decoders", c_uint),
        ("encoders", c_uint),
        ("jpegs", c_uint),
        ("flow_engines", c_uint),
        ("gpu_slices", c_uint),
        ("compute_slices", c_uint),
        ("memory_mb", c_ulonglong),
    )


MEMORY_V2 = _version(MemoryV2, 2)
TEMPERATURE_V1 = _version(Temperature, 1)
VERSIONED_V1 = _version(Versioned, 1)
FABRIC_V2 = _version(FabricV2, 2)
FABRIC_V3 = _version(FabricV3, 3)
SRAM_V1 = _version(SramErrors, 1)
# GPM's structs are older than that convention and carry a bare 1.
GPM_V1 = 1
