/* What `decant top` knows of a run at one moment, put together from whatever there is: the Redis mirror, the servers'
 * metrics files, the newest checkpoint. Each may be absent. */
#ifndef DECANT_CLI_TOP_STATE_H
#define DECANT_CLI_TOP_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cli/run_figures.h"
#include "cli/run_source.h"

enum { TOP_WORKERS_MAX = 256 };

struct top_worker {
    char id[20], host[64];
    double images_per_s, slots, step, behind; /* NaN when it has not said */
    double silent_s;                          /* since its newest message */
};

struct top_state {
    char run[64];
    char trouble[512]; /* the first thing of the run that is there and cannot be read, and why; empty: none */
    char where[CHECKPOINT_PATH_MAX];                       /* the mirror's address or the directory, for people */
    bool live;                                             /* the mirror answers */
    struct run_figures mirror;                             /* the hash decant:RUN */
    struct run_figures parameter, prototype, evaluation;   /* the metrics files */
    double mirror_age_s, parameter_age_s, prototype_age_s; /* since each was written; NaN when absent */
    bool has_checkpoint;
    char checkpoint[64]; /* step-NNNNNN */
    double checkpoint_age_s;
    /* Of the configuration in the run's directory; NaN when that is absent, or when the other of the first two rules.
     */
    double epochs, steps, components;
    struct top_worker workers[TOP_WORKERS_MAX];
    size_t worker_count; /* in the table; the mirror may have counted more */
};

/* Keeps the connection to the mirror between looks. */
struct top_source {
    struct source_options options;
    struct run_source redis;
    char directory[CHECKPOINT_PATH_MAX];
};

/* ERR_NOT_FOUND when nothing is known of the run anywhere. */
int top_source_open(const struct source_options *o, struct top_source *out, struct error *e);
void top_source_close(struct top_source *s);
/* Looks at everything anew; a mirror that went away is asked for again at the next look. */
void top_source_read(struct top_source *s, struct top_state *out);

/* A figure of the first source that has it: the mirror while live, then the metrics files. NaN when none has. */
double top_figure(const struct top_state *t, const char *name);
/* Length of the run in steps; 0 while unknown. */
double top_total_steps(const struct top_state *t);

#endif
