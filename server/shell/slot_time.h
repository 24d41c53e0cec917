/* How long a worker takes from a lease to the gradient, so that a lease may run out soon after its worker died and not
 * before a slow one is done. The estimator is that of TCP's retransmission timer (RFC 6298): a smoothed mean and mean
 * deviation, and a doubling each time that the estimate proved too short. */
#ifndef DECANT_SERVER_SHELL_SLOT_TIME_H
#define DECANT_SERVER_SHELL_SLOT_TIME_H

#include <stdbool.h>
#include <stdint.h>

enum { LEASE_MIN_MS = 500 /* a busy machine may pause a worker that long; an early second lease only wastes work */ };

struct slot_time {
    bool known; /* a slot was done */
    double mean_ms, deviation_ms;
    unsigned missed; /* leases that ran out since */
};

void slot_time_note(struct slot_time *t, double ms);
void slot_time_missed(struct slot_time *t);
/* When a slot is unusually late: after twice the mean and four deviations; UINT64_MAX when nothing is known. */
uint64_t slot_time_late_ms(const struct slot_time *t);
/* slot_time_late_ms, doubled for each lease missed, from LEASE_MIN_MS to max_ms; max_ms when nothing
 * is known. */
uint64_t slot_time_lease_ms(const struct slot_time *t, uint64_t max_ms);

#endif
