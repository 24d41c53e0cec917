/* OUT/metrics-SERVER.jsonl: one JSON object a line, appended as the run goes on. A line is there whole or not at all:
 * what a write leaves behind that fails half way, or a process that was killed, is cut off before the next one, so that
 * readers find lines only. A full disk costs the lines of that time and no more; it is said once, and once when it is
 * over. On the loop; a line is one write(2). */
#ifndef DECANT_SERVER_SHELL_METRICS_FILE_H
#define DECANT_SERVER_SHELL_METRICS_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/error.h"
#include "proto/server.h"

struct metrics_file {
    uint64_t lost; /* lines that could not be written */
    /* private */
    int fd;       /* -1: not open */
    off_t whole;  /* bytes of whole lines */
    bool failing; /* the newest line was lost */
};

/* Not open: lines are dropped. */
#define METRICS_FILE_CLOSED ((struct metrics_file){.fd = -1})

/* fresh: an older file is emptied; else it goes on behind its last whole line. */
int metrics_file_open(struct metrics_file *f, const char *out, enum server server, bool fresh, struct error *e);
/* line: without its newline; NULL when there was no memory for it, which counts as lost. */
void metrics_file_append(struct metrics_file *f, const char *line);
void metrics_file_close(struct metrics_file *f); /* closed ones too */

#endif
