/* What the mirror shows at one instant: a consistent copy of one mixture version's changed prototypes and of the run's
 * figures, taken in one turn of the loop and then written to Redis over as many turns as it takes. Buffers are kept and
 * used again. */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_STATE_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include "server/prototype/core.h"
#include "server/prototype/diagnostics.h"

enum {
    MIRROR_METRICS_MAX = 10000, /* entries of the stream, about */
    MIRROR_REFRESH_MAX = 1024,  /* rows of an update that go for their usage alone: see mirror_state_take */
    MIRROR_MOVED_FLOATS =
        2 << 20, /* of the mean and variance that are copied for an update, 8 MiB: copying them takes the
                                      loop some two milliseconds, whatever K is */
};

/* A prototype as it will be written. */
struct mirror_row {
    uint32_t k;
    bool moved;  /* mean and variance differ from what Redis has */
    uint32_t at; /* if moved: its row in mean and variance */
    uint32_t updated_step;
    double mass, usage, price;
    float weight_share; /* mass / sum of masses */
    uint32_t nearest;   /* valid when the state has diagnostics */
    float cosine;
};

/* What Redis is known to hold of a prototype. */
struct mirror_known {
    uint32_t updated_step;
    float usage;
    uint32_t nearest;
    float cosine;
    bool written;
};

struct mirror_state {
    uint32_t K, D;
    enum covariance covariance;
    bool priced;   /* prototypes have prices */
    bool merges;   /* there can be splits */
    bool full;     /* nothing in Redis is to be relied upon */
    bool measured; /* figures holds a diagnostics pass */
    uint64_t version, total_steps, config, generation;
    double beta, updated_s; /* updated_s: Unix time of the copy */
    struct prototype_step step;
    uint64_t reseeded, splits;
    double perplexity, active, stats_per_s, price_spread;
    double unique[DIAGNOSTICS_EPS], effective_rank;
    uint64_t diagnostics_version;
    struct worker_table workers;
    uint64_t now_ms;         /* loop time of the copy, to tell workers' silence */
    struct mirror_row *rows; /* (count) */
    uint32_t count;
    float *mean, *variance;    /* (moved,D), (moved,covariance_width) or (covariance_shared_width) */
    uint32_t moved, moved_max; /* moved_max: there is room for */
    uint32_t waiting;          /* rows that moved and had no room: the next update's */
    uint32_t refresh_max;      /* MIRROR_REFRESH_MAX, but for a caller that wants all of them */
    uint32_t refresh_from;     /* the row at which the next copy begins, so that every row gets its turn */
};

/* Room for K prototypes of D dimensions. */
int mirror_state_init(struct mirror_state *s, uint32_t K, uint32_t D, enum covariance covariance);
void mirror_state_fini(struct mirror_state *s);

/* Copies the core and the newest diagnostics (may be NULL). Only prototypes that differ from `known` (K) are taken:
 * moved rows, another nearest neighbour, or a usage that left 5 % around what is known (of at least 0.02/K, so that the
 * long tail of decay ends). Usage decays with every step, also of a million rows that nothing happens to: of those that
 * did not move at most refresh_max go, in turn, and of those that did as many as there is room for: more than one
 * update shows a large mixture that moved as a whole. `full` is for the first of these: nothing is known then. */
void mirror_state_take(struct mirror_state *s, const struct prototype_core *core, const struct diagnostics *d,
                       const struct mirror_known *known, bool full);
/* After Redis has acknowledged everything of s. */
void mirror_state_acknowledged(const struct mirror_state *s, struct mirror_known *known);

#endif
