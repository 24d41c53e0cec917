/* The mixture versions that a worker holds: the newest and the one before it, as immutable reference-counted views,
 * and older ones for as long as a job still reads them. Loop thread only: jobs read the views, but only the loop
 * changes reference counts. */
#ifndef DECANT_WORKER_MIXTURE_CACHE_H
#define DECANT_WORKER_MIXTURE_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/mixture_wire.h"

struct mixture_held {
    struct mixture_view *view;
    uint32_t refs;
    uint64_t line;             /* the cache's when it was filled; 0 while it is empty */
    struct mixture_held *next; /* among the spare ones */
};

struct mixture_cache {
    uint32_t K, D;
    enum covariance covariance;
    struct mixture_held *newest, *previous; /* NULL when unknown */
    struct mixture_held *spare;             /* views to be filled again */
    uint64_t line;                          /* of versions that follow from each other: a new one after each clear */
};

void mixture_cache_init(struct mixture_cache *c, uint32_t K, uint32_t D, enum covariance covariance);
void mixture_cache_fini(struct mixture_cache *c);  /* every reference handed out must be back */
void mixture_cache_clear(struct mixture_cache *c); /* forgets all versions: their server was restarted */

/* Takes a published version. 0, also when nothing new was learnt; ERR_STATE on a gap: a delta whose base is not held;
 * ERR_FORMAT with *why; ERR_MEMORY. Nothing changes on failure. */
int mixture_cache_apply(struct mixture_cache *c, const struct msg *m, enum reason *why);

bool mixture_cache_newest(const struct mixture_cache *c, uint64_t *version); /* false when nothing is held */
bool mixture_cache_has(const struct mixture_cache *c, uint64_t version);
struct mixture_held *mixture_cache_ref(struct mixture_cache *c, uint64_t version); /* NULL when not held */
void mixture_cache_unref(struct mixture_cache *c, struct mixture_held **held);     /* NULL-safe, nulls */

#endif
