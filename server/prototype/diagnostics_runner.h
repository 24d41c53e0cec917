/* Runs diagnostics on libuv's thread pool, one pass at a time. A pass costs O(K^2 D); so that it never takes more
 * than about a quarter of one core, the next starts no sooner than three times its duration after its end. What was
 * wanted in the meantime is done then, on the version that is newest then. The loop copies what a pass needs, rows
 * that changed since the pass before, in pieces of DIAGNOSTICS_TURN_BYTES, one in each turn, so that no step of a
 * large mixture waits for longer than a piece takes. While there is more, the loop does not sleep. */
#ifndef DECANT_SERVER_PROTOTYPE_DIAGNOSTICS_RUNNER_H
#define DECANT_SERVER_PROTOTYPE_DIAGNOSTICS_RUNNER_H

#include <stdbool.h>
#include <uv.h>
#include "server/prototype/diagnostics.h"

enum { DIAGNOSTICS_TURN_BYTES = 1 << 20 /* of rows at most: some 0.3 ms */ };

struct diagnostics_runner {
    uv_loop_t *loop;
    uv_work_t work;
    uv_idle_t idle; /* runs while there is more to copy; open from the first time until diagnostics_runner_end */
    bool idle_open;
    bool busy;
    bool wanted;  /* a pass should start as soon as one may */
    bool rewound; /* while busy: forget the input afterwards */
    bool leaving; /* no step waits any more: copy at once */
    uint64_t started_ms, rest_until_ms;
    _Atomic uint64_t end_ms; /* of uv_hrtime: a pass that has not ended by then is given up; 0: none */
    struct diagnostics_input input;
    int rc;                     /* of the job */
    struct diagnostics *result; /* of the job; NULL when memory ran out, or it was given up */
    /* On the loop after each pass; takes over d, which is NULL when there is no result. */
    void (*on_result)(void *arg, struct diagnostics *d);
    void (*again)(void *arg); /* on the loop, in a turn of its own: should poll */
    void *arg;
};

/* Starts the wanted pass if the runner is idle and rested, or copies a part of what it needs. Call after setting
 * `wanted`, and in each turn. 0 or ERR_MEMORY. */
int diagnostics_runner_poll(struct diagnostics_runner *r, const struct mixture *m, uint32_t window);

/* The mixture has gone back to an earlier version. */
void diagnostics_runner_rewound(struct diagnostics_runner *r);
/* From now on passes have this long to end, and the next one's input is copied at once. Always call it before the
 * loop is to end. */
void diagnostics_runner_end(struct diagnostics_runner *r, uint64_t within_ms);
void diagnostics_runner_fini(struct diagnostics_runner *r);

#endif
