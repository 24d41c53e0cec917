/* An unordered array with linear search: a thousand entries are scanned faster than a contribution is checked. */
#include "server/prototype/ledger.h"

#include <stdlib.h>
#include <string.h>
#include "common/error.h"

/* ---- life ---- */

int ledger_new(struct ledger **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : ERR_MEMORY;
}

int ledger_clone(const struct ledger *l, struct ledger **out)
{
    *out = malloc(sizeof **out);
    if (*out == NULL)
        return ERR_MEMORY;
    memcpy(*out, l, sizeof **out);
    return 0;
}

void ledger_free(struct ledger **l)
{
    free(*l);
    *l = NULL;
}

void ledger_begin(struct ledger *l, uint64_t now_ms)
{
    if (l->began_ms == 0)
        l->began_ms = now_ms;
}

/* ---- names ---- */

uint64_t ledger_name(struct ledger *l, uint64_t generation)
{
    if (l->names == UINT32_MAX)
        return 0;
    return (generation << LEDGER_GENERATION_SHIFT) | ++l->names;
}

static bool same_id(struct ledger_id a, struct ledger_id b)
{
    return a.name == b.name && a.owner == b.owner;
}

struct ledger_client *ledger_find(struct ledger *l, struct ledger_id id)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (same_id(l->clients[i].id, id))
            return &l->clients[i];
    return NULL;
}

/* How many names earlier lives have given is not known any more; that of this life are counted. */
static bool was_given(const struct ledger *l, uint64_t name, uint64_t generation)
{
    uint64_t life = name >> LEDGER_GENERATION_SHIFT, number = name & UINT32_MAX;
    if (number == 0 || life == 0 || life > generation)
        return false;
    return life < generation || number <= l->names;
}

enum ledger_verdict ledger_judge_name(struct ledger *l, struct ledger_id id, uint64_t generation)
{
    if (!was_given(l, id.name, generation))
        return LEDGER_UNKNOWN;
    if (id.name <= l->forgotten && ledger_find(l, id) == NULL)
        return LEDGER_EXPIRED;
    return LEDGER_APPLY;
}

/* ---- room ---- */

/* The client to forget: one that has left, else the one that is silent longest. Only if all that it sent is durable: it
 * keeps the rest, and would have to be refused with it. */
static struct ledger_client *find_forgettable(struct ledger *l, uint64_t now_ms)
{
    struct ledger_client *best = NULL;
    for (uint32_t i = 0; i < l->count; i++) {
        struct ledger_client *k = &l->clients[i];
        uint64_t heard_ms = k->seen_ms > l->began_ms ? k->seen_ms : l->began_ms;
        bool silent = now_ms > heard_ms && now_ms - heard_ms >= LEDGER_SILENCE_MS;
        if (k->durable != k->applied || (!k->left && !silent))
            continue;
        if (best == NULL || k->left > best->left || (k->left == best->left && k->seen_ms < best->seen_ms))
            best = k;
    }
    return best;
}

static void forget(struct ledger *l, struct ledger_client *k)
{
    if (k->id.name > l->forgotten)
        l->forgotten = k->id.name;
    memmove(k, k + 1, (size_t)(l->clients + l->count - (k + 1)) * sizeof *k);
    l->count--;
}

/* A new entry, or NULL when there is no room. */
static struct ledger_client *add(struct ledger *l, struct ledger_id id, uint64_t now_ms)
{
    if (l->count == LEDGER_CLIENTS_MAX) {
        struct ledger_client *gone = find_forgettable(l, now_ms);
        if (gone == NULL)
            return NULL;
        forget(l, gone);
    }
    struct ledger_client *k = &l->clients[l->count++];
    *k = (struct ledger_client){.id = id};
    return k;
}

/* ---- contributions ---- */

uint64_t ledger_credit(const struct ledger_client *client, const struct ledger_limits *limits)
{
    uint64_t applied = client ? client->applied : 0, durable = client ? client->durable : 0;
    uint64_t by_window = applied + limits->window, by_keep = durable + limits->keep;
    return by_window < by_keep ? by_window : by_keep;
}

enum ledger_verdict ledger_judge(struct ledger *l, struct ledger_id id, uint64_t seq,
                                 const struct ledger_limits *limits, uint64_t now_ms)
{
    const struct ledger_client *k = ledger_find(l, id);
    uint64_t applied = k ? k->applied : 0;
    if (seq <= applied)
        return LEDGER_DUPLICATE;
    if (seq > applied + 1)
        return LEDGER_GAP;
    if (seq > ledger_credit(k, limits))
        return LEDGER_NO_CREDIT;
    if (k == NULL && l->count == LEDGER_CLIENTS_MAX && find_forgettable(l, now_ms) == NULL)
        return LEDGER_FULL;
    return LEDGER_APPLY;
}

void ledger_note(struct ledger_client *client, const struct peer *from, bool goodbye, uint64_t now_ms)
{
    client->peer = *from;
    client->seen_ms = now_ms;
    client->left = goodbye;
}

struct ledger_client *ledger_apply(struct ledger *l, struct ledger_id id, const struct peer *from, uint64_t now_ms)
{
    struct ledger_client *k = ledger_find(l, id);
    if (k == NULL)
        k = add(l, id, now_ms);
    ASSERT(k != NULL); /* ledger_judge has seen that there is room */
    ledger_note(k, from, false, now_ms);
    k->applied++;
    l->contributions++;
    return k;
}

uint64_t ledger_pass_over(struct ledger *l, struct ledger_id id, uint64_t seq, const struct peer *from, uint64_t now_ms)
{
    struct ledger_client *k = ledger_find(l, id);
    if (seq <= (k ? k->applied : 0) || (k == NULL && (k = add(l, id, now_ms)) == NULL))
        return 0;
    uint64_t missing = seq - k->applied;
    ledger_note(k, from, false, now_ms);
    k->applied = k->durable = k->announced = seq;
    l->lost += missing;
    return missing;
}

/* ---- checkpoints ---- */

void ledger_snapshot(struct ledger *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        l->clients[i].snapshot = l->clients[i].applied;
}

void ledger_written(struct ledger *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct ledger_client *k = &l->clients[i];
        k->durable = k->snapshot > k->durable ? k->snapshot : k->durable; /* see ledger_pass_over */
    }
}

struct ledger_client *ledger_next_news(struct ledger *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct ledger_client *k = &l->clients[i];
        if (k->announced < k->durable && k->peer.size > 0) {
            k->announced = k->durable;
            return k;
        }
    }
    return NULL;
}

void ledger_resumed(struct ledger *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct ledger_client *k = &l->clients[i];
        *k = (struct ledger_client){.id = k->id, .applied = k->applied, .durable = k->applied, .announced = k->applied};
    }
}
