/* Errors of memory and links: ECC, remapped rows, retired pages, NVLink, the fabric; and GPM. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define NUMBER(name, key)                                                                                             \
    API name(nvmlDevice_t device, uint32_t *number) {                                                                 \
        BEGIN_DEVICE(name, device);                                                                                   \
        return leave(get_u32(device, key, number));                                                                     \
    }

/* ECC ------------------------------------------------------------------------------------------------------------- */

static const char *const ERRORS[2][2] = {{"ecc.volatile.corrected", "ecc.aggregate.corrected"},
                                         {"ecc.volatile.uncorrected", "ecc.aggregate.uncorrected"}};

NUMBER(nvmlDeviceGetDefaultEccMode, "ecc.default")

API nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned error, unsigned counter, uint64_t *count) {
    BEGIN_DEVICE(nvmlDeviceGetTotalEccErrors, device);
    return leave(error < 2 && counter < 2 ? get_u64(device, ERRORS[error][counter], count) : INVALID_ARGUMENT);
}

static nvmlReturn_t errors_at(nvmlDevice_t device, unsigned error, unsigned counter, const char *place,
                              uint64_t *count) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", ERRORS[error][counter], place);
    return get_u64(device, key, count);
}

API nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned error, unsigned counter, unsigned location,
                                    uint64_t *count) {
    static const char *const places[] = {"l1", "l2", "dram", "register", "texture", "texture_shm", "cbu", "sram"};
    BEGIN_DEVICE(nvmlDeviceGetMemoryErrorCounter, device);
    if (error > 1 || counter > 1 || location > 7) return leave(INVALID_ARGUMENT);
    return leave(errors_at(device, error, counter, places[location], count));
}

API nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, unsigned error, unsigned counter, EccCounts *counts) {
    BEGIN_DEVICE(nvmlDeviceGetDetailedEccErrors, device);
    if (error > 1 || counter > 1 || !counts) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = errors_at(device, error, counter, "dram", &counts->memory);
    if (result == SUCCESS) result = errors_at(device, error, counter, "l1", &counts->l1);
    if (result == SUCCESS) result = errors_at(device, error, counter, "l2", &counts->l2);
    if (result == SUCCESS) result = errors_at(device, error, counter, "register", &counts->registers);
    return leave(result);
}

API nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, SramErrors *errors) {
    BEGIN_DEVICE(nvmlDeviceGetSramEccErrorStatus, device);
    if (!errors || errors->version != VERSIONED(SramErrors, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    const struct { const char *key; uint64_t *count; } parts[] = {
        {"ecc.aggregate.uncorrected.parity", &errors->aggregate_parity},
        {"ecc.aggregate.uncorrected.sram", &errors->aggregate_secded},
        {"ecc.aggregate.corrected.sram", &errors->aggregate_corrected},
        {"ecc.volatile.uncorrected.parity", &errors->volatile_parity},
        {"ecc.volatile.uncorrected.sram", &errors->volatile_secded},
        {"ecc.volatile.corrected.sram", &errors->volatile_corrected},
    };
    nvmlReturn_t result = get_u32(device, "ecc.sram_threshold_exceeded", &errors->threshold_exceeded);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && result == SUCCESS; i++)
        result = get_u64(device, parts[i].key, parts[i].count);
    errors->bucket_l2 = errors->aggregate_secded;
    return leave(result);
}

/* Remapped rows and retired pages --------------------------------------------------------------------------------- */

API nvmlDeviceGetRemappedRows(nvmlDevice_t device, uint32_t *corrected, uint32_t *uncorrected, uint32_t *pending,
                              uint32_t *failure) {
    BEGIN_DEVICE(nvmlDeviceGetRemappedRows, device);
    nvmlReturn_t result = get_u32(device, "remap.corrected", corrected);
    if (result == SUCCESS) result = get_u32(device, "remap.uncorrected", uncorrected);
    if (result == SUCCESS) result = get_u32(device, "remap.pending", pending);
    return leave(result == SUCCESS ? get_u32(device, "remap.failure", failure) : result);
}

API nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, RemappedRowsV2 *rows) {
    BEGIN_DEVICE(nvmlDeviceGetRemappedRows_v2, device);
    if (!rows) return leave(INVALID_ARGUMENT);
    *rows = (RemappedRowsV2){0};
    nvmlReturn_t result = get_u32(device, "remap.corrected_inactive", &rows->corrected_inactive);
    if (result == SUCCESS) result = get_u32(device, "remap.uncorrected_inactive", &rows->uncorrected_inactive);
    if (result == SUCCESS) result = get_u32(device, "remap.corrected", &rows->corrected);
    if (result == SUCCESS) result = get_u32(device, "remap.uncorrected", &rows->uncorrected);
    if (result == SUCCESS) result = get_u32(device, "remap.pending", &rows->pending);
    return leave(result == SUCCESS ? get_u32(device, "remap.failure", &rows->failure) : result);
}

/* remap.histogram = max, high, partial, low, none: banks by the spare rows that are left */
API nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, RemapHistogram *histogram) {
    BEGIN_DEVICE(nvmlDeviceGetRowRemapperHistogram, device);
    const char *text = text_of(device, "remap.histogram");
    if (!histogram) return leave(INVALID_ARGUMENT);
    if (!text) return leave(NOT_SUPPORTED);
    int read = sscanf(text, "%u ,%u ,%u ,%u ,%u", &histogram->max, &histogram->high, &histogram->partial,
                      &histogram->low, &histogram->none);
    return leave(read == 5 ? SUCCESS : UNKNOWN);
}

/* Addresses are made up: only how many there are is in the scenario. */
static nvmlReturn_t retired_pages(nvmlDevice_t device, unsigned cause, uint32_t *count, uint64_t *pages,
                                  uint64_t *times) {
    uint32_t number = 0;
    if (!count || cause > 1) return INVALID_ARGUMENT;
    nvmlReturn_t result = get_u32(device, cause == 0 ? "retired.single_bit" : "retired.double_bit", &number);
    if (result != SUCCESS) return result;
    bool fits = number == 0 || (pages && *count >= number);
    *count = number;
    if (!fits) return INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < number; i++) {
        pages[i] = 0x10000u * (i + 1) + cause;
        if (times) times[i] = 1700000000000000u + i;
    }
    return SUCCESS;
}

API nvmlDeviceGetRetiredPages(nvmlDevice_t device, unsigned cause, uint32_t *count, uint64_t *pages) {
    BEGIN_DEVICE(nvmlDeviceGetRetiredPages, device);
    return leave(retired_pages(device, cause, count, pages, NULL));
}

API nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, unsigned cause, uint32_t *count, uint64_t *pages,
                                 uint64_t *times) {
    BEGIN_DEVICE(nvmlDeviceGetRetiredPages_v2, device);
    return leave(retired_pages(device, cause, count, pages, times));
}

NUMBER(nvmlDeviceGetRetiredPagesPendingStatus, "retired.pending")

static nvmlReturn_t flag(nvmlDevice_t device, const char *key, Flag *answer) {
    if (!answer || answer->version != VERSIONED(Flag, 1)) return ARGUMENT_VERSION_MISMATCH;
    return get_u32(device, key, &answer->flag);
}

API nvmlDeviceGetUnrepairableMemoryFlag_v1(nvmlDevice_t device, Flag *answer) {
    BEGIN_DEVICE(nvmlDeviceGetUnrepairableMemoryFlag_v1, device);
    return leave(flag(device, "memory.unrepairable", answer));
}

API nvmlDeviceGetAddressingMode(nvmlDevice_t device, Flag *answer) {
    BEGIN_DEVICE(nvmlDeviceGetAddressingMode, device);
    return leave(flag(device, "addressing_mode", answer));
}

API nvmlDeviceGetCapabilities(nvmlDevice_t device, Flag *answer) {
    BEGIN_DEVICE(nvmlDeviceGetCapabilities, device);
    return leave(flag(device, "capabilities", answer));
}

API nvmlDeviceGetRepairStatus(nvmlDevice_t device, RepairStatus *status) {
    BEGIN_DEVICE(nvmlDeviceGetRepairStatus, device);
    if (!status || status->version != VERSIONED(RepairStatus, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    nvmlReturn_t result = get_u32(device, "repair.channel_pending", &status->channel_pending);
    return leave(result == SUCCESS ? get_u32(device, "repair.tpc_pending", &status->tpc_pending) : result);
}

/* inforom.valid = 1 passes, !14 is a corrupted one */
API nvmlDeviceValidateInforom(nvmlDevice_t device) {
    BEGIN_DEVICE(nvmlDeviceValidateInforom, device);
    uint32_t valid;
    return leave(get_u32(device, "inforom.valid", &valid));
}

API nvmlDeviceGetViolationStatus(nvmlDevice_t device, unsigned policy, Violation *violation) {
    BEGIN_DEVICE(nvmlDeviceGetViolationStatus, device);
    char key[32];
    if (!violation) return leave(INVALID_ARGUMENT);
    snprintf(key, sizeof key, "violation.%u", policy);
    violation->reference = (uint64_t)(scenario_seconds() * 1e6);
    return leave(get_u64(device, key, &violation->violation));
}

/* NVLink: nvlink.count, then nvlink3.state, or nvlink*.state for every link ---------------------------------------- */

static nvmlReturn_t link_number(nvmlDevice_t device, unsigned link, const char *key, long long *number) {
    uint32_t links = 0;
    nvmlReturn_t result = get_u32(device, "nvlink.count", &links);
    if (result != SUCCESS) return result;
    return link < links ? get_numbered(device, "nvlink", link, key, number) : INVALID_ARGUMENT;
}

#define LINK(name, key)                                                                                               \
    API name(nvmlDevice_t device, unsigned link, uint32_t *answer) {                                                  \
        BEGIN_DEVICE(name, device);                                                                                   \
        long long number = 0;                                                                                         \
        if (!answer) return leave(INVALID_ARGUMENT);                                                                    \
        nvmlReturn_t result = link_number(device, link, key, &number);                                                \
        if (result == SUCCESS) *answer = (uint32_t)number;                                                            \
        return leave(result);                                                                                           \
    }
LINK(nvmlDeviceGetNvLinkState, "state")
LINK(nvmlDeviceGetNvLinkVersion, "version")
LINK(nvmlDeviceGetNvLinkRemoteDeviceType, "remote_type")

API nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned link, unsigned capability, uint32_t *answer) {
    BEGIN_DEVICE(nvmlDeviceGetNvLinkCapability, device);
    char key[32];
    long long number = 0;
    snprintf(key, sizeof key, "capability.%u", capability);
    nvmlReturn_t result = link_number(device, link, key, &number);
    if (result == SUCCESS) *answer = (uint32_t)number;
    return leave(result);
}

API nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned link, unsigned counter, uint64_t *count) {
    static const char *const counters[] = {"replay", "recovery", "crc_flit", "crc_data", "ecc_data"};
    BEGIN_DEVICE(nvmlDeviceGetNvLinkErrorCounter, device);
    long long number = 0;
    if (counter > 4 || !count) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = link_number(device, link, counters[counter], &number);
    if (result == SUCCESS) *count = (uint64_t)number;
    return leave(result);
}

/* nvlink.remote = bus address at the other end, of every link */
API nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link, PciInfo *info) {
    BEGIN_DEVICE(nvmlDeviceGetNvLinkRemotePciInfo_v2, device);
    char key[32];
    if (!info) return leave(INVALID_ARGUMENT);
    snprintf(key, sizeof key, "nvlink%u.remote", link);
    const char *text = text_of(device, key);
    if (!text) text = text_of(device, "nvlink*.remote");
    *info = (PciInfo){0};
    if (!text) return leave(NOT_SUPPORTED);
    if (sscanf(text, "%x:%x:%x", &info->domain, &info->bus, &info->device) != 3) return leave(UNKNOWN);
    snprintf(info->bus_id, sizeof info->bus_id, "%s", text);
    return leave(SUCCESS);
}

/* Fabric ---------------------------------------------------------------------------------------------------------- */

static nvmlReturn_t fabric(nvmlDevice_t device, FabricInfo *info) {
    const char *cluster = text_of(device, "fabric.cluster");
    uint32_t status = 0;
    *info = (FabricInfo){0};
    nvmlReturn_t result = get_u32(device, "fabric.state", &info->state);
    if (result == SUCCESS) result = get_u32(device, "fabric.status", &status);
    if (result == SUCCESS) result = get_u32(device, "fabric.clique", &info->clique);
    info->status = (nvmlReturn_t)status;
    if (cluster) memcpy(info->cluster, cluster, strnlen(cluster, sizeof info->cluster));
    return result;
}

API nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, FabricInfo *info) {
    BEGIN_DEVICE(nvmlDeviceGetGpuFabricInfo, device);
    return leave(info ? fabric(device, info) : INVALID_ARGUMENT);
}

/* fabric.newest = 2 models a driver that does not know version 3 of the struct yet. */
API nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, void *info) {
    BEGIN_DEVICE(nvmlDeviceGetGpuFabricInfoV, device);
    FabricInfo base;
    FabricInfoV3 *out = info;
    uint32_t newest = 3, summary = 0;
    if (!info) return leave(INVALID_ARGUMENT);
    get_u32(device, "fabric.newest", &newest);
    bool third = out->version == VERSIONED(FabricInfoV3, 3) && newest >= 3;
    if (!third && out->version != VERSIONED(FabricInfoV2, 2)) return leave(ARGUMENT_VERSION_MISMATCH);
    nvmlReturn_t result = fabric(device, &base);
    if (result == SUCCESS) result = get_u32(device, "fabric.health_mask", &out->health_mask);
    if (result == SUCCESS && third) result = get_u32(device, "fabric.summary", &summary);
    if (result != SUCCESS) return leave(result);
    memcpy(out->cluster, base.cluster, sizeof out->cluster);
    out->status = base.status, out->clique = base.clique, out->state = base.state;
    if (third) out->summary = (uint8_t)summary;
    return leave(SUCCESS);
}

/* GPM: a sample remembers when it was taken and of what; the metric is what the scenario says at the later one. ---- */

typedef struct { Device *device; double seconds; bool taken; } Sample;

API nvmlGpmQueryDeviceSupport(nvmlDevice_t device, GpmSupport *support) {
    BEGIN_DEVICE(nvmlGpmQueryDeviceSupport, device);
    if (!support || support->version != 1) return leave(ARGUMENT_VERSION_MISMATCH);
    return leave(get_u32(device, "gpm.supported", &support->supported));
}

API nvmlGpmSampleAlloc(Sample **sample) {
    BEGIN(nvmlGpmSampleAlloc);
    if (!sample) return leave(INVALID_ARGUMENT);
    *sample = calloc(1, sizeof **sample);
    return leave(*sample ? SUCCESS : MEMORY);
}

API nvmlGpmSampleFree(Sample *sample) {
    BEGIN(nvmlGpmSampleFree);
    free(sample);
    return leave(SUCCESS);
}

static nvmlReturn_t take(nvmlDevice_t device, Sample *sample) {
    uint32_t supported = 0;
    if (!sample) return INVALID_ARGUMENT;
    nvmlReturn_t result = get_u32(&devices[device->gpu][0], "gpm.supported", &supported);
    if (result != SUCCESS || !supported) return NOT_SUPPORTED;
    *sample = (Sample){.device = device, .seconds = scenario_seconds(), .taken = true};
    return SUCCESS;
}

API nvmlGpmSampleGet(nvmlDevice_t device, Sample *sample) {
    BEGIN_DEVICE(nvmlGpmSampleGet, device);
    return leave(take(device, sample));
}

API nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned gpu_instance, Sample *sample) {
    BEGIN_DEVICE(nvmlGpmMigSampleGet, device);
    for (int mig = 0; mig < MAX_MIG; mig++) {
        uint32_t instance = 0;
        nvmlDevice_t candidate = &devices[device->gpu][mig + 1];
        if (get_u32(candidate, "gpu_instance", &instance) == SUCCESS && instance == gpu_instance)
            return leave(take(candidate, sample));
    }
    return leave(NOT_FOUND);
}

API nvmlGpmMetricsGet(GpmMetrics *metrics) {
    if (!metrics || metrics->version != 1) return ARGUMENT_VERSION_MISMATCH;
    const Sample *earlier = metrics->earlier, *later = metrics->later;
    bool taken = later && later->taken; /* counted as a call on the GPU that was sampled */
    nvmlReturn_t fault = taken ? begin_device(F_nvmlGpmMetricsGet, later->device) : begin(F_nvmlGpmMetricsGet);
    if (fault != SUCCESS) return fault;
    if (!earlier || !later || !earlier->taken || !later->taken || earlier->device != later->device)
        return leave(INVALID_ARGUMENT);
    for (uint32_t i = 0; i < metrics->count; i++) {
        GpmMetric *metric = &metrics->metrics[i];
        char key[32];
        Number number = {0};
        snprintf(key, sizeof key, "gpm.%u", metric->id);
        metric->result = get_number(later->device, key, &number);
        metric->value = number.real;
        metric->info = (GpmMetricInfo){"", "", ""};
    }
    return leave(SUCCESS);
}
