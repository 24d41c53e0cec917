/* How far a run has come on disk. */
#ifndef DECANT_CLI_RUN_PROGRESS_H
#define DECANT_CLI_RUN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/run_config.h"

struct run_progress {
    bool any;       /* there is a checkpoint of which all files exist */
    uint64_t step;  /* of the newest one; 0 without */
    uint64_t total; /* steps of the run, as that checkpoint says; 0 when it cannot be read */
};

void run_progress_read(const struct run_config *c, struct run_progress *out);
/* The last step is on disk. */
/* The newest step whose files are whole and undamaged, all of which are read: what servers resume from. */
bool run_progress_sound(const struct run_config *c, uint64_t *step);
bool run_progress_complete(const struct run_progress *p);

#endif
