/* Comparing lists. */
#include "server/shell/list_guard.h"

#include <string.h>

static bool works(const struct allow_entry *entry)
{
    return entry->role == ROLE_WORKER || entry->role == ROLE_CLIENT;
}

/* Somebody worked, and none of them does on the new list. */
static bool loses_all(const struct allow_list *before, const struct allow_list *after)
{
    bool anybody = false;
    for (size_t i = 0; i < before->count; i++) {
        if (!works(&before->entries[i]))
            continue;
        const struct allow_entry *now = allow_list_find(after, before->entries[i].key);
        if (now && works(now))
            return false;
        anybody = true;
    }
    return anybody;
}

/* Names are for people. */
static bool same(const struct allow_list *a, const struct allow_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->entries[i].role != b->entries[i].role || strcmp(a->entries[i].key, b->entries[i].key) != 0)
            return false;
    return true;
}

void list_guard_forget(struct list_guard *g)
{
    allow_list_fini(&g->waiting);
    g->waits = false;
}

static void take(struct allow_list *to, struct allow_list *from)
{
    allow_list_fini(to);
    *to = *from;
    *from = (struct allow_list){0};
}

enum list_verdict list_guard_offer(struct list_guard *g, struct allow_list *current, struct allow_list *next,
                                   uint64_t now_ms)
{
    bool known = g->waits && same(&g->waiting, next);
    if (!loses_all(current, next) || next->confirmed || (known && now_ms - g->since_ms >= LIST_CONFIRM_MS)) {
        list_guard_forget(g);
        take(current, next);
        return LIST_TAKEN;
    }
    take(&g->waiting, next);
    if (known)
        return LIST_WAITED;
    g->waits = true;
    g->since_ms = now_ms;
    return LIST_WAITS;
}
