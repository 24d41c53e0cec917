/* An unordered array with linear search: a thousand entries are scanned faster than a gradient is checked. */
#include "server/shell/worker_table.h"

#include <string.h>
#include <xxhash.h>
#include "common/error.h"

/* Without keys an id stands for itself; ids are random, so a mixture of id and key is as good as one. */
uint64_t worker_handle(uint64_t id, const struct peer *from)
{
    const uint64_t both[] = {id, from->owner};
    return from->owner == 0 ? id : XXH3_64bits(both, sizeof both);
}

struct worker *worker_table_find(struct worker_table *t, uint64_t handle)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->workers[i].handle == handle)
            return &t->workers[i];
    return NULL;
}

static struct worker *add(struct worker_table *t, uint64_t id, const struct peer *from, uint64_t now)
{
    if (t->count == WORKERS_MAX)
        return NULL;
    struct worker *w = &t->workers[t->count++];
    *w = (struct worker){.id = id, .handle = worker_handle(id, from), .peer = *from, .first_ms = now};
    return w;
}

static void note_rates(struct worker *w, const struct msg *m)
{
    w->rate_count = m->scalar_count < WORKER_RATES_MAX ? m->scalar_count : WORKER_RATES_MAX;
    memcpy(w->rates, m->scalars, w->rate_count * sizeof w->rates[0]);
}

enum worker_verdict worker_table_note(struct worker_table *t, const struct msg *m, const struct peer *from,
                                      uint64_t now, struct worker **out)
{
    struct worker *w = worker_table_find(t, worker_handle(m->worker, from));
    *out = NULL;
    if (w == NULL && (w = add(t, m->worker, from, now)) == NULL)
        return WORKER_FULL;
    bool moved = !peer_equal(&w->peer, from);
    w->peer = *from;
    w->seen_ms = now;
    if (m->step > w->step)
        w->step = m->step;
    if (m->type == MSG_HELLO)
        worker_set_host(w, m->text);
    if (m->type == MSG_PING)
        note_rates(w, m);
    *out = w;
    return moved ? WORKER_MOVED : WORKER_KNOWN;
}

void worker_set_host(struct worker *w, const char *text)
{
    size_t n = 0;
    for (; text[n] != '\0' && n + 1 < sizeof w->host; n++)
        w->host[n] = text[n] > ' ' && text[n] < 127 ? text[n] : '_';
    w->host[n] = '\0';
}

static void remove_at(struct worker_table *t, size_t i)
{
    t->workers[i] = t->workers[--t->count];
}

bool worker_table_take_silent(struct worker_table *t, uint64_t now, struct worker *out)
{
    for (size_t i = 0; i < t->count; i++)
        if (now > t->workers[i].seen_ms && now - t->workers[i].seen_ms >= WORKERS_SILENCE_MS) {
            *out = t->workers[i];
            remove_at(t, i);
            return true;
        }
    return false;
}

void worker_table_forget(struct worker_table *t, uint64_t handle)
{
    struct worker *w = worker_table_find(t, handle);
    if (w != NULL)
        remove_at(t, (size_t)(w - t->workers));
}

void worker_table_copy(struct worker_table *to, const struct worker_table *from)
{
    to->count = from->count;
    memcpy(to->workers, from->workers, from->count * sizeof from->workers[0]);
}
