/* What changes: utilization, memory, clocks, power, temperatures, and the batch of fields. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fake.h"

#define NUMBER(name, key)                                                                                             \
    API name(nvmlDevice_t device, uint32_t *number) {                                                                 \
        BEGIN_DEVICE(name, device);                                                                                   \
        return leave(get_u32(device, key, number));                                                                     \
    }
#define COUNTER(name, key)                                                                                            \
    API name(nvmlDevice_t device, uint64_t *number) {                                                                 \
        BEGIN_DEVICE(name, device);                                                                                   \
        return leave(get_u64(device, key, number));                                                                     \
    }
#define PAIR(name, first, second)                                                                                     \
    API name(nvmlDevice_t device, uint32_t *one, uint32_t *two) {                                                     \
        BEGIN_DEVICE(name, device);                                                                                   \
        nvmlReturn_t result = get_u32(device, first, one);                                                            \
        return leave(result == SUCCESS ? get_u32(device, second, two) : result);                                        \
    }

NUMBER(nvmlDeviceGetPowerUsage, "power.usage")
NUMBER(nvmlDeviceGetPowerManagementLimit, "power.limit")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "power.default")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power.enforced")
NUMBER(nvmlDeviceGetPowerManagementMode, "power.management")
NUMBER(nvmlDeviceGetPerformanceState, "performance_state")
NUMBER(nvmlDeviceGetPowerState, "performance_state")
NUMBER(nvmlDeviceGetPersistenceMode, "persistence")
NUMBER(nvmlDeviceGetComputeMode, "compute_mode")
NUMBER(nvmlDeviceGetDisplayMode, "display.mode")
NUMBER(nvmlDeviceGetDisplayActive, "display.active")
NUMBER(nvmlDeviceGetFanSpeed, "fan.speed")
NUMBER(nvmlDeviceGetNumFans, "fan.count")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie.generation")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie.width")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie.max_generation")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "pcie.max_width")
NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie.device_generation")
NUMBER(nvmlDeviceGetPcieReplayCounter, "pcie.replays")
NUMBER(nvmlDeviceGetPcieSpeed, "pcie.speed")
NUMBER(nvmlDeviceGetPcieLinkMaxSpeed, "pcie.max_speed")
COUNTER(nvmlDeviceGetTotalEnergyConsumption, "energy")
COUNTER(nvmlDeviceGetCurrentClocksEventReasons, "clock.reasons")
COUNTER(nvmlDeviceGetCurrentClocksThrottleReasons, "clock.reasons")
COUNTER(nvmlDeviceGetSupportedClocksEventReasons, "clock.reasons.supported")
COUNTER(nvmlDeviceGetSupportedClocksThrottleReasons, "clock.reasons.supported")
PAIR(nvmlDeviceGetEncoderUtilization, "encoder", "encoder.period")
PAIR(nvmlDeviceGetDecoderUtilization, "decoder", "decoder.period")
PAIR(nvmlDeviceGetJpgUtilization, "jpg", "jpg.period")
PAIR(nvmlDeviceGetOfaUtilization, "ofa", "ofa.period")
PAIR(nvmlDeviceGetPowerManagementLimitConstraints, "power.min", "power.max")
PAIR(nvmlDeviceGetDriverModel, "driver_model", "driver_model")
PAIR(nvmlDeviceGetDriverModel_v2, "driver_model", "driver_model")

API nvmlDeviceGetUtilizationRates(nvmlDevice_t device, Utilization *rates) {
    BEGIN_DEVICE(nvmlDeviceGetUtilizationRates, device);
    if (!rates) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = get_u32(device, "util.gpu", &rates->gpu);
    return leave(result == SUCCESS ? get_u32(device, "util.memory", &rates->memory) : result);
}

/* Memory ---------------------------------------------------------------------------------------------------------- */

/* used + free + reserved = total; the first version has no word for the reserve and counts it as used. */
API nvmlDeviceGetMemoryInfo(nvmlDevice_t device, Memory *memory) {
    BEGIN_DEVICE(nvmlDeviceGetMemoryInfo, device);
    uint64_t reserved = 0;
    if (!memory) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = get_u64(device, "mem.total", &memory->total);
    if (result == SUCCESS) result = get_u64(device, "mem.used", &memory->used);
    if (result != SUCCESS) return leave(result);
    get_u64(device, "mem.reserved", &reserved);
    memory->used += reserved;
    memory->free = memory->total - memory->used;
    return leave(SUCCESS);
}

API nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, MemoryV2 *memory) {
    BEGIN_DEVICE(nvmlDeviceGetMemoryInfo_v2, device);
    if (!memory) return leave(INVALID_ARGUMENT);
    if (memory->version != VERSIONED(MemoryV2, 2)) return leave(ARGUMENT_VERSION_MISMATCH);
    nvmlReturn_t result = get_u64(device, "mem.total", &memory->total);
    if (result == SUCCESS) result = get_u64(device, "mem.used", &memory->used);
    if (result == SUCCESS) result = get_u64(device, "mem.reserved", &memory->reserved);
    if (result != SUCCESS) return leave(result);
    memory->free = memory->total - memory->used - memory->reserved;
    return leave(SUCCESS);
}

API nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, Bar1Memory *memory) {
    BEGIN_DEVICE(nvmlDeviceGetBAR1MemoryInfo, device);
    if (!memory) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = get_u64(device, "bar1.total", &memory->total);
    if (result == SUCCESS) result = get_u64(device, "bar1.used", &memory->used);
    if (result == SUCCESS) memory->free = memory->total - memory->used;
    return leave(result);
}

/* What a board with confidential computing has to say; elsewhere the keys are absent. */
API nvmlDeviceGetConfComputeMemSizeInfo(nvmlDevice_t device, ProtectedMemory *memory) {
    BEGIN_DEVICE(nvmlDeviceGetConfComputeMemSizeInfo, device);
    if (!memory) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = get_u64(device, "mem.protected_kib", &memory->protected_kib);
    return leave(result == SUCCESS ? get_u64(device, "mem.unprotected_kib", &memory->unprotected_kib) : result);
}

/* Clocks ---------------------------------------------------------------------------------------------------------- */

static nvmlReturn_t clock_mhz(nvmlDevice_t device, const char *family, unsigned type, uint32_t *mhz) {
    static const char *const types[] = {"graphics", "sm", "mem", "video"};
    char key[64];
    if (type >= 4) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "%s%s", family, types[type]);
    return get_u32(device, key, mhz);
}

#define CLOCK(name, family)                                                                                           \
    API name(nvmlDevice_t device, unsigned type, uint32_t *mhz) {                                                     \
        BEGIN_DEVICE(name, device);                                                                                   \
        return leave(clock_mhz(device, family, type, mhz));                                                             \
    }
CLOCK(nvmlDeviceGetClockInfo, "clock.")
CLOCK(nvmlDeviceGetMaxClockInfo, "clock.max.")
CLOCK(nvmlDeviceGetApplicationsClock, "clock.application.")
CLOCK(nvmlDeviceGetDefaultApplicationsClock, "clock.default.")
CLOCK(nvmlDeviceGetMaxCustomerBoostClock, "clock.max.")

API nvmlDeviceGetClock(nvmlDevice_t device, unsigned type, unsigned id, uint32_t *mhz) {
    static const char *const families[] = {"clock.", "clock.application.", "clock.default.", "clock.max."};
    BEGIN_DEVICE(nvmlDeviceGetClock, device);
    return leave(id < 4 ? clock_mhz(device, families[id], type, mhz) : INVALID_ARGUMENT);
}

/* Temperatures and fans ------------------------------------------------------------------------------------------- */

API nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, uint32_t *celsius) {
    BEGIN_DEVICE(nvmlDeviceGetTemperature, device);
    return leave(sensor == 0 ? get_u32(device, "temperature", celsius) : INVALID_ARGUMENT);
}

API nvmlDeviceGetTemperatureV(nvmlDevice_t device, Temperature *temperature) {
    BEGIN_DEVICE(nvmlDeviceGetTemperatureV, device);
    if (!temperature || temperature->version != VERSIONED(Temperature, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    if (temperature->sensor != 0) return leave(INVALID_ARGUMENT);
    return leave(get_i32(device, "temperature", &temperature->celsius));
}

API nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned threshold, uint32_t *celsius) {
    static const char *const keys[] = {
        "temperature.shutdown",         "temperature.slowdown",         "temperature.memory_max",
        "temperature.gpu_max",          "temperature.acoustic_minimum", "temperature.acoustic_current",
        "temperature.acoustic_maximum", "temperature.gps_current",
    };
    BEGIN_DEVICE(nvmlDeviceGetTemperatureThreshold, device);
    return leave(threshold < 8 ? get_u32(device, keys[threshold], celsius) : INVALID_ARGUMENT);
}

API nvmlDeviceGetMarginTemperature(nvmlDevice_t device, MarginTemperature *margin) {
    BEGIN_DEVICE(nvmlDeviceGetMarginTemperature, device);
    if (!margin || margin->version != VERSIONED(MarginTemperature, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    return leave(get_i32(device, "temperature.margin", &margin->celsius));
}

API nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned fan, uint32_t *percent) {
    BEGIN_DEVICE(nvmlDeviceGetFanSpeed_v2, device);
    uint32_t fans = 0;
    nvmlReturn_t result = get_u32(device, "fan.count", &fans);
    if (result == SUCCESS && fan >= fans) result = INVALID_ARGUMENT;
    return leave(result == SUCCESS ? get_u32(device, "fan.speed", percent) : result);
}

API nvmlDeviceGetFanSpeedRPM(nvmlDevice_t device, FanSpeed *fan) {
    BEGIN_DEVICE(nvmlDeviceGetFanSpeedRPM, device);
    if (!fan || fan->version != VERSIONED(FanSpeed, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    return leave(get_u32(device, "fan.rpm", &fan->speed));
}

/* PCIe ------------------------------------------------------------------------------------------------------------ */

API nvmlDeviceGetPcieThroughput(nvmlDevice_t device, unsigned counter, uint32_t *kib_per_second) {
    BEGIN_DEVICE(nvmlDeviceGetPcieThroughput, device);
    if (counter > 1) return leave(INVALID_ARGUMENT);
    return leave(get_u32(device, counter == 0 ? "pcie.tx" : "pcie.rx", kib_per_second));
}

/* Fields ---------------------------------------------------------------------------------------------------------- */

typedef enum { DOUBLE, U32, ULONG, U64, I64, I32 } Type;

/* Fields that tell the same as a call of their own, so that both agree: `field.N` in the scenario comes first. */
static const struct { uint32_t field; Type type; const char *key; } SAME[] = {
    {1, U32, "ecc.mode"},
    {2, U32, "ecc.pending"},
    {3, U64, "ecc.volatile.corrected"},
    {4, U64, "ecc.volatile.uncorrected"},
    {5, U64, "ecc.aggregate.corrected"},
    {6, U64, "ecc.aggregate.uncorrected"},
    {29, U32, "retired.single_bit"},
    {30, U32, "retired.double_bit"},
    {31, U32, "retired.pending"},
    {83, U64, "energy"},
    {91, U32, "nvlink.count"},
    {94, U32, "pcie.replays"},
    {142, U32, "remap.corrected"},
    {143, U32, "remap.uncorrected"},
    {144, U32, "remap.pending"},
    {145, U32, "remap.failure"},
    {185, U32, "power.usage"},
    {187, U32, "power.min"},
    {188, U32, "power.max"},
    {189, U32, "power.default"},
    {190, U32, "power.enforced"},
    {192, U32, "power.limit"},
};

/* Counters of nanoseconds, bytes and errors are 64 bits wide whatever they hold. */
static bool is_wide(uint32_t field) {
    return (field >= 3 && field <= 28) || (field >= 32 && field <= 81) || (field >= 96 && field <= 141) ||
           (field >= 148 && field <= 163) || field == 191 || field == 197 || field == 198 ||
           (field >= 201 && field <= 222) || (field >= 235 && field <= 250) || (field >= 269 && field <= 271);
}

/* By hand, because a monitor asks for a good many of them at a time. */
static void field_key(char key[16], uint32_t field) {
    char digits[10];
    int count = 0;
    do digits[count++] = (char)('0' + field % 10);
    while (field /= 10);
    memcpy(key, "field.", 6);
    for (key += 6; count;) *key++ = digits[--count];
    *key = '\0';
}

static nvmlReturn_t field_number(nvmlDevice_t device, const FieldValue *field, Type *type, Number *number) {
    char key[32];
    if (scenario_has_scopes(device->gpu)) {
        snprintf(key, sizeof key, "field.%u.%u", field->field, field->scope);
        if (text_of(device, key)) return get_number(device, key, number);
    }
    field_key(key, field->field);
    nvmlReturn_t result = get_number(device, key, number);
    if (result != NOT_SUPPORTED || text_of(device, key)) return result;
    for (size_t i = 0; i < sizeof SAME / sizeof *SAME; i++)
        if (SAME[i].field == field->field) {
            *type = SAME[i].type;
            return get_number(device, SAME[i].key, number);
        }
    return NOT_SUPPORTED;
}

static nvmlReturn_t field_value(nvmlDevice_t device, FieldValue *field) {
    Type type = is_wide(field->field) ? U64 : U32;
    Number number;
    nvmlReturn_t result = field_number(device, field, &type, &number);
    if (result != SUCCESS) return result;
    if (!number.is_whole) type = DOUBLE;
    else if (number.whole < 0) type = I32;
    else if (number.whole > UINT32_MAX) type = U64;
    field->type = type;
    if (type == DOUBLE) field->value.real = number.real;
    else if (type == U32) field->value.u32 = (uint32_t)number.whole;
    else if (type == I32) field->value.i32 = (int32_t)number.whole;
    else field->value.u64 = (uint64_t)number.whole;
    return SUCCESS;
}

API nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, FieldValue *fields) {
    BEGIN_DEVICE(nvmlDeviceGetFieldValues, device);
    if (!fields || count < 1) return leave(INVALID_ARGUMENT);
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    for (int i = 0; i < count; i++) {
        memset(&fields[i].value, 0, sizeof fields[i].value);
        fields[i].timestamp = (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
        fields[i].latency_us = 0;
        fields[i].result = field_value(device, &fields[i]);
    }
    return leave(SUCCESS);
}
