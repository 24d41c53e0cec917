/* The commands that bring Redis from what it holds to a mirror_state, one at a time and in order, so that sending can
 * be paced. Keys and fields: docs/REDIS.md.
 *
 * Consistency: `writing` is set to the version first, then prototypes and indices, and `version` last, together with
 * all other figures. A reader that finds version == writing before and after has seen one version. A transaction would
 * promise the same, but holding 65 536 prototypes in one stops Redis for everyone else: commands go in batches
 * (mirror_batch.h) that may end anywhere but where mirror_script_joined says. */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_SCRIPT_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_SCRIPT_H

#include "server/prototype/mirror_queue.h"
#include "server/prototype/mirror_state.h"
#include "server/prototype/redis_command.h"

struct mirror_script_options {
    const char *run;
    const struct mirror_state *state;
    struct mirror_queue *queue; /* records are taken out as they are sent: at most once */
    const char *started;        /* the server's start, ISO 8601 */
    uint32_t ttl_s;             /* of what is only true while the mirror is kept: workers, live */
    double lag_ms;              /* how long the sync before took, from copy to last reply */
};

struct mirror_script {
    struct mirror_script_options o;
    uint32_t phase, cursor;
};

void mirror_script_begin(struct mirror_script *s, const struct mirror_script_options *o);
/* Builds the next command into c (redis_command_end is the caller's). False when there is none left. */
bool mirror_script_next(struct mirror_script *s, struct redis_command *c);
/* The next command must be in the batch of the one before. */
bool mirror_script_joined(const struct mirror_script *s);

enum { MIRROR_TIME_MAX = 40 };
/* ISO 8601, UTC, milliseconds. */
void mirror_time(double unix_s, char out[MIRROR_TIME_MAX]);

#endif
