/* The ring, and how each kind of record looks. */
#include "server/prototype/mirror_queue.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static struct mirror_record *push(struct mirror_queue *q)
{
    if (q->count == MIRROR_QUEUE_MAX) {
        q->first = (q->first + 1) % MIRROR_QUEUE_MAX;
        q->count--;
        q->dropped++;
    }
    struct mirror_record *r = &q->records[(q->first + q->count++) % MIRROR_QUEUE_MAX];
    memset(r, 0, sizeof *r);
    return r;
}

const struct mirror_record *mirror_queue_take(struct mirror_queue *q)
{
    if (q == NULL || q->count == 0)
        return NULL;
    const struct mirror_record *r = &q->records[q->first];
    q->first = (q->first + 1) % MIRROR_QUEUE_MAX;
    q->count--;
    return r;
}

void mirror_queue_metrics(struct mirror_queue *q, const struct msg *metrics)
{
    if (q == NULL)
        return;
    struct mirror_record *r = push(q);
    r->step = metrics->step;
    r->count = metrics->scalar_count;
    memcpy(r->scalars, metrics->scalars, r->count * sizeof r->scalars[0]);
}

/* ---- events ---- */

/* Takes over the further fields, which may be NULL for want of memory: the event is then lost and counted. */
static void push_event(struct mirror_queue *q, const char *name, uint64_t step, json_t *fields)
{
    json_t *event = q ? json_pack("{s:s, s:I}", "event", name, "step", (json_int_t)step) : NULL;
    bool built = event != NULL && fields != NULL && json_object_update(event, fields) == 0;
    char *text = built ? json_dumps(event, JSON_COMPACT) : NULL;
    if (text != NULL && strlen(text) < MIRROR_EVENT_MAX) {
        struct mirror_record *r = push(q);
        r->event = true;
        strcpy(r->text, text);
    } else if (q != NULL) {
        q->dropped++;
    }
    free(text);
    json_decref(event);
    json_decref(fields);
}

void mirror_event_start(struct mirror_queue *q, uint64_t step, uint64_t generation)
{
    push_event(q, "start", step, json_pack("{s:I}", "generation", (json_int_t)generation));
}

void mirror_event_reseed(struct mirror_queue *q, uint64_t step, uint32_t count, uint32_t first)
{
    push_event(q, "reseed", step, json_pack("{s:I, s:I}", "count", (json_int_t)count, "first", (json_int_t)first));
}

void mirror_event_split(struct mirror_queue *q, uint64_t step, uint32_t kept, uint32_t freed, uint32_t halved)
{
    push_event(q, "split", step,
               json_pack("{s:I, s:I, s:I}", "kept", (json_int_t)kept, "freed", (json_int_t)freed, "halved",
                         (json_int_t)halved));
}

void mirror_event_seed(struct mirror_queue *q, uint64_t step, uint32_t components, uint32_t of, uint32_t embeddings)
{
    push_event(q, "seed", step,
               json_pack("{s:I, s:I, s:I}", "components", (json_int_t)components, "of", (json_int_t)of, "embeddings",
                         (json_int_t)embeddings));
}

void mirror_event_checkpoint(struct mirror_queue *q, uint64_t step, bool ok)
{
    push_event(q, "checkpoint", step, json_pack("{s:b}", "ok", ok));
}

void mirror_event_rewind(struct mirror_queue *q, uint64_t step, uint64_t generation)
{
    push_event(q, "rewind", step, json_pack("{s:I}", "generation", (json_int_t)generation));
}

void mirror_event_stop(struct mirror_queue *q, uint64_t step, const char *reason)
{
    push_event(q, "stop", step, json_pack("{s:s}", "reason", reason));
}
