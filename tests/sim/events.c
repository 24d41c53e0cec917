#include "tests/sim/events.h"

#include <stdlib.h>
#include <string.h>

void events_init(struct events *q)
{
    *q = (struct events){.now_us = 1000000};
}

void events_fini(struct events *q)
{
    for (size_t i = 0; i < q->count; i++)
        event_free(&q->heap[i]);
    free(q->heap);
}

static bool has_message(enum event_kind kind)
{
    return kind == EVENT_TO_SERVER || kind == EVENT_TO_WORKER;
}

struct event *event_new(enum event_kind kind)
{
    struct event *e = malloc(has_message(kind) ? sizeof *e : offsetof(struct event, msg));
    ASSERT(e != NULL);
    memset(e, 0, offsetof(struct event, msg));
    e->kind = kind;
    return e;
}

void event_free(struct event **e)
{
    if (has_message((*e)->kind))
        msg_fini(&(*e)->msg);
    free(*e);
    *e = NULL;
}

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

void events_add(struct events *q, uint64_t at_us, struct event *e)
{
    ASSERT(at_us >= q->now_us);
    if (q->count == q->room) {
        q->room = q->room ? 2 * q->room : 256;
        q->heap = realloc(q->heap, q->room * sizeof *q->heap);
        ASSERT(q->heap != NULL);
    }
    e->at_us = at_us;
    if (e->sequence == 0)
        e->sequence = ++q->sequence;
    size_t i = q->count++;
    for (; i > 0 && before(e, q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = e;
}

struct event *events_take(struct events *q)
{
    if (q->count == 0)
        return NULL;
    struct event *first = q->heap[0], *last = q->heap[--q->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < q->count && before(q->heap[child + 1], q->heap[child]))
            child++;
        if (child >= q->count || !before(q->heap[child], last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    if (q->count > 0)
        q->heap[i] = last;
    q->now_us = first->at_us;
    return first;
}
