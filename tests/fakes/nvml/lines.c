/* The scenario file as lines: `key = value`, `at 5s key = value`, `include = file`. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"
#include "lines.h"

static const char *const KNOWN[] = {
#include "keys.def"
};

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

int function_of(const char *name) {
    if (strcmp(name, "*") == 0) return FUNCTIONS;
    for (int i = 0; i < FUNCTIONS; i++)
        if (strcmp(function_names[i], name) == 0) return i;
    return -1;
}

static const char *const FAULT_KEYS[] = {"ret.", "after.", "delay_us."};

bool is_fault(const char *key) {
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

void lines_drop(Text *text) {
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

/* `include = name` takes in a file beside this one; edits of it are seen when this one changes. */
static bool include(Text *text, const char *path, const char *name) {
    char other[4096];
    struct stat status;
    const char *slash = strrchr(path, '/');
    int length = snprintf(other, sizeof other, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, name);
    return length > 0 && (size_t)length < sizeof other && lines_read(text, other, &status);
}

bool lines_read(Text *text, const char *path, struct stat *status) {
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
        bool included = line.gpu == SYSTEM && strcmp(line.key, "include") == 0;
        if (!(included ? include(text, path, line.value) : add_line(text, &line))) return false;
    }
    return true;
}
