#include "tests/sim/events.h"

#include <stdlib.h>
#include <string.h>
#include "common/heap.h"

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

HEAP_DEFINE(heap, struct event *, before)

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
    q->heap[q->count] = e;
    heap_rise(q->heap, q->count++);
}

struct event *events_take(struct events *q)
{
    if (q->count == 0)
        return NULL;
    struct event *first = q->heap[0];
    q->heap[0] = q->heap[--q->count];
    heap_sink(q->heap, q->count, 0);
    q->now_us = first->at_us;
    return first;
}
