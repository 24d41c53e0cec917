/* The Redis mirror's connection: one way, best effort, never in the way. It watches the core on the core's own loop,
 * copies what changed every `interval_s`, and writes it in a bounded pipeline (mirror_script.h). While a copy is being
 * written no other is taken: a slow Redis sees fewer, newer states. A server that finds that a newer one of the run
 * writes there stands back and looks again now and then. A Redis that is gone is tried again with growing, jittered
 * pauses and then gets everything afresh. What listens there is asked who it is before anything is written
 * (mirror_greeting.h), and is believed nothing (redis_link.h): bytes, time and log lines of a stranger are bounded.
 * Decisions are in mirror_policy.h. */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_H

#include <uv.h>
#include "common/error.h"
#include "proto/redis_address.h"
#include "server/prototype/core.h"
#include "server/prototype/mirror_queue.h"

struct mirror;

struct mirror_options {
    const char *run; /* kept by reference */
    struct redis_address address;
    double interval_s;
    const struct prototype_core *core; /* outlives the mirror */
};

/* For those who watch. */
struct mirror_status {
    bool connected;
    bool superseded;           /* a newer server of the run holds the mirror; this one does not write */
    double age_s;              /* of what Redis shows; before the first update: since the start */
    double lag_s;              /* how long the newest update took, from copy to last reply */
    uint64_t updates, refused; /* updates taken whole; updates of which Redis refused a part */
    uint64_t lost;             /* connections that failed or were given up */
    uint64_t dropped;          /* metrics and events lost because Redis was away */
};

int mirror_new(uv_loop_t *loop, const struct mirror_options *o, struct mirror **out, struct error *e);
/* The newest diagnostics; owned by the caller and valid until replaced or until the mirror is freed. */
void mirror_set_diagnostics(struct mirror *m, const struct diagnostics *d);
/* The core went back to an earlier version: everything is written again. */
void mirror_rewound(struct mirror *m);
/* Where metrics and events are added (mirror_queue.h). NULL of a NULL mirror. */
struct mirror_queue *mirror_queue(struct mirror *m);
/* Writes the final state if Redis is there and quick (at most a second), closes, then calls done once. */
void mirror_stop(struct mirror *m, void (*done)(void *arg), void *arg);
void mirror_status(const struct mirror *m, struct mirror_status *out);
void mirror_free(struct mirror **out); /* after done; NULL-safe */

#endif
