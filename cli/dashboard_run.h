/* One run as the dashboard and the plots see it: the newest figures (cli/top_state.h), their history, the shape of its
 * prototypes, what happened. Each source may be absent, come later or go away: what is known stays. */
#ifndef DECANT_CLI_DASHBOARD_RUN_H
#define DECANT_CLI_DASHBOARD_RUN_H

#include "cli/dashboard_events.h"
#include "cli/dashboard_history.h"
#include "cli/dashboard_lines.h"
#include "cli/dashboard_shape.h"
#include "cli/dashboard_words.h"
#include "cli/top_state.h"

enum {
    SHAPE_PAUSE_MS = 2000,  /* between two looks at all prototypes, at least ... */
    SHAPE_PAUSE_TIMES = 10, /* ... and this many times what the look before took */
    SHAPE_WITHIN_MS = 10000 /* for all prototypes of a mirror */
};

struct dashboard_run {
    struct top_source source;
    struct top_state state;
    struct dashboard_history parameter, prototype, evaluation;
    struct dashboard_lines parameter_file, prototype_file, evaluation_file, parameter_log, prototype_log;
    struct dashboard_shape shape;
    struct dashboard_events events;
    struct run_facts facts;
    double generation[2]; /* of the parameter and the prototype server; NaN while unknown */
    bool was_live;        /* the mirror has answered once */
    /* Newest entries of the mirror's streams that were read: of metrics, of evaluations. */
    char metrics_stream[48], evaluation_stream[48];
    char shape_trouble[160]; /* why the shape is not newer, or empty */
    size_t new_lines;        /* that the newest look found */
    /* private */
    double seeding;                          /* percent of k-means++'s seeds at the newest look; 100 before the first */
    double reseeded;                         /* as told by the newest event of that */
    uint64_t reseeded_due_ms;                /* monotonic; 0: not looked at yet */
    uint64_t shape_due_ms;                   /* monotonic */
    uint64_t checkpoint_seen;                /* newest step whose prototypes were looked at, plus one */
    unsigned history_version, shape_version; /* rise with every change, for who sends them on */
};

/* Nothing is opened yet, so nothing can be missing; ERR_CONFIG for names that are too long. *out is large. */
int dashboard_run_open(const struct source_options *o, struct dashboard_run *out, struct error *e);
void dashboard_run_close(struct dashboard_run *r);
/* Looks at everything anew. Waits for Redis as long as top_source_read and SHAPE_WITHIN_MS allow. */
void dashboard_run_look(struct dashboard_run *r);
/* Looks until the files have nothing more that was not looked at yet, neither lines nor checkpoints. */
void dashboard_run_catch_up(struct dashboard_run *r);

#endif
