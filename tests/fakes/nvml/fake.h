/* What the parts of the fake share: the scenario, and how every exported call begins and ends. */
#ifndef FAKE_NVML_FAKE_H
#define FAKE_NVML_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "abi.h"

enum { MAX_GPUS = 32, MAX_MIG = 8, SYSTEM = -1 };

/* Every exported function by name, so that faults, delays and counts of calls are arrays. */
enum Function {
#define F(name) F_##name,
#include "functions.def"
#undef F
    FUNCTIONS
};
extern const char *const function_names[FUNCTIONS];

/* A handle: a GPU, or a MIG device of one (mig >= 0). */
typedef struct { int gpu, mig; } Device;
typedef Device *nvmlDevice_t;

/* A number of the scenario: `whole` is what it is without its fraction, if it has any. */
typedef struct { double real; long long whole; bool is_whole; } Number;

/* scenario.c ---------------------------------------------------------------------------------------------------- */

/* Faults of one GPU, or of the system: -1 stands for none. */
typedef struct {
    int ret[FUNCTIONS], ret_all;
    long long after[FUNCTIONS], after_all, delay_us[FUNCTIONS], delay_all;
} Faults;

/* Read the file named by FAKE_NVML_SCENARIO and start its clock. */
nvmlReturn_t scenario_open(void);
/* Take up an edit of the file, or the next line `at …`, where one is due. */
void scenario_refresh(void);
int scenario_count(void);
double scenario_seconds(void);
const Faults *scenario_faults(int gpu);
/* Text of a key, NULL where it is absent. gpu may be SYSTEM. */
const char *scenario_text(int gpu, const char *key);
/* NOT_SUPPORTED where the key is absent, N where its text is !N. */
nvmlReturn_t scenario_number(int gpu, const char *key, Number *number);
bool scenario_has_scopes(int gpu);

/* core.c -------------------------------------------------------------------------------------------------------- */

extern Device devices[MAX_GPUS][1 + MAX_MIG];

/* Count the call, wait as the scenario says, and answer its fault; the lock is held where SUCCESS comes back. */
nvmlReturn_t begin(enum Function function);
nvmlReturn_t begin_device(enum Function function, nvmlDevice_t device);
nvmlReturn_t begin_gpu(enum Function function, int gpu);
nvmlReturn_t leave(nvmlReturn_t result);
void lock(void);
void unlock(void);

#define API __attribute__((visibility("default"))) nvmlReturn_t
#define BEGIN(name)                                                                                                   \
    do {                                                                                                              \
        nvmlReturn_t fault_ = begin(F_##name);                                                                        \
        if (fault_ != SUCCESS) return fault_;                                                                         \
    } while (0)
#define BEGIN_DEVICE(name, device)                                                                                    \
    do {                                                                                                              \
        nvmlReturn_t fault_ = begin_device(F_##name, device);                                                         \
        if (fault_ != SUCCESS) return fault_;                                                                         \
    } while (0)

/* Readings of a device; the lock is held. */
const char *text_of(nvmlDevice_t device, const char *key);
nvmlReturn_t get_u32(nvmlDevice_t device, const char *key, uint32_t *value);
nvmlReturn_t get_i32(nvmlDevice_t device, const char *key, int32_t *value);
nvmlReturn_t get_u64(nvmlDevice_t device, const char *key, uint64_t *value);
nvmlReturn_t get_number(nvmlDevice_t device, const char *key, Number *number);
nvmlReturn_t get_text(nvmlDevice_t device, const char *key, char *text, uint32_t length);
/* A key with a number in it, such as nvlink3.state; nvlink*.state stands for every one. */
nvmlReturn_t get_numbered(nvmlDevice_t device, const char *family, unsigned number, const char *key, long long *value);

#endif
