/* What is in force now: the lines of the scenario, read again when the file changes, and those with `at 5s` as time goes
 * by. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fake.h"
#include "lines.h"

enum { CHECK_EVERY_MS = 50 };

/* A number is a sum of terms: constants, i*K (times the GPU's index) and K/s (times the seconds gone by). */
typedef struct {
    char *key, *text;
    double base, per_second;
    long long whole;
    bool is_number, is_whole;
} Entry;

typedef struct {
    Entry *slots;
    size_t mask;
    bool scopes; /* some key is field.N.SCOPE */
} Table;

static struct {
    char path[4096];
    Text text;
    Table tables[MAX_GPUS + 1]; /* the last one holds what belongs to the system */
    Faults faults[MAX_GPUS + 1];
    struct timespec started, checked;
    double next_at;
    struct stat seen;
    int count;
} now = {.next_at = -1};

static size_t hash(const char *key) {
    size_t value = 14695981039346656037u;
    for (; *key; key++) value = (value ^ (unsigned char)*key) * 1099511628211u;
    return value ^ (value >> 29);
}

static Entry *slot(const Table *table, const char *key) {
    size_t at = hash(key) & table->mask;
    while (table->slots[at].key && strcmp(table->slots[at].key, key) != 0) at = (at + 1) & table->mask;
    return &table->slots[at];
}

static const Entry *find(int gpu, const char *key) {
    const Table *table = &now.tables[gpu == SYSTEM ? MAX_GPUS : gpu];
    if (!table->slots) return NULL;
    const Entry *entry = slot(table, key);
    return entry->key && entry->text ? entry : NULL;
}

double scenario_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)(time.tv_sec - now.started.tv_sec) + 1e-9 * (double)(time.tv_nsec - now.started.tv_nsec);
}

/* From lines to what is in force now ------------------------------------------------------------------------------ */

static void parse_number(Entry *entry, int gpu) {
    const char *text = entry->text;
    double base = 0, per_second = 0;
    long long whole = 0;
    bool is_whole = true, first = true;
    while (*text) {
        int sign = 1;
        while (*text == ' ') text++;
        if (*text == '+' || *text == '-') sign = *text++ == '-' ? -1 : 1;
        else if (!first) return;
        while (*text == ' ') text++;
        bool times_index = text[0] == 'i' && text[1] == '*';
        if (times_index) text += 2;
        char *end, *real_end;
        errno = 0;
        long long integer = strtoll(text, &end, 0);
        double real = strtod(text, &real_end);
        if (end == text || errno) return;
        if (real_end > end) end = real_end, is_whole = false;
        text = end;
        if (times_index) integer *= gpu, real *= gpu;
        if (text[0] == '/' && text[1] == 's') text += 2, per_second += sign * real;
        else whole += sign * integer, base += sign * real;
        while (*text == ' ') text++;
        first = false;
    }
    entry->base = base, entry->per_second = per_second, entry->whole = whole;
    entry->is_whole = is_whole, entry->is_number = !first;
}

static void put_fault(Faults *faults, const char *key, const char *value) {
    const char *dot = strchr(key, '.');
    int function = dot ? function_of(dot + 1) : FUNCTIONS;
    bool absent = strcmp(value, "absent") == 0;
    long long number = absent ? -1 : strtoll(value, NULL, 0);
    if (strncmp(key, "ret.", 4) == 0)
        *(function == FUNCTIONS ? &faults->ret_all : &faults->ret[function]) = (int)number;
    else if (strncmp(key, "after", 5) == 0)
        *(function == FUNCTIONS ? &faults->after_all : &faults->after[function]) = number;
    else
        *(function == FUNCTIONS ? &faults->delay_all : &faults->delay_us[function]) = absent ? 0 : number;
}

static char *with_index(const char *text, int gpu) {
    char *copy = malloc(strlen(text) + 1), *out = copy; /* {i} is longer than any index */
    while (copy && *text) {
        if (strncmp(text, "{i}", 3) == 0) {
            out += sprintf(out, "%d", gpu);
            text += 3;
        } else {
            *out++ = *text++;
        }
    }
    if (copy) *out = '\0';
    return copy;
}

static void put(int gpu, const Line *line) {
    int index = gpu == SYSTEM ? MAX_GPUS : gpu;
    if (is_fault(line->key)) {
        put_fault(&now.faults[index], line->key, line->value);
        return;
    }
    Entry *entry = slot(&now.tables[index], line->key);
    free(entry->text);
    *entry = (Entry){.key = line->key};
    if (strcmp(line->value, "absent") == 0) return;
    entry->text = with_index(line->value, gpu);
    if (entry->text) parse_number(entry, gpu);
    if (strncmp(line->key, "field.", 6) == 0 && strchr(line->key + 6, '.')) now.tables[index].scopes = true;
}

static void clear(void) {
    for (int i = 0; i <= MAX_GPUS; i++) {
        Table *table = &now.tables[i];
        for (size_t at = 0; table->slots && at <= table->mask; at++) free(table->slots[at].text);
        free(table->slots);
        size_t size = 64;
        while (size < 2 * now.text.count + 2) size *= 2;
        table->slots = calloc(size, sizeof *table->slots);
        table->mask = size - 1, table->scopes = false;
        Faults *faults = &now.faults[i];
        memset(faults->ret, -1, sizeof faults->ret);
        memset(faults->after, 0, sizeof faults->after);
        memset(faults->delay_us, 0, sizeof faults->delay_us);
        faults->ret_all = -1, faults->after_all = 0, faults->delay_all = 0;
    }
}

static void put_line(const Line *line) {
    if (line->gpu != EVERY_GPU) put(line->gpu, line);
    else
        for (int gpu = 0; gpu < MAX_GPUS && gpu < now.count; gpu++) put(gpu, line);
}

static void put_lines_at(double at) {
    for (int specific = 0; specific < 2; specific++)
        for (size_t i = 0; i < now.text.count; i++)
            if (now.text.lines[i].at == at && (now.text.lines[i].gpu != EVERY_GPU) == specific) put_line(&now.text.lines[i]);
}

static double next_after(double at) {
    double next = -1;
    for (size_t i = 0; i < now.text.count; i++)
        if (now.text.lines[i].at > at && (next < 0 || now.text.lines[i].at < next)) next = now.text.lines[i].at;
    return next;
}

/* `count` decides how many GPUs a line gpu* reaches, so it is looked for first. */
static int count_at(double seconds) {
    double best = -2;
    long count = 0;
    for (size_t i = 0; i < now.text.count; i++) {
        const Line *line = &now.text.lines[i];
        if (line->gpu != SYSTEM || strcmp(line->key, "count") != 0 || line->at > seconds || line->at < best) continue;
        best = line->at, count = strtol(line->value, NULL, 0);
    }
    return count < 0 ? 0 : count > MAX_GPUS ? MAX_GPUS : (int)count;
}

static void rebuild(void) {
    double seconds = scenario_seconds();
    /* GPUs that are gone from the count keep their lines, so that handles of theirs go on failing as they should. */
    int count = count_at(seconds);
    now.count = MAX_GPUS;
    int reached = count;
    for (size_t i = 0; i < now.text.count; i++)
        if (now.text.lines[i].gpu >= reached) reached = now.text.lines[i].gpu + 1;
    now.count = reached;
    clear();
    put_lines_at(-1);
    double at = -1;
    while ((at = next_after(at)) >= 0 && at <= seconds) put_lines_at(at);
    now.next_at = at;
    now.count = count;
}

static bool load(void) {
    Text text = {0};
    /* What cannot be read is complained about once, not on every call: `seen` is what was looked at. */
    if (!lines_read(&text, now.path, &now.seen)) {
        lines_drop(&text);
        return false;
    }
    Text old = now.text;
    now.text = text;
    rebuild();
    lines_drop(&old);
    return true;
}

nvmlReturn_t scenario_open(void) {
    const char *path = getenv("FAKE_NVML_SCENARIO");
    if (!path || strlen(path) >= sizeof now.path) return DRIVER_NOT_LOADED;
    strcpy(now.path, path);
    clock_gettime(CLOCK_MONOTONIC, &now.started);
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now.checked);
    return load() ? SUCCESS : UNKNOWN;
}

static bool changed(void) {
    struct stat status;
    if (stat(now.path, &status) != 0 || status.st_size == 0) return false; /* in the middle of being written */
    return status.st_ino != now.seen.st_ino || status.st_size != now.seen.st_size ||
           status.st_mtim.tv_sec != now.seen.st_mtim.tv_sec || status.st_mtim.tv_nsec != now.seen.st_mtim.tv_nsec;
}

void scenario_refresh(void) {
    if (!now.path[0]) return;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    long long gone = (time.tv_sec - now.checked.tv_sec) * 1000 + (time.tv_nsec - now.checked.tv_nsec) / 1000000;
    if (gone >= CHECK_EVERY_MS) {
        now.checked = time;
        if (changed() && load()) return;
    }
    if (now.next_at >= 0 && scenario_seconds() >= now.next_at) rebuild();
}

/* Asking ---------------------------------------------------------------------------------------------------------- */

int scenario_count(void) { return now.count; }

const Faults *scenario_faults(int gpu) { return &now.faults[gpu == SYSTEM ? MAX_GPUS : gpu]; }

const char *scenario_text(int gpu, const char *key) {
    const Entry *entry = find(gpu, key);
    return entry ? entry->text : NULL;
}

nvmlReturn_t scenario_number(int gpu, const char *key, Number *number) {
    const Entry *entry = find(gpu, key);
    if (!entry) return NOT_SUPPORTED;
    if (entry->text[0] == '!') return atoi(entry->text + 1);
    if (!entry->is_number) {
        fprintf(stderr, "fake nvml: %s: %s is no number: %s\n", now.path, key, entry->text);
        return UNKNOWN;
    }
    *number = (Number){entry->base, entry->whole, entry->is_whole};
    if (entry->per_second != 0) {
        number->real += entry->per_second * scenario_seconds();
        number->whole = (long long)number->real;
    } else if (!entry->is_whole) {
        number->whole = (long long)number->real;
    }
    return SUCCESS;
}

bool scenario_has_scopes(int gpu) { return now.tables[gpu].scopes; }
