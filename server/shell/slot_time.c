/* Gains as in RFC 6298: 1/8 for the mean, 1/4 for the deviation. */
#include "server/shell/slot_time.h"

#include <math.h>

enum { MISSED_MAX = 16 }; /* doublings; beyond net.lease_ms anyway */

void slot_time_note(struct slot_time *t, double ms)
{
    if (!t->known) {
        *t = (struct slot_time){.known = true, .mean_ms = ms, .deviation_ms = ms / 2};
        return;
    }
    t->deviation_ms += (fabs(ms - t->mean_ms) - t->deviation_ms) / 4;
    t->mean_ms += (ms - t->mean_ms) / 8;
    t->missed = 0;
}

void slot_time_missed(struct slot_time *t)
{
    if (t->missed < MISSED_MAX)
        t->missed++;
}

static double late_ms(const struct slot_time *t)
{
    return 2 * t->mean_ms + 4 * t->deviation_ms;
}

uint64_t slot_time_late_ms(const struct slot_time *t)
{
    return t->known ? (uint64_t)late_ms(t) : UINT64_MAX;
}

uint64_t slot_time_lease_ms(const struct slot_time *t, uint64_t max_ms)
{
    if (!t->known)
        return max_ms;
    double ms = ldexp(late_ms(t), (int)t->missed);
    if (ms < LEASE_MIN_MS)
        ms = LEASE_MIN_MS;
    return ms < (double)max_ms ? (uint64_t)ms : max_ms;
}
