/* The table of workers heard lately. */
#include "server/prototype/roster.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void remove_at(struct roster *r, size_t i)
{
    memmove(&r->entries[i], &r->entries[i + 1], (r->count - i - 1) * sizeof r->entries[0]);
    r->count--;
}

static size_t most_silent(const struct roster *r)
{
    size_t best = 0;
    for (size_t i = 1; i < r->count; i++)
        if (r->entries[i].seen_ms < r->entries[best].seen_ms)
            best = i;
    return best;
}

static struct roster_entry *find_or_add(struct roster *r, uint64_t id, uint64_t now_ms)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->entries[i].id == id)
            return &r->entries[i];
    if (r->count == ROSTER_MAX)
        remove_at(r, most_silent(r));
    struct roster_entry *entry = &r->entries[r->count++];
    *entry = (struct roster_entry){.id = id, .first_ms = now_ms};
    return entry;
}

struct roster_entry *roster_note(struct roster *r, const struct msg *m, uint64_t now_ms)
{
    if (m->worker == 0)
        return NULL;
    struct roster_entry *entry = find_or_add(r, m->worker, now_ms);
    entry->seen_ms = now_ms;
    if (m->step > entry->step)
        entry->step = m->step;
    if (m->type == MSG_HELLO)
        snprintf(entry->host, sizeof entry->host, "%.63s", m->text);
    if (m->type == MSG_PING) {
        entry->rate_count = m->scalar_count < ROSTER_RATES_MAX ? m->scalar_count : ROSTER_RATES_MAX;
        memcpy(entry->rates, m->scalars, entry->rate_count * sizeof entry->rates[0]);
    }
    return entry;
}

size_t roster_expire(struct roster *r, uint64_t now_ms)
{
    size_t before = r->count;
    for (size_t i = r->count; i-- > 0;)
        if (now_ms - r->entries[i].seen_ms >= ROSTER_SILENCE_MS && now_ms > r->entries[i].seen_ms)
            remove_at(r, i);
    return before - r->count;
}
