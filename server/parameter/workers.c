/* An unordered array with linear search: a thousand entries are scanned faster than a gradient is checked. */
#include "server/parameter/workers.h"

#include <stdlib.h>
#include "common/error.h"

struct workers {
    size_t count;
    struct worker table[WORKERS_MAX];
};

int workers_new(struct workers **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : ERR_MEMORY;
}

void workers_free(struct workers **w)
{
    free(*w);
    *w = NULL;
}

size_t workers_count(const struct workers *w)
{
    return w->count;
}

struct worker *workers_find(struct workers *w, uint64_t id)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->table[i].id == id)
            return &w->table[i];
    return NULL;
}

struct worker *workers_touch(struct workers *w, uint64_t id, const struct peer *from, uint64_t now, bool *moved)
{
    struct worker *known = workers_find(w, id);
    *moved = known && !peer_equal(&known->peer, from);
    if (known == NULL && w->count == WORKERS_MAX)
        return NULL;
    if (known == NULL) {
        known = &w->table[w->count++];
        *known = (struct worker){.id = id};
    }
    known->peer = *from;
    known->seen_ms = now;
    return known;
}

void worker_set_host(struct worker *w, const char *text)
{
    size_t n = 0;
    for (; text[n] != '\0' && n + 1 < sizeof w->host; n++)
        w->host[n] = text[n] > ' ' && text[n] < 127 ? text[n] : '_';
    w->host[n] = '\0';
}

static void remove_at(struct workers *w, size_t i)
{
    w->table[i] = w->table[--w->count];
}

bool workers_take_silent(struct workers *w, uint64_t now, struct worker *out)
{
    for (size_t i = 0; i < w->count; i++)
        if (now - w->table[i].seen_ms >= WORKERS_SILENCE_MS) {
            *out = w->table[i];
            remove_at(w, i);
            return true;
        }
    return false;
}

void workers_forget(struct workers *w, uint64_t id)
{
    struct worker *known = workers_find(w, id);
    if (known != NULL)
        remove_at(w, (size_t)(known - w->table));
}
