/* Processes on a GPU: `processes = pid:bytes[:gpu instance:compute instance], …`, bytes may be na, pid may be self. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

#define NOT_AVAILABLE UINT64_MAX
#define NO_INSTANCE UINT32_MAX

enum { MAX_PROCESSES = 256, FIRST = 1, SECOND = 2 };

static const char *const KINDS[] = {"processes", "graphics", "mps"};

static uint64_t number_of(const char **text) {
    while (**text == ' ' || **text == ':') (*text)++;
    if (strncmp(*text, "na", 2) == 0) return *text += 2, NOT_AVAILABLE;
    if (strncmp(*text, "self", 4) == 0) return *text += 4, (uint64_t)getpid();
    if (strncmp(*text, "parent", 6) == 0) return *text += 6, (uint64_t)getppid();
    char *rest;
    uint64_t number = strtoull(*text, &rest, 0);
    *text = rest == *text ? rest + strlen(rest) : rest;
    return number;
}

/* Numbers between commas, `size` of them at most in each item; those that are not given stay as they are. */
static bool next_item(const char **text, uint64_t *numbers, int size) {
    while (**text == ' ' || **text == ',') (*text)++;
    if (!**text) return false;
    for (int i = 0; i < size && **text && **text != ','; i++) {
        numbers[i] = number_of(text);
        while (**text == ' ') (*text)++;
    }
    while (**text && **text != ',') (*text)++;
    return true;
}

static nvmlReturn_t list(nvmlDevice_t device, const char *key, Process found[MAX_PROCESSES], uint32_t *count) {
    const char *text = text_of(device, key);
    *count = 0;
    if (!text) return NOT_SUPPORTED;
    if (text[0] == '!') return atoi(text + 1);
    uint64_t item[4] = {0, NOT_AVAILABLE, NO_INSTANCE, NO_INSTANCE};
    while (*count < MAX_PROCESSES && next_item(&text, item, 4)) {
        found[(*count)++] = (Process){(uint32_t)item[0], item[1], (uint32_t)item[2], (uint32_t)item[3]};
        item[1] = NOT_AVAILABLE, item[2] = item[3] = NO_INSTANCE;
    }
    return SUCCESS;
}

static nvmlReturn_t processes(nvmlDevice_t device, int kind, int version, uint32_t *count, void *out) {
    static Process found[MAX_PROCESSES]; /* the lock is held */
    uint32_t number, room;
    if (!count) return INVALID_ARGUMENT;
    nvmlReturn_t result = list(device, KINDS[kind], found, &number);
    if (result != SUCCESS) return result;
    room = *count;
    *count = number;
    if (number > room || (number && !out)) return INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < number; i++) {
        if (version == FIRST) ((ProcessV1 *)out)[i] = (ProcessV1){found[i].pid, found[i].used};
        else ((Process *)out)[i] = found[i];
    }
    return SUCCESS;
}

#define PROCESSES(name, kind, version)                                                                                \
    API name(nvmlDevice_t device, uint32_t *count, void *out) {                                                       \
        BEGIN_DEVICE(name, device);                                                                                   \
        return leave(processes(device, kind, version, count, out));                                                     \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses, 0, FIRST)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 0, SECOND)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 0, SECOND)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, 1, FIRST)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 1, SECOND)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 1, SECOND)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, 2, FIRST)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, 2, SECOND)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, 2, SECOND)

API nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, ProcessDetailList *details) {
    BEGIN_DEVICE(nvmlDeviceGetRunningProcessDetailList, device);
    static Process found[MAX_PROCESSES];
    uint32_t number;
    if (!details || details->version != VERSIONED(ProcessDetailList, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    if (details->mode > 2) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = list(device, KINDS[details->mode], found, &number);
    if (result != SUCCESS) return leave(result);
    uint32_t room = details->count;
    details->count = number;
    if (number > room || (number && !details->processes)) return leave(INSUFFICIENT_SIZE);
    for (uint32_t i = 0; i < number; i++)
        /* Nothing is protected without confidential computing. */
        details->processes[i] =
            (ProcessDetail){found[i].pid, found[i].used, found[i].gpu_instance, found[i].compute_instance, 0};
    return leave(SUCCESS);
}

/* process_use = pid:sm:memory:encoder:decoder, … in percent ------------------------------------------------------- */

static nvmlReturn_t samples(nvmlDevice_t device, ProcessUsage found[MAX_PROCESSES], uint32_t *count) {
    const char *text = text_of(device, "process_use");
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    uint64_t stamp = (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
    *count = 0;
    if (!text) return NOT_SUPPORTED;
    if (text[0] == '!') return atoi(text + 1);
    uint64_t n[5] = {0};
    while (*count < MAX_PROCESSES && next_item(&text, n, 5))
        found[(*count)++] = (ProcessUsage){.timestamp = stamp, .pid = (uint32_t)n[0], .sm = (uint32_t)n[1],
                                           .memory = (uint32_t)n[2], .encoder = (uint32_t)n[3],
                                           .decoder = (uint32_t)n[4]};
    return *count ? SUCCESS : NOT_FOUND;
}

API nvmlDeviceGetProcessUtilization(nvmlDevice_t device, ProcessSample *out, uint32_t *count, uint64_t since) {
    BEGIN_DEVICE(nvmlDeviceGetProcessUtilization, device);
    static ProcessUsage found[MAX_PROCESSES];
    uint32_t number;
    (void)since;
    if (!count) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = samples(device, found, &number);
    if (result != SUCCESS) return leave(result);
    uint32_t room = *count;
    *count = number;
    if (number > room || !out) return leave(INSUFFICIENT_SIZE);
    for (uint32_t i = 0; i < number; i++)
        out[i] = (ProcessSample){found[i].pid, found[i].timestamp, found[i].sm, found[i].memory, found[i].encoder,
                                 found[i].decoder};
    return leave(SUCCESS);
}

API nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, ProcessUsageList *out) {
    BEGIN_DEVICE(nvmlDeviceGetProcessesUtilizationInfo, device);
    static ProcessUsage found[MAX_PROCESSES];
    uint32_t number;
    if (!out || out->version != VERSIONED(ProcessUsageList, 1)) return leave(ARGUMENT_VERSION_MISMATCH);
    nvmlReturn_t result = samples(device, found, &number);
    if (result != SUCCESS) return leave(result);
    uint32_t room = out->count;
    out->count = number;
    if (number > room || !out->samples) return leave(INSUFFICIENT_SIZE);
    memcpy(out->samples, found, number * sizeof *found);
    return leave(SUCCESS);
}
