/* The scenario file as lines. README.md in this folder says what they mean. */
#ifndef FAKE_NVML_LINES_H
#define FAKE_NVML_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

enum { EVERY_GPU = -2, MAX_FILES = 8 };

typedef struct {
    double at; /* seconds after the clock started, negative for a line without `at` */
    int gpu;
    char *key, *value;
} Line;

typedef struct { /* a file and what it includes; the lines point into the buffers */
    char *buffers[MAX_FILES];
    Line *lines;
    size_t files, count, room;
} Text;

/* Read a file and what it includes; where it is not well formed, false and a line on stderr. */
bool lines_read(Text *text, const char *path, struct stat *status);
void lines_drop(Text *text);
/* The function that a key such as ret.nvmlInit names, FUNCTIONS for *, -1 for none. */
int function_of(const char *name);
/* Is this a key of faults: ret., after., delay_us.? */
bool is_fault(const char *key);

#endif
