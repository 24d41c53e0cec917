/* Two rings: a ring that is full and whose oldest entry is still within the window is a no. */
#include "cli/restarts.h"

#include <stddef.h>

static bool note(uint64_t *ring, unsigned size, unsigned *count, uint64_t now_ms)
{
    uint64_t *oldest = &ring[(*count)++ % size];
    bool few = *oldest == 0 || now_ms - *oldest > RESTARTS_WINDOW_MS;
    *oldest = now_ms;
    return few;
}

bool restarts_after(struct restarts *r, enum death why, uint64_t now_ms, uint64_t progress)
{
    if (progress > r->progress) {
        r->progress = progress;
        r->killed_since = r->failed_since = 0;
    }
    if (why == DEATH_KILLED)
        return note(r->killed_ms, RESTARTS_KILLED_MAX, &r->killed, now_ms) && ++r->killed_since <= RESTARTS_KILLED_MAX;
    return note(r->failed_ms, RESTARTS_FAILED_MAX, &r->failed, now_ms) && ++r->failed_since <= RESTARTS_FAILED_MAX;
}
