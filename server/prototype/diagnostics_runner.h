/* Runs diagnostics on libuv's thread pool, one pass at a time. A pass costs O(K^2 D); so that it never takes more than
 * about a quarter of one core, the next starts no sooner than three times its duration after its end. What was wanted
 * in the meantime is done then, on the version that is newest then. */
#ifndef DECANT_SERVER_PROTOTYPE_DIAGNOSTICS_RUNNER_H
#define DECANT_SERVER_PROTOTYPE_DIAGNOSTICS_RUNNER_H

#include <stdbool.h>
#include <uv.h>
#include "server/prototype/diagnostics.h"

struct diagnostics_runner {
    uv_loop_t *loop;
    uv_work_t work;
    bool busy;
    bool wanted; /* a pass should start as soon as one may */
    uint64_t started_ms, rest_until_ms;
    struct diagnostics_input input;
    struct diagnostics *result; /* of the job; NULL when memory ran out */
    /* On the loop after each pass; takes over d, which is NULL when memory ran out. */
    void (*on_result)(void *arg, struct diagnostics *d);
    void *arg;
};

/* Starts the wanted pass if the runner is idle and rested. Call after setting `wanted`, and now and then. 0 or
 * ERR_MEMORY. */
int diagnostics_runner_poll(struct diagnostics_runner *r, const struct mixture *m, uint32_t window);

#endif
