/* Both tables are small (at most 1024 slots and as many requests), so that scans and moves of the queue cost nothing
 * next to a gradient. */
#include "server/parameter/leases.h"

#include <stdlib.h>
#include <string.h>
#include "common/error.h"

enum slot_state { SLOT_FREE, SLOT_LEASED, SLOT_DONE };

struct lease {
    enum slot_state state;
    uint64_t worker; /* holder, of SLOT_LEASED */
    uint64_t since;  /* granted then, of SLOT_LEASED */
    uint64_t until;  /* runs out then, of SLOT_LEASED */
    bool shared;     /* somebody else works on it too, of SLOT_LEASED */
};

struct lease_request {
    uint64_t worker;
    uint32_t want; /* > 0 */
};

struct leases {
    struct lease_request requests[LEASES_REQUESTS_MAX]; /* [0] has the next turn */
    size_t request_count;
    uint32_t slots;
    struct lease table[]; /* (slots) */
};

int leases_new(uint32_t slots, struct leases **out)
{
    ASSERT(slots > 0);
    struct leases *l = calloc(1, sizeof *l + slots * sizeof l->table[0]);
    if (l == NULL)
        return ERR_MEMORY;
    l->slots = slots;
    *out = l;
    return 0;
}

void leases_free(struct leases **l)
{
    free(*l);
    *l = NULL;
}

void leases_restart(struct leases *l)
{
    memset(l->table, 0, l->slots * sizeof l->table[0]);
}

void leases_done(struct leases *l, uint32_t slot, uint32_t count)
{
    ASSERT(slot < l->slots && count <= l->slots - slot);
    for (uint32_t i = 0; i < count; i++)
        l->table[slot + i].state = SLOT_DONE;
}

/* Position of the worker's request, or request_count. */
static size_t find_request(const struct leases *l, uint64_t worker)
{
    size_t i = 0;
    while (i < l->request_count && l->requests[i].worker != worker)
        i++;
    return i;
}

static void remove_request(struct leases *l, size_t at)
{
    l->request_count--;
    memmove(&l->requests[at], &l->requests[at + 1], (l->request_count - at) * sizeof l->requests[0]);
}

int leases_request(struct leases *l, uint64_t worker, uint32_t want)
{
    size_t at = find_request(l, worker);
    if (want == 0) {
        if (at < l->request_count)
            remove_request(l, at);
        return 0;
    }
    if (at == LEASES_REQUESTS_MAX)
        return ERR_RANGE;
    if (at == l->request_count)
        l->request_count++;
    l->requests[at] = (struct lease_request){worker, want < LEASES_WANT_MAX ? want : LEASES_WANT_MAX};
    return 0;
}

size_t leases_requests(const struct leases *l)
{
    return l->request_count;
}

uint64_t leases_requester(const struct leases *l, size_t i)
{
    ASSERT(i < l->request_count);
    return l->requests[i].worker;
}

bool leases_withdraw_any(struct leases *l, uint64_t *worker)
{
    if (l->request_count == 0)
        return false;
    *worker = l->requests[0].worker;
    remove_request(l, 0);
    return true;
}

/* The turn is over: to the end of the queue with what is left of the request. */
static void end_turn(struct leases *l, size_t at, uint32_t granted)
{
    ASSERT(at < l->request_count && granted <= l->requests[at].want);
    struct lease_request request = l->requests[at];
    remove_request(l, at);
    request.want -= granted;
    if (request.want > 0)
        l->requests[l->request_count++] = request;
}

static uint32_t count_free(const struct leases *l, uint32_t from, uint32_t to)
{
    uint32_t free_slots = 0;
    for (uint32_t i = from; i < to; i++)
        free_slots += l->table[i].state == SLOT_FREE;
    return free_slots;
}

/* Slots of the largest free node that begins at `slot` and has at most `most`: a power of two, aligned. */
static uint32_t free_node(const struct leases *l, uint32_t slot, uint32_t most)
{
    uint32_t count = 1;
    while (2 * count <= most && slot % (2 * count) == 0 && 2 * count <= l->slots - slot &&
           count_free(l, slot + count, slot + 2 * count) == count)
        count *= 2;
    return count;
}

bool leases_grant(struct leases *l, uint64_t now, uint64_t *worker, uint32_t *slot, uint32_t *count)
{
    uint32_t i = 0;
    while (i < l->slots && l->table[i].state != SLOT_FREE)
        i++;
    if (i == l->slots || l->request_count == 0)
        return false;
    const struct lease_request *request = &l->requests[0];
    uint32_t requests = (uint32_t)l->request_count, share = (count_free(l, i, l->slots) + requests - 1) / requests;
    *worker = request->worker;
    *slot = i;
    *count = free_node(l, i, share < request->want ? share : request->want);
    for (uint32_t j = i; j < i + *count; j++)
        l->table[j] = (struct lease){.state = SLOT_LEASED, .worker = *worker, .since = now, .until = UINT64_MAX};
    end_turn(l, 0, *count);
    return true;
}

static bool is_leased_to(const struct leases *l, uint32_t slot, uint64_t worker)
{
    return l->table[slot].state == SLOT_LEASED && l->table[slot].worker == worker;
}

bool leases_grant_backup(struct leases *l, uint64_t worker, uint64_t since_max, uint32_t *slot)
{
    struct lease *oldest = NULL;
    for (uint32_t i = 0; i < l->slots; i++) {
        struct lease *lease = &l->table[i];
        bool fits = lease->state == SLOT_LEASED && !lease->shared && lease->worker != worker;
        if (fits && lease->since <= since_max && (oldest == NULL || lease->since < oldest->since))
            oldest = lease;
    }
    if (oldest == NULL)
        return false;
    oldest->shared = true;
    *slot = (uint32_t)(oldest - l->table);
    end_turn(l, find_request(l, worker), 1);
    return true;
}

void leases_limit(struct leases *l, uint32_t slot, uint32_t count, uint64_t until)
{
    ASSERT(slot < l->slots && count <= l->slots - slot);
    for (uint32_t i = slot; i < slot + count; i++) {
        ASSERT(l->table[i].state == SLOT_LEASED);
        l->table[i].until = until;
    }
}

bool leases_holds(const struct leases *l, uint64_t worker, uint32_t slot, uint64_t *since)
{
    ASSERT(slot < l->slots);
    *since = l->table[slot].since;
    return is_leased_to(l, slot, worker);
}

bool leases_take_expired(struct leases *l, uint64_t now, uint64_t *worker)
{
    for (uint32_t i = 0; i < l->slots; i++)
        if (l->table[i].state == SLOT_LEASED && l->table[i].until <= now) {
            l->table[i].state = SLOT_FREE;
            *worker = l->table[i].worker;
            return true;
        }
    return false;
}

uint32_t leases_revoke(struct leases *l, uint64_t worker)
{
    uint32_t freed = 0;
    for (uint32_t i = 0; i < l->slots; i++)
        if (is_leased_to(l, i, worker)) {
            l->table[i].state = SLOT_FREE;
            freed++;
        }
    return freed;
}

uint32_t leases_drop_worker(struct leases *l, uint64_t worker)
{
    leases_request(l, worker, 0);
    return leases_revoke(l, worker);
}

void leases_release(struct leases *l, uint64_t worker, uint32_t slot)
{
    ASSERT(slot < l->slots);
    if (is_leased_to(l, slot, worker))
        l->table[slot].state = SLOT_FREE;
}
