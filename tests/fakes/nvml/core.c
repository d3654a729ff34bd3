/* How every call begins and ends: counting, delays, faults, the lock; and the handles. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

const char *const function_names[FUNCTIONS] = {
#define F(name) #name,
#include "functions.def"
#undef F
};

Device devices[MAX_GPUS][1 + MAX_MIG];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int initialised;
static long long calls[MAX_GPUS + 1][FUNCTIONS], calls_all[MAX_GPUS + 1];

void lock(void) { pthread_mutex_lock(&mutex); }
void unlock(void) { pthread_mutex_unlock(&mutex); }

static void forked(void) { pthread_mutex_init(&mutex, NULL); }

__attribute__((constructor)) static void loaded(void) {
    for (int gpu = 0; gpu < MAX_GPUS; gpu++)
        for (int mig = -1; mig < MAX_MIG; mig++) devices[gpu][mig + 1] = (Device){.gpu = gpu, .mig = mig};
    pthread_atfork(lock, unlock, forked);
}

/* Counting: a file that is mapped into memory, so that it is right at any moment and after any kind of end. ------- */

typedef struct {
    char magic[8];
    uint32_t functions, columns; /* columns: GPU 0 to 31, then calls without a GPU */
    char names[FUNCTIONS][64];
    _Atomic uint64_t counts[FUNCTIONS][MAX_GPUS + 1];
} Trace;

static _Atomic(Trace *) trace;

static void trace_open(void) {
    static char opened[4096];
    const char *path = getenv("FAKE_NVML_TRACE");
    if (!path || !*path || strlen(path) >= sizeof opened || strcmp(path, opened) == 0) return;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || ftruncate(file, sizeof(Trace)) != 0) {
        fprintf(stderr, "fake nvml: %s: %s\n", path, strerror(errno));
        if (file >= 0) close(file);
        return;
    }
    Trace *mapped = mmap(NULL, sizeof(Trace), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return;
    for (int i = 0; i < FUNCTIONS; i++) snprintf(mapped->names[i], sizeof mapped->names[i], "%s", function_names[i]);
    mapped->functions = FUNCTIONS, mapped->columns = MAX_GPUS + 1;
    memcpy(mapped->magic, "NVMLCALL", 8);
    strcpy(opened, path);
    atomic_store(&trace, mapped); /* an earlier one stays mapped: other threads may be counting in it */
}

static void count_call(enum Function function, int gpu) {
    Trace *mapped = atomic_load_explicit(&trace, memory_order_acquire);
    int column = gpu == SYSTEM ? MAX_GPUS : gpu;
    if (mapped) atomic_fetch_add_explicit(&mapped->counts[function][column], 1, memory_order_relaxed);
}

/* Beginning and ending -------------------------------------------------------------------------------------------- */

static long long delay_of(enum Function function, int gpu) {
    const Faults *system = scenario_faults(SYSTEM), *faults = scenario_faults(gpu);
    if (faults->delay_us[function]) return faults->delay_us[function];
    if (gpu != SYSTEM && faults->delay_all) return faults->delay_all;
    return system->delay_us[function] ? system->delay_us[function] : system->delay_all;
}

/* Wait without the lock. Long waits look at the scenario now and then: taking the delay out of it ends them. */
static void wait_as_told(enum Function function, int gpu) {
    long long waited = 0, told;
    while ((told = delay_of(function, gpu)) > waited) {
        long long slice = told - waited > 50000 ? 50000 : told - waited;
        struct timespec time = {.tv_sec = 0, .tv_nsec = slice * 1000};
        unlock();
        while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
        lock();
        waited += slice;
        scenario_refresh();
    }
}

static nvmlReturn_t fault_of(enum Function function, int gpu) {
    const Faults *faults = scenario_faults(gpu);
    int column = gpu == SYSTEM ? MAX_GPUS : gpu;
    long long call = ++calls[column][function], any = ++calls_all[column];
    if (faults->ret[function] >= 0) {
        bool due = faults->after[function] ? call >= faults->after[function] : any >= faults->after_all;
        return due ? faults->ret[function] : SUCCESS;
    }
    return faults->ret_all >= 0 && any >= faults->after_all ? faults->ret_all : SUCCESS;
}

static bool needs_init(enum Function function) {
    return function != F_nvmlInitWithFlags && function != F_nvmlInit_v2 && function != F_nvmlInit;
}

static nvmlReturn_t begin_any(enum Function function, int gpu) {
    lock();
    if (!initialised) trace_open();
    count_call(function, gpu);
    if (needs_init(function) && !initialised) return leave(UNINITIALIZED);
    scenario_refresh();
    wait_as_told(function, gpu);
    const Faults *system = scenario_faults(SYSTEM);
    if (gpu != SYSTEM && (system->ret[function] >= 0 || system->ret_all >= 0)) {
        nvmlReturn_t everywhere = fault_of(function, SYSTEM);
        if (everywhere != SUCCESS) return leave(everywhere);
    }
    if (gpu != SYSTEM && gpu >= scenario_count()) return leave(GPU_IS_LOST);
    nvmlReturn_t fault = fault_of(function, gpu);
    return fault == SUCCESS ? SUCCESS : leave(fault);
}

nvmlReturn_t begin(enum Function function) { return begin_any(function, SYSTEM); }
nvmlReturn_t begin_gpu(enum Function function, int gpu) { return begin_any(function, gpu); }

static bool is_device(nvmlDevice_t device) {
    uintptr_t at = (uintptr_t)device, base = (uintptr_t)devices;
    return at >= base && at < base + sizeof devices && (at - base) % sizeof(Device) == 0;
}

nvmlReturn_t begin_device(enum Function function, nvmlDevice_t device) {
    return is_device(device) ? begin_any(function, device->gpu) : INVALID_ARGUMENT;
}

nvmlReturn_t leave(nvmlReturn_t result) {
    unlock();
    return result;
}

/* Init and shutdown ----------------------------------------------------------------------------------------------- */

static nvmlReturn_t start(enum Function function) {
    lock();
    if (!initialised) {
        trace_open();
        nvmlReturn_t opened = scenario_open();
        if (opened != SUCCESS) {
            count_call(function, SYSTEM);
            return leave(opened);
        }
        memset(calls, 0, sizeof calls);
        memset(calls_all, 0, sizeof calls_all);
    }
    count_call(function, SYSTEM);
    wait_as_told(function, SYSTEM);
    nvmlReturn_t fault = fault_of(function, SYSTEM);
    if (fault == SUCCESS && function != F_nvmlInitWithFlags) fault = fault_of(F_nvmlInitWithFlags, SYSTEM);
    if (fault == SUCCESS) initialised++;
    return leave(fault);
}

API nvmlInitWithFlags(unsigned flags) { return (void)flags, start(F_nvmlInitWithFlags); }
API nvmlInit_v2(void) { return start(F_nvmlInit_v2); }
API nvmlInit(void) { return start(F_nvmlInit); }

API nvmlShutdown(void) {
    BEGIN(nvmlShutdown);
    initialised--;
    return leave(SUCCESS);
}

/* Readings of a device -------------------------------------------------------------------------------------------- */

/* A MIG device's own keys begin with migN. */
static const char *key_of(nvmlDevice_t device, const char *key, char buffer[160]) {
    if (device->mig < 0) return key;
    snprintf(buffer, 160, "mig%d.%s", device->mig, key);
    return buffer;
}

const char *text_of(nvmlDevice_t device, const char *key) {
    char buffer[160];
    return scenario_text(device->gpu, key_of(device, key, buffer));
}

nvmlReturn_t get_number(nvmlDevice_t device, const char *key, Number *number) {
    char buffer[160];
    return scenario_number(device->gpu, key_of(device, key, buffer), number);
}

#define GET(name, type)                                                                                               \
    nvmlReturn_t name(nvmlDevice_t device, const char *key, type *value) {                                            \
        if (!value) return INVALID_ARGUMENT;                                                                          \
        Number number;                                                                                                \
        nvmlReturn_t result = get_number(device, key, &number);                                                       \
        if (result == SUCCESS) *value = (type)number.whole;                                                           \
        return result;                                                                                                \
    }
GET(get_u32, uint32_t)
GET(get_i32, int32_t)
GET(get_u64, uint64_t)

nvmlReturn_t get_text(nvmlDevice_t device, const char *key, char *text, uint32_t length) {
    if (!text) return INVALID_ARGUMENT;
    const char *found = text_of(device, key);
    if (!found) return NOT_SUPPORTED;
    if (found[0] == '!') return atoi(found + 1);
    if (strlen(found) >= length) return INSUFFICIENT_SIZE;
    strcpy(text, found);
    return SUCCESS;
}

nvmlReturn_t get_numbered(nvmlDevice_t device, const char *family, unsigned number, const char *key, long long *value) {
    char name[128];
    Number found = {0};
    snprintf(name, sizeof name, "%s%u.%s", family, number, key);
    nvmlReturn_t result = get_number(device, name, &found);
    if (result == NOT_SUPPORTED && !text_of(device, name)) {
        snprintf(name, sizeof name, "%s*.%s", family, key);
        result = get_number(device, name, &found);
    }
    *value = found.whole;
    return result;
}
