/* Types of NVML's binary interface, declared here from what bindings of it use (nvidia-ml-py 13.615.71, read on
 * 2026-11-26); NVIDIA's header is neither needed nor copied. Sizes are asserted here and compared with ctypes in
 * tests/test_fake_nvml.py. */
#ifndef FAKE_NVML_ABI_H
#define FAKE_NVML_ABI_H

#include <assert.h>
#include <stdint.h>

typedef int nvmlReturn_t;

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
    MEMORY = 20,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

/* A versioned struct carries its size in the low three bytes and its version in the high one. */
#define VERSIONED(type, version) ((uint32_t)sizeof(type) | ((uint32_t)(version) << 24))

typedef struct { uint64_t total, free, used; } Memory;
typedef struct { uint32_t version; uint64_t total, reserved, free, used; } MemoryV2;
typedef struct { uint64_t total, free, used; } Bar1Memory;
typedef struct { uint64_t protected_kib, unprotected_kib; } ProtectedMemory;
typedef struct { uint32_t gpu, memory; } Utilization;
typedef struct { uint32_t pid; uint64_t used; } ProcessV1;
typedef struct { uint32_t pid; uint64_t used; uint32_t gpu_instance, compute_instance; } Process;
typedef struct { uint32_t pid; uint64_t used; uint32_t gpu_instance, compute_instance; uint64_t protected_used; }
    ProcessDetail;
typedef struct { uint32_t version, mode, count; ProcessDetail *processes; } ProcessDetailList;
typedef struct { uint32_t pid; uint64_t timestamp; uint32_t sm, memory, encoder, decoder; } ProcessSample;
typedef struct { uint64_t timestamp; uint32_t pid, sm, memory, encoder, decoder, jpg, ofa; } ProcessUsage;
typedef struct { uint32_t version, count; uint64_t since; ProcessUsage *samples; } ProcessUsageList;
typedef union {
    double real;
    uint32_t u32;
    unsigned long ulong;
    uint64_t u64;
    int64_t i64;
    int32_t i32;
    uint16_t u16;
} AnyValue;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency_us;
    uint32_t type;
    nvmlReturn_t result;
    AnyValue value;
} FieldValue;
typedef struct {
    char bus_id_legacy[16];
    uint32_t domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} PciInfo;
typedef struct {
    char bus_id_legacy[16];
    uint32_t domain, bus, device, device_id, subsystem_id, reserved[4];
} PciInfoV1;
typedef struct {
    uint32_t version, domain, bus, device, device_id, subsystem_id, base_class, sub_class;
    char bus_id[32];
} PciInfoExt;
typedef struct { uint32_t version, sensor; int32_t celsius; } Temperature;
typedef struct { uint32_t version; int32_t celsius; } MarginTemperature;
typedef struct { void *device; uint64_t type, data; uint32_t gpu_instance, compute_instance; } EventData;
typedef struct { void *device; uint64_t type, data; } EventDataV1;
typedef struct {
    uint32_t multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    uint64_t memory_mib;
} Attributes;
typedef struct { uint32_t max, high, partial, low, none; } RemapHistogram;
typedef struct {
    uint32_t corrected, corrected_inactive, uncorrected, uncorrected_inactive, pending, failure;
} RemappedRowsV2;
typedef struct { uint8_t cluster[16]; nvmlReturn_t status; uint32_t clique, state; } FabricInfo;
typedef struct {
    uint32_t version;
    uint8_t cluster[16];
    nvmlReturn_t status;
    uint32_t clique, state, health_mask;
} FabricInfoV2;
typedef struct {
    uint32_t version;
    uint8_t cluster[16];
    nvmlReturn_t status;
    uint32_t clique, state, health_mask;
    uint8_t summary;
} FabricInfoV3;
typedef struct { char *short_name, *long_name, *unit; } GpmMetricInfo;
typedef struct { uint32_t id; nvmlReturn_t result; double value; GpmMetricInfo info; } GpmMetric;
typedef struct {
    uint32_t version, count;
    void *earlier, *later;
    GpmMetric metrics[];
} GpmMetrics;
typedef struct { uint32_t version, supported; } GpmSupport;
typedef struct {
    uint32_t version;
    uint64_t aggregate_parity, aggregate_secded, aggregate_corrected;
    uint64_t volatile_parity, volatile_secded, volatile_corrected;
    uint64_t bucket_l2, bucket_sm, bucket_pcie, bucket_mcu, bucket_other;
    uint32_t threshold_exceeded;
} SramErrors;
typedef struct { uint64_t l1, l2, memory, registers; } EccCounts;
typedef struct { uint32_t version, flag; } Flag; /* unrepairable memory, addressing mode, capabilities, … */
typedef struct { uint32_t version, fan, speed; } FanSpeed;
typedef struct { uint32_t version, channel_pending, tpc_pending; } RepairStatus;
typedef struct { uint64_t reference, violation; } Violation;
typedef struct { uint32_t version, type; union { char text[41]; unsigned char bytes[16]; } value; } Uuid;
typedef struct { uint32_t version; char branch[80]; } DriverBranch;

static_assert(sizeof(Memory) == 24 && sizeof(MemoryV2) == 40 && sizeof(Bar1Memory) == 24, "memory");
static_assert(sizeof(Utilization) == 8 && sizeof(Temperature) == 12 && sizeof(MarginTemperature) == 8, "readings");
static_assert(sizeof(ProcessV1) == 16 && sizeof(Process) == 24 && sizeof(ProcessDetail) == 32, "processes");
static_assert(sizeof(ProcessDetailList) == 24 && sizeof(ProcessSample) == 32, "lists of processes");
static_assert(sizeof(ProcessUsage) == 40 && sizeof(ProcessUsageList) == 24, "use by processes");
static_assert(sizeof(AnyValue) == 8 && sizeof(FieldValue) == 40, "fields");
static_assert(sizeof(PciInfo) == 68 && sizeof(PciInfoV1) == 52 && sizeof(PciInfoExt) == 64, "PCI");
static_assert(sizeof(EventData) == 32 && sizeof(EventDataV1) == 24, "events");
static_assert(sizeof(Attributes) == 40 && sizeof(RemapHistogram) == 20 && sizeof(RemappedRowsV2) == 24, "memory health");
static_assert(sizeof(FabricInfo) == 28 && sizeof(FabricInfoV2) == 36 && sizeof(FabricInfoV3) == 40, "fabric");
static_assert(sizeof(GpmMetric) == 40 && sizeof(GpmMetrics) == 24 && sizeof(GpmSupport) == 8, "GPM");
static_assert(sizeof(SramErrors) == 104 && sizeof(EccCounts) == 32 && sizeof(Violation) == 16, "errors");
static_assert(sizeof(Uuid) == 52 && sizeof(DriverBranch) == 84 && sizeof(FanSpeed) == 12, "names");

#endif
