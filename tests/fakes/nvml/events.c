/* Events: `xid = 63,79` and `events = type:data, …` are lists that only grow. A set gets each item once, in order, from
 * the first one that no earlier set of this process was given; the library keeps no history, so it starts anew where a
 * list no longer begins as it did. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fake.h"

enum { XID = 0x8, MAX_ITEMS = 64, LISTS = 2 };

static const char *const KEYS[LISTS] = {"xid", "events"};

typedef struct { uint64_t type, data; uint32_t gpu_instance, compute_instance; } Item;
typedef struct Set {
    struct Set *next;
    uint64_t types[MAX_GPUS];
    size_t given[MAX_GPUS][LISTS];
    char seen[MAX_GPUS][LISTS][256];
} Set;

static Set *sets;
static size_t delivered[MAX_GPUS][LISTS]; /* by any set so far */

/* An Xid is `63` or `63:gpu instance:compute instance`; another event `type:data`. */
static size_t items_of(int gpu, int which, Item items[MAX_ITEMS]) {
    const char *text = scenario_text(gpu, KEYS[which]);
    size_t count = 0;
    while (text && *text && count < MAX_ITEMS) {
        char *rest;
        unsigned long long numbers[3] = {0, UINT32_MAX, UINT32_MAX};
        for (int i = 0; i < 3; i++) {
            numbers[i] = strtoull(text, &rest, 0);
            if (rest == text) return count;
            text = rest;
            if (*text != ':') break;
            text++;
        }
        items[count++] = which == 0 ? (Item){XID, numbers[0], (uint32_t)numbers[1], (uint32_t)numbers[2]}
                                    : (Item){numbers[0], numbers[1], UINT32_MAX, UINT32_MAX};
        while (*text == ' ' || *text == ',') text++;
    }
    return count;
}

static nvmlReturn_t supported(nvmlDevice_t device, uint64_t *types) {
    nvmlReturn_t result = get_u64(device, "events.supported", types);
    if (result == NOT_SUPPORTED && text_of(device, "xid")) return *types = XID, SUCCESS;
    return result;
}

API nvmlEventSetCreate(Set **set) {
    BEGIN(nvmlEventSetCreate);
    if (!set) return leave(INVALID_ARGUMENT);
    *set = calloc(1, sizeof **set);
    if (!*set) return leave(MEMORY);
    (*set)->next = sets;
    sets = *set;
    return leave(SUCCESS);
}

API nvmlEventSetFree(Set *set) {
    BEGIN(nvmlEventSetFree);
    for (Set **at = &sets; *at; at = &(*at)->next)
        if (*at == set) {
            *at = set->next;
            free(set);
            return leave(SUCCESS);
        }
    return leave(INVALID_ARGUMENT);
}

API nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, uint64_t *types) {
    BEGIN_DEVICE(nvmlDeviceGetSupportedEventTypes, device);
    return leave(types ? supported(device, types) : INVALID_ARGUMENT);
}

API nvmlDeviceRegisterEvents(nvmlDevice_t device, uint64_t types, Set *set) {
    BEGIN_DEVICE(nvmlDeviceRegisterEvents, device);
    uint64_t all = 0;
    if (!set || device->mig >= 0) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = supported(device, &all);
    if (result != SUCCESS) return leave(result);
    if (types & ~all) return leave(NOT_SUPPORTED);
    if (!set->types[device->gpu]) memcpy(set->given[device->gpu], delivered[device->gpu], sizeof delivered[0]);
    set->types[device->gpu] |= types;
    return leave(SUCCESS);
}

static bool next_of(Set *set, int gpu, int which, Item *item) {
    Item items[MAX_ITEMS];
    const char *text = scenario_text(gpu, KEYS[which]);
    char *seen = set->seen[gpu][which];
    if (!text) text = "";
    if (strncmp(text, seen, strlen(seen)) != 0) set->given[gpu][which] = delivered[gpu][which] = 0;
    strncpy(seen, text, sizeof set->seen[gpu][which] - 1);
    size_t count = items_of(gpu, which, items), *given = &set->given[gpu][which];
    while (*given < count) {
        *item = items[(*given)++];
        if (*given > delivered[gpu][which]) delivered[gpu][which] = *given;
        if (set->types[gpu] & item->type) return true;
    }
    return false;
}

static bool next_event(Set *set, EventData *data) {
    for (int gpu = 0; gpu < MAX_GPUS; gpu++)
        for (int which = 0; set->types[gpu] && which < LISTS; which++) {
            Item item;
            if (!next_of(set, gpu, which, &item)) continue;
            *data = (EventData){&devices[gpu][0], item.type, item.data, item.gpu_instance, item.compute_instance};
            return true;
        }
    return false;
}

static nvmlReturn_t wait_for(Set *set, EventData *data, unsigned timeout_ms) {
    if (!set || !data) return INVALID_ARGUMENT;
    for (unsigned waited = 0;; waited += 10) {
        scenario_refresh();
        if (next_event(set, data)) return SUCCESS;
        if (waited >= timeout_ms) return TIMEOUT;
        struct timespec time = {.tv_nsec = 10000000};
        unlock();
        nanosleep(&time, NULL);
        lock();
    }
}

API nvmlEventSetWait_v2(Set *set, EventData *data, unsigned timeout_ms) {
    BEGIN(nvmlEventSetWait_v2);
    return leave(wait_for(set, data, timeout_ms));
}

API nvmlEventSetWait(Set *set, EventDataV1 *data, unsigned timeout_ms) {
    BEGIN(nvmlEventSetWait);
    EventData full;
    if (!data) return leave(INVALID_ARGUMENT);
    nvmlReturn_t result = wait_for(set, &full, timeout_ms);
    if (result == SUCCESS) *data = (EventDataV1){full.device, full.type, full.data};
    return leave(result);
}
