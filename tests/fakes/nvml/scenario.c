/* The scenario file: `key = value` lines, read again when the file changes, and lines `at 5s key = value` that come
 * into force as time goes by. README.md in this folder lists the keys. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

enum { EVERY_GPU = -2, CHECK_EVERY_MS = 50 };

typedef struct {
    double at; /* seconds after the clock started, negative for a line without `at` */
    int gpu, number;
    char *key, *value;
} Line;

/* A number is a sum of terms: constants, i*K (times the GPU's index) and K/s (times the seconds gone by). */
typedef struct {
    char *key, *text;
    double base, per_second;
    long long whole;
    bool is_number, is_whole;
} Entry;

typedef struct { Entry *slots; size_t mask; } Table;

enum { MAX_FILES = 8 };
typedef struct { /* a file and what it includes; the lines point into the buffers */
    char *buffers[MAX_FILES];
    Line *lines;
    size_t files, count, room;
} Text;

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

static const char *const KNOWN[] = {
#include "keys.def"
};

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

/* Reading the file ----------------------------------------------------------------------------------------------- */

static char *trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = '\0';
    return text;
}

static bool known(const char *key) {
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (fnmatch(KNOWN[i], key, 0) == 0) return true;
    return false;
}

static int function_of(const char *name) {
    if (strcmp(name, "*") == 0) return FUNCTIONS;
    for (int i = 0; i < FUNCTIONS; i++)
        if (strcmp(function_names[i], name) == 0) return i;
    return -1;
}

static const char *const FAULT_KEYS[] = {"ret.", "after.", "delay_us."};

static bool is_fault(const char *key) {
    for (size_t i = 0; i < 3; i++)
        if (strncmp(key, FAULT_KEYS[i], strlen(FAULT_KEYS[i])) == 0) return true;
    return strcmp(key, "after") == 0;
}

/* Split one line in place; NULL where it is well formed, otherwise what is wrong with it. */
static const char *parse_line(char *text, Line *line) {
    line->at = -1;
    if (strncmp(text, "at ", 3) == 0) {
        char *end;
        line->at = strtod(text + 3, &end);
        if (end == text + 3 || *end != 's' || line->at < 0) return "`at` wants seconds, such as `at 5s key = value`";
        text = trim(end + 1);
    }
    char *equals = strchr(text, '=');
    if (!equals) return "no `=`";
    *equals = '\0';
    line->key = trim(text);
    line->value = trim(equals + 1);
    line->gpu = SYSTEM;
    if (strncmp(line->key, "gpu*.", 5) == 0) {
        line->gpu = EVERY_GPU;
        line->key += 5;
    } else if (strncmp(line->key, "gpu", 3) == 0 && isdigit((unsigned char)line->key[3])) {
        char *end;
        line->gpu = (int)strtol(line->key + 3, &end, 10);
        if (*end != '.' || line->gpu >= MAX_GPUS) return "a GPU is gpu0 to gpu31";
        line->key = end + 1;
    }
    if (is_fault(line->key)) {
        const char *dot = strchr(line->key, '.');
        return dot && function_of(dot + 1) < 0 ? "no such function" : NULL;
    }
    char name[256];
    snprintf(name, sizeof name, "%s%s", line->gpu == SYSTEM ? "system." : "", line->key);
    return known(name) ? NULL : "no such key";
}

static char *read_all(const char *path, struct stat *status) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    char *buffer = NULL;
    if (file < 0 || fstat(file, status) != 0 || !(buffer = malloc((size_t)status->st_size + 1))) {
        fprintf(stderr, "fake nvml: %s: %s\n", path, strerror(errno));
        if (file >= 0) close(file);
        return NULL;
    }
    size_t have = 0;
    ssize_t got;
    while ((got = read(file, buffer + have, (size_t)status->st_size - have)) > 0) have += (size_t)got;
    buffer[have] = '\0';
    close(file);
    return buffer;
}

static void drop(Text *text) {
    for (size_t i = 0; i < text->files; i++) free(text->buffers[i]);
    free(text->lines);
    *text = (Text){0};
}

static bool add_line(Text *text, const Line *line) {
    if (text->count == text->room) {
        text->room = text->room ? 2 * text->room : 128;
        Line *lines = realloc(text->lines, text->room * sizeof *lines);
        if (!lines) return false;
        text->lines = lines;
    }
    text->lines[text->count++] = *line;
    return true;
}

static void drop_comment(char *line) {
    for (char *at = line; (at = strchr(at, '#')); at++)
        if (at == line || isspace((unsigned char)at[-1])) {
            *at = '\0';
            return;
        }
}

static bool parse_file(Text *text, const char *path, struct stat *status);

/* `include = name` takes in a file beside this one; edits of it are seen when this one changes. */
static bool include(Text *text, const char *path, const char *name) {
    char other[4096];
    struct stat status;
    const char *slash = strrchr(path, '/');
    int length = snprintf(other, sizeof other, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, name);
    return length > 0 && (size_t)length < sizeof other && parse_file(text, other, &status);
}

static bool parse_file(Text *text, const char *path, struct stat *status) {
    char *buffer = text->files < MAX_FILES ? read_all(path, status) : NULL;
    if (!buffer) return false;
    text->buffers[text->files++] = buffer;
    int number = 0;
    for (char *next = buffer, *raw; (raw = strsep(&next, "\n"));) {
        Line line;
        number++;
        drop_comment(raw);
        raw = trim(raw);
        if (!*raw) continue;
        const char *wrong = parse_line(raw, &line);
        if (wrong) {
            fprintf(stderr, "fake nvml: %s:%d: %s: %s\n", path, number, wrong, raw);
            return false;
        }
        line.number = number;
        bool included = line.gpu == SYSTEM && strcmp(line.key, "include") == 0;
        if (!(included ? include(text, path, line.value) : add_line(text, &line))) return false;
    }
    return true;
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
}

static void clear(void) {
    for (int i = 0; i <= MAX_GPUS; i++) {
        Table *table = &now.tables[i];
        for (size_t at = 0; table->slots && at <= table->mask; at++) free(table->slots[at].text);
        free(table->slots);
        size_t size = 64;
        while (size < 2 * now.text.count + 2) size *= 2;
        table->slots = calloc(size, sizeof *table->slots);
        table->mask = size - 1;
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
    if (!parse_file(&text, now.path, &now.seen)) {
        drop(&text);
        return false;
    }
    Text old = now.text;
    now.text = text;
    rebuild();
    drop(&old);
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

nvmlReturn_t scenario_real(int gpu, const char *key, double *value, bool *whole) {
    const Entry *entry = find(gpu, key);
    if (!entry) return NOT_SUPPORTED;
    if (entry->text[0] == '!') return atoi(entry->text + 1);
    if (!entry->is_number) {
        fprintf(stderr, "fake nvml: %s: %s is no number: %s\n", now.path, key, entry->text);
        return UNKNOWN;
    }
    *value = entry->base + (entry->per_second != 0 ? entry->per_second * scenario_seconds() : 0);
    *whole = entry->is_whole;
    return SUCCESS;
}

nvmlReturn_t scenario_integer(int gpu, const char *key, long long *value) {
    const Entry *entry = find(gpu, key);
    double real;
    bool whole;
    nvmlReturn_t result = scenario_real(gpu, key, &real, &whole);
    if (result != SUCCESS) return result;
    *value = entry->per_second == 0 && whole ? entry->whole : (long long)real;
    return SUCCESS;
}
