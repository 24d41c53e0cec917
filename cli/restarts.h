/* May a process that died be started again? One that was killed from outside (a signal: the operator, the kernel short
 * of memory, a chaos test) nearly always; one that ended by itself with an error a few times, since a fault that
 * repeats is not cured by restarts; one that found its command line or configuration wrong never. */
#ifndef DECANT_CLI_RESTARTS_H
#define DECANT_CLI_RESTARTS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RESTARTS_WINDOW_MS = 60000,
    RESTARTS_FAILED_MAX = 3,  /* exits with an error within the window */
    RESTARTS_KILLED_MAX = 20, /* ends by a signal within the window */
};

enum death { DEATH_KILLED, DEATH_FAILED, DEATH_USAGE };

struct restarts {
    uint64_t killed_ms[RESTARTS_KILLED_MAX], failed_ms[RESTARTS_FAILED_MAX]; /* rings; 0 = unused */
    unsigned killed, failed;                                                 /* so far */
};

/* Notes a death at now_ms (> 0) and says whether to start again. */
bool restarts_after(struct restarts *r, enum death why, uint64_t now_ms);

#endif
