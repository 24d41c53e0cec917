/* A quick look at a checkpoint while its run goes on: k-NN of a few images on one thread at the lowest priority, noted
 * for whoever watches, and the best step kept.
 *
 *   OUT/metrics-eval.jsonl      one line for each step that was looked at: {"step", "time", "knn", "knn_projections",
 *                               "bank", "queries", "best_step", "best"}
 *   OUT/checkpoints/best        "step-NNNNNN knn=PERCENT images=N": the best so far, which the servers do not delete
 *                               (proto/run_dir.h); another number of images begins anew
 *   OUT/checkpoints/candidate   the step that is being looked at, likewise, for as long as it is */
#ifndef DECANT_CLI_EVALUATION_NOTE_H
#define DECANT_CLI_EVALUATION_NOTE_H

#include <stdbool.h>
#include <stdint.h>
#include "common/error.h"

#define EVALUATION_METRICS "metrics-eval.jsonl"

struct evaluation_note {
    uint64_t step, best_step;
    double knn, knn_projections, best; /* percent of the queries */
    uint32_t bank, queries;            /* images, as used */
    bool first;                        /* the run has no earlier note */
    char run[64];                      /* its name */
    char config[1200];                 /* OUT/config.ini, whether it is there or not */
};

/* Makes this process, and every thread that it starts, give way to all others. Best effort. */
void evaluation_note_give_way(void);
/* path: as checkpoint_open, of a step in a run's directory. images: in the bank, and queries, at most; 0: the run's
 * eval.images. ERR_CONFIG when the run's images have no labels or no test images, so that there is no k-NN; other ERR_*
 * with a text. */
int evaluation_note(const char *path, int64_t images, struct evaluation_note *out, struct error *e);

#endif
