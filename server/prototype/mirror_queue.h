/* What waits to be told to Redis once: entries of the metrics stream and events of the channel (docs/REDIS.md). A ring:
 * while Redis is away the oldest make room for the newest, and are counted.
 *
 * Every function takes q == NULL, of a run without a mirror, and then does nothing. */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_QUEUE_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/msg.h"

enum { MIRROR_QUEUE_MAX = 256, MIRROR_EVENT_MAX = 256 };

struct mirror_record {
    bool event;
    uint64_t step;
    uint32_t count;
    struct msg_scalar scalars[MSG_SCALARS_MAX]; /* of a metrics record */
    char text[MIRROR_EVENT_MAX];                /* of an event: JSON */
};

struct mirror_queue {
    struct mirror_record records[MIRROR_QUEUE_MAX];
    uint32_t first, count;
    uint64_t dropped; /* records that had to make room */
};

/* The oldest record, taken out; valid until the next record is added. NULL when there is none. */
const struct mirror_record *mirror_queue_take(struct mirror_queue *q);

void mirror_queue_metrics(struct mirror_queue *q, const struct msg *metrics); /* a METRICS message */

void mirror_event_start(struct mirror_queue *q, uint64_t step, uint64_t generation);
void mirror_event_reseed(struct mirror_queue *q, uint64_t step, uint32_t count, uint32_t first);
void mirror_event_split(struct mirror_queue *q, uint64_t step, uint32_t kept, uint32_t freed, uint32_t halved);
/* k-means++ has placed `components` of `of`, chosen among so many embeddings. */
void mirror_event_seed(struct mirror_queue *q, uint64_t step, uint32_t components, uint32_t of, uint32_t embeddings);
void mirror_event_checkpoint(struct mirror_queue *q, uint64_t step, bool ok);
void mirror_event_rewind(struct mirror_queue *q, uint64_t step, uint64_t generation);
void mirror_event_stop(struct mirror_queue *q, uint64_t step, const char *reason);

#endif
