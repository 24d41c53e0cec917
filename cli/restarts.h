/* May a process that died be started again? One that was killed from outside (a signal: the operator, the kernel short
 * of memory, a chaos test) nearly always; one that ended by itself with an error a few times, since a fault that
 * repeats is not cured by restarts. Two measures, and either is enough for a no: how many deaths there were lately, and
 * how many since the work last got ahead. The second counts what is recomputed: a process that dies every two minutes
 * short of its next checkpoint would otherwise compute the same steps for ever. */
#ifndef DECANT_CLI_RESTARTS_H
#define DECANT_CLI_RESTARTS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RESTARTS_WINDOW_MS = 60000,
    RESTARTS_FAILED_MAX = 3,  /* exits with an error within the window, or without progress */
    RESTARTS_KILLED_MAX = 20, /* ends by a signal, likewise */
};

enum death { DEATH_KILLED, DEATH_FAILED };

struct restarts {
    uint64_t killed_ms[RESTARTS_KILLED_MAX], failed_ms[RESTARTS_FAILED_MAX]; /* rings; 0 = unused */
    unsigned killed, failed;                                                 /* so far */
    uint64_t progress;                                                       /* furthest step at a death */
    unsigned killed_since, failed_since;                                     /* deaths since it was reached */
};

/* Notes a death at now_ms (> 0) and says whether to start again. progress: the step that a new start would not have to
 * compute again. */
bool restarts_after(struct restarts *r, enum death why, uint64_t now_ms, uint64_t progress);

#endif
