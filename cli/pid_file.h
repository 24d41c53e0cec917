/* OUT/pids: which processes work on a run's directory, one "NAME PID" a line, so that a second launcher does not start
 * beside them, nor beside those that a killed launcher left behind. */
#ifndef DECANT_CLI_PID_FILE_H
#define DECANT_CLI_PID_FILE_H

#include <stddef.h>
#include <sys/types.h>
#include "common/error.h"

struct pid_entry {
    const char *name;
    pid_t pid;
};

/* ERR_STATE, with the numbers and what to do, when one of the processes listed is alive and at work in this directory;
 * those of a launcher that was killed end by themselves, and are given patience_ms for it. ERR_IO when the list cannot
 * be read. 0 otherwise, also without a file. */
int pid_file_check(const char *out, unsigned patience_ms, struct error *e);
int pid_file_write(const char *out, const struct pid_entry *entries, size_t n, struct error *e);
void pid_file_remove(const char *out);

#endif
