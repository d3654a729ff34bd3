/* What does not change: versions, handles, names, addresses, MIG devices. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"

/* The system ------------------------------------------------------------------------------------------------------ */

static nvmlReturn_t system_text(const char *key, char *text, uint32_t length) {
    const char *found = scenario_text(SYSTEM, key);
    if (!text) return INVALID_ARGUMENT;
    if (!found) return NOT_SUPPORTED;
    if (strlen(found) >= length) return INSUFFICIENT_SIZE;
    strcpy(text, found);
    return SUCCESS;
}

API nvmlSystemGetDriverVersion(char *text, unsigned length) {
    BEGIN(nvmlSystemGetDriverVersion);
    return leave(system_text("driver", text, length));
}

API nvmlSystemGetNVMLVersion(char *text, unsigned length) {
    BEGIN(nvmlSystemGetNVMLVersion);
    return leave(system_text("nvml", text, length));
}

static nvmlReturn_t cuda_version(int *version) {
    Number number;
    if (!version) return INVALID_ARGUMENT;
    nvmlReturn_t result = scenario_number(SYSTEM, "cuda", &number);
    if (result == SUCCESS) *version = (int)number.whole;
    return result;
}

API nvmlSystemGetCudaDriverVersion(int *version) {
    BEGIN(nvmlSystemGetCudaDriverVersion);
    return leave(cuda_version(version));
}

API nvmlSystemGetCudaDriverVersion_v2(int *version) {
    BEGIN(nvmlSystemGetCudaDriverVersion_v2);
    return leave(cuda_version(version));
}

API nvmlSystemGetDriverBranch(DriverBranch *branch, unsigned length) {
    BEGIN(nvmlSystemGetDriverBranch);
    if (!branch || branch->version != VERSIONED(DriverBranch, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    return leave(system_text("driver_branch", branch->branch, length < 80 ? length : 80));
}

API nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
    BEGIN(nvmlSystemGetProcessName);
    char key[64];
    snprintf(key, sizeof key, "process.%u.name", pid);
    nvmlReturn_t result = system_text(key, name, length);
    return leave(result == NOT_SUPPORTED ? NOT_FOUND : result);
}

__attribute__((visibility("default"))) const char *nvmlErrorString(nvmlReturn_t result) {
    static const char *const texts[] = {
        [0] = "Success",
        [1] = "Uninitialized",
        [2] = "Invalid Argument",
        [3] = "Not Supported",
        [4] = "Insufficient Permissions",
        [6] = "Not Found",
        [7] = "Insufficient Size",
        [8] = "Insufficient External Power",
        [9] = "Driver Not Loaded",
        [10] = "Timeout",
        [11] = "Interrupt Request Issue",
        [12] = "NVML Shared Library Not Found",
        [13] = "Function Not Found",
        [14] = "Corrupted infoROM",
        [15] = "GPU is lost",
        [16] = "GPU requires restart",
        [17] = "The operating system has blocked the request.",
        [18] = "RM has detected an NVML/RM version mismatch.",
        [19] = "In use by another client",
        [20] = "Insufficient Memory",
        [21] = "No data",
        [25] = "Argument version mismatch",
        [27] = "Not ready",
        [28] = "GPU not found",
    };
    bool listed = result >= 0 && (size_t)result < sizeof texts / sizeof *texts && texts[result];
    return listed ? texts[result] : "Unknown Error";
}

/* Handles --------------------------------------------------------------------------------------------------------- */

static nvmlReturn_t count(unsigned *number) {
    if (!number) return INVALID_ARGUMENT;
    *number = (unsigned)scenario_count();
    return SUCCESS;
}

API nvmlDeviceGetCount_v2(unsigned *number) {
    BEGIN(nvmlDeviceGetCount_v2);
    return leave(count(number));
}

API nvmlDeviceGetCount(unsigned *number) {
    BEGIN(nvmlDeviceGetCount);
    return leave(count(number));
}

/* A call for one GPU is counted as a call on it; one that finds no GPU as a call of the system. */
static nvmlReturn_t handle(enum Function function, int gpu, nvmlReturn_t otherwise, nvmlDevice_t *device) {
    nvmlReturn_t fault = gpu < 0 ? begin(function) : begin_gpu(function, gpu);
    if (fault != SUCCESS) return fault;
    if (gpu < 0 || !device) return leave(device ? otherwise : INVALID_ARGUMENT);
    *device = &devices[gpu][0];
    return leave(SUCCESS);
}

static nvmlReturn_t handle_by_index(enum Function function, unsigned index, nvmlDevice_t *device) {
    lock();
    scenario_refresh();
    int gpu = index < (unsigned)scenario_count() ? (int)index : -1;
    unlock();
    return handle(function, gpu, INVALID_ARGUMENT, device);
}

API nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    return handle_by_index(F_nvmlDeviceGetHandleByIndex_v2, index, device);
}

API nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device) {
    return handle_by_index(F_nvmlDeviceGetHandleByIndex, index, device);
}

static int gpu_with(const char *key, const char *text) {
    for (int gpu = 0; gpu < scenario_count(); gpu++) {
        const char *found = scenario_text(gpu, key);
        if (found && strcmp(found, text) == 0) return gpu;
    }
    return -1;
}

static nvmlReturn_t handle_with(enum Function function, const char *key, const char *text, nvmlDevice_t *device) {
    lock();
    scenario_refresh();
    int gpu = text ? gpu_with(key, text) : -1;
    unlock();
    return handle(function, gpu, NOT_FOUND, device);
}

API nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    if (uuid && strncmp(uuid, "MIG-", 4) == 0) {
        BEGIN(nvmlDeviceGetHandleByUUID);
        for (int gpu = 0; gpu < scenario_count(); gpu++)
            for (int mig = 0; mig < MAX_MIG; mig++) {
                const char *found = text_of(&devices[gpu][mig + 1], "uuid");
                if (!found || strcmp(found, uuid) != 0) continue;
                *device = &devices[gpu][mig + 1];
                return leave(SUCCESS);
            }
        return leave(NOT_FOUND);
    }
    return handle_with(F_nvmlDeviceGetHandleByUUID, "uuid", uuid, device);
}

API nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    return handle_with(F_nvmlDeviceGetHandleBySerial, "serial", serial, device);
}

API nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    char full[64];
    unsigned domain, bus, slot;
    if (!bus_id || sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3) return INVALID_ARGUMENT;
    snprintf(full, sizeof full, "%08X:%02X:%02X.0", domain, bus, slot);
    return handle_with(F_nvmlDeviceGetHandleByPciBusId_v2, "pci.bus_id", full, device);
}

API nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    BEGIN_DEVICE(nvmlDeviceGetIndex, device);
    if (!index) return leave(INVALID_ARGUMENT);
    *index = (unsigned)(device->mig < 0 ? device->gpu : device->mig);
    return leave(SUCCESS);
}

/* Names ----------------------------------------------------------------------------------------------------------- */

#define TEXT(name, key)                                                                                               \
    API name(nvmlDevice_t device, char *text, unsigned length) {                                                      \
        BEGIN_DEVICE(name, device);                                                                                   \
        return leave(get_text(device, key, text, length));                                                              \
    }
TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetSerial, "serial")
TEXT(nvmlDeviceGetVbiosVersion, "vbios")
TEXT(nvmlDeviceGetBoardPartNumber, "part_number")
TEXT(nvmlDeviceGetInforomImageVersion, "inforom.image")
TEXT(nvmlDeviceGetGspFirmwareVersion, "gsp.version")

#define NUMBER(name, key)                                                                                             \
    API name(nvmlDevice_t device, uint32_t *number) {                                                                 \
        BEGIN_DEVICE(name, device);                                                                                   \
        return leave(get_u32(device, key, number));                                                                     \
    }
NUMBER(nvmlDeviceGetMinorNumber, "minor")
NUMBER(nvmlDeviceGetArchitecture, "architecture")
NUMBER(nvmlDeviceGetBrand, "brand")
NUMBER(nvmlDeviceGetModuleId, "module_id")
NUMBER(nvmlDeviceGetBoardId, "board_id")
NUMBER(nvmlDeviceGetMultiGpuBoard, "multi_gpu_board")
NUMBER(nvmlDeviceGetNumaNodeId, "numa_node")
NUMBER(nvmlDeviceGetNumGpuCores, "cores")
NUMBER(nvmlDeviceGetMemoryBusWidth, "memory_bus_width")
NUMBER(nvmlDeviceGetBusType, "bus_type")
NUMBER(nvmlDeviceGetIrqNum, "irq")
NUMBER(nvmlDeviceGetPowerSource, "power.source")

API nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    BEGIN_DEVICE(nvmlDeviceGetCudaComputeCapability, device);
    const char *text = text_of(device, "compute_capability");
    if (!major || !minor) return leave(INVALID_ARGUMENT);
    if (!text || sscanf(text, "%d.%d", major, minor) != 2) return leave(NOT_SUPPORTED);
    return leave(SUCCESS);
}

typedef struct { unsigned domain, bus, slot; uint32_t device_id, subsystem_id; const char *text; } Address;

static nvmlReturn_t address_of(nvmlDevice_t device, Address *address) {
    *address = (Address){.text = text_of(device, "pci.bus_id")};
    if (!address->text) return NOT_SUPPORTED;
    if (sscanf(address->text, "%x:%x:%x", &address->domain, &address->bus, &address->slot) != 3) return UNKNOWN;
    get_u32(device, "pci.device_id", &address->device_id);
    get_u32(device, "pci.subsystem_id", &address->subsystem_id);
    return SUCCESS;
}

static nvmlReturn_t pci_info(nvmlDevice_t device, PciInfo *info) {
    Address address;
    if (!info) return INVALID_ARGUMENT;
    nvmlReturn_t result = address_of(device, &address);
    if (result != SUCCESS) return result;
    *info = (PciInfo){.domain = address.domain, .bus = address.bus, .device = address.slot};
    info->device_id = address.device_id, info->subsystem_id = address.subsystem_id;
    snprintf(info->bus_id, sizeof info->bus_id, "%s", address.text);
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%04X:%02X:%02X.0", address.domain & 0xffff,
             address.bus & 0xff, address.slot & 0xff);
    return SUCCESS;
}

API nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, PciInfo *info) {
    BEGIN_DEVICE(nvmlDeviceGetPciInfo_v3, device);
    return leave(pci_info(device, info));
}

API nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, PciInfo *info) {
    BEGIN_DEVICE(nvmlDeviceGetPciInfo_v2, device);
    return leave(pci_info(device, info));
}

API nvmlDeviceGetPciInfoExt(nvmlDevice_t device, PciInfoExt *info) {
    BEGIN_DEVICE(nvmlDeviceGetPciInfoExt, device);
    Address address;
    if (!info || info->version != VERSIONED(PciInfoExt, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    nvmlReturn_t result = address_of(device, &address);
    if (result != SUCCESS) return leave(result);
    info->domain = address.domain, info->bus = address.bus, info->device = address.slot;
    info->device_id = address.device_id, info->subsystem_id = address.subsystem_id;
    info->base_class = 3, info->sub_class = 2; /* a 3D controller */
    snprintf(info->bus_id, sizeof info->bus_id, "%s", address.text);
    return leave(SUCCESS);
}

/* MIG ------------------------------------------------------------------------------------------------------------- */

static nvmlReturn_t pair(nvmlDevice_t device, const char *first, const char *second, uint32_t *one, uint32_t *two) {
    nvmlReturn_t result = get_u32(device, first, one);
    return result == SUCCESS ? get_u32(device, second, two) : result;
}

API nvmlDeviceGetMigMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending) {
    BEGIN_DEVICE(nvmlDeviceGetMigMode, device);
    return leave(pair(device, "mig.mode", "mig.pending", current, pending));
}

API nvmlDeviceGetEccMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending) {
    BEGIN_DEVICE(nvmlDeviceGetEccMode, device);
    return leave(pair(device, "ecc.mode", "ecc.pending", current, pending));
}

API nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, uint32_t *number) {
    BEGIN_DEVICE(nvmlDeviceGetMaxMigDeviceCount, device);
    return leave(get_u32(device, "mig.max", number));
}

API nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig) {
    BEGIN_DEVICE(nvmlDeviceGetMigDeviceHandleByIndex, device);
    uint32_t mode = 0;
    if (!mig || device->mig >= 0) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = get_u32(device, "mig.mode", &mode);
    if (result != SUCCESS || mode == 0) return leave(result != SUCCESS ? result : NOT_SUPPORTED);
    if (index >= MAX_MIG || !text_of(&devices[device->gpu][index + 1], "uuid")) return leave(NOT_FOUND);
    *mig = &devices[device->gpu][index + 1];
    return leave(SUCCESS);
}

API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device) {
    BEGIN_DEVICE(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, mig);
    if (!device || mig->mig < 0) return leave(INVALID_ARGUMENT);
    *device = &devices[mig->gpu][0];
    return leave(SUCCESS);
}

API nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, uint32_t *is_mig) {
    BEGIN_DEVICE(nvmlDeviceIsMigDeviceHandle, device);
    if (!is_mig) return leave(INVALID_ARGUMENT);
    *is_mig = device->mig >= 0;
    return leave(SUCCESS);
}

NUMBER(nvmlDeviceGetGpuInstanceId, "gpu_instance")
NUMBER(nvmlDeviceGetComputeInstanceId, "compute_instance")

/* attributes = multiprocessors, copy engines, decoders, encoders, JPEG, OFA, GPU slices, compute slices, MiB */
API nvmlDeviceGetAttributes_v2(nvmlDevice_t device, Attributes *attributes) {
    BEGIN_DEVICE(nvmlDeviceGetAttributes_v2, device);
    const char *text = text_of(device, "attributes");
    unsigned n[8];
    unsigned long long mib;
    if (!attributes) return leave(INVALID_ARGUMENT);
    if (!text) return leave(NOT_SUPPORTED);
    if (sscanf(text, "%u ,%u ,%u ,%u ,%u ,%u ,%u ,%u ,%llu", n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7,
               &mib) != 9)
        return leave(UNKNOWN);
    *attributes = (Attributes){n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], mib};
    return leave(SUCCESS);
}
