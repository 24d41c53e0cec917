/* Who computes which slot of the current step, and until when. Slots are free, leased or done; requests wait in a
 * queue, in order of arrival, until slots are there: granting is pushing. Time is in milliseconds of any monotonic
 * clock. */
#ifndef DECANT_SERVER_PARAMETER_LEASES_H
#define DECANT_SERVER_PARAMETER_LEASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LEASES_REQUESTS_MAX = 1024, /* requests waiting; one per worker, and the worker table is no longer than that */
    LEASES_WANT_MAX = 1024,     /* slots requested at once; as many as a step can have */
};

struct leases;

int leases_new(uint32_t slots, struct leases **out); /* 0 or ERR_MEMORY */
void leases_free(struct leases **l);

void leases_restart(struct leases *l);                             /* a new step: every slot is free; requests stay */
void leases_done(struct leases *l, uint32_t slot, uint32_t count); /* contributions are in, whoever sent them */

/* The worker wants up to `want` more slots. Replaces its earlier request, which keeps its place; 0 withdraws it.
 * 0, or ERR_RANGE when the queue is full. */
int leases_request(struct leases *l, uint64_t worker, uint32_t want);
size_t leases_requests(const struct leases *l);
uint64_t leases_requester(const struct leases *l,
                          size_t i); /* the worker whose turn is the i-th, i < leases_requests */
bool leases_withdraw_any(struct leases *l, uint64_t *worker); /* drops the oldest request; false when there is none */

/* Leases the lowest free slots to the worker whose turn it is: [*slot, *slot + *count), the largest node of the
 * reduction tree (common/reduce.h) that is free there, is asked for, and leaves every other request its share, so that
 * none takes a step for itself; a worker sends such a node's sum as one gradient. False when there is no free slot or
 * no request. The leases have no end until leases_limit. */
bool leases_grant(struct leases *l, uint64_t now, uint64_t *worker, uint32_t *slot, uint32_t *count);
/* For an idle worker, one with a request: leases to it as well a slot that another one holds since before
 * `since_max`, the oldest first, each slot once. The first lease goes on; whoever contributes first counts. False
 * when there is none. */
bool leases_grant_backup(struct leases *l, uint64_t worker, uint64_t since_max, uint32_t *slot);
void leases_limit(struct leases *l, uint32_t slot, uint32_t count, uint64_t until);
/* The worker holds the slot; *since: when it was granted. */
bool leases_holds(const struct leases *l, uint64_t worker, uint32_t slot, uint64_t *since);

/* Frees one slot whose lease has run out and names its worker; false when there is none. */
bool leases_take_expired(struct leases *l, uint64_t now, uint64_t *worker);
/* The worker is gone: its request is dropped and its leases run out at once. Returns how many leases that were. */
uint32_t leases_drop_worker(struct leases *l, uint64_t worker);
/* Its leases run out at once, its request stays. */
uint32_t leases_revoke(struct leases *l, uint64_t worker);
/* A lease that could not be delivered: the slot is free again, unless it has meanwhile gone to another or is done. */
void leases_release(struct leases *l, uint64_t worker, uint32_t slot);

#endif
