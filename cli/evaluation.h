/* What a checkpoint is worth: k-NN and linear probe of the teacher's backbone features, and the health of its
 * prototypes, all on a fixed choice of images. */
#ifndef DECANT_CLI_EVALUATION_H
#define DECANT_CLI_EVALUATION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "cli/prototype_scores.h"
#include "common/error.h"

struct evaluation_options {
    bool references;       /* also raw pixels and a random encoder */
    const char *data;      /* images, as data.path; NULL: the configuration's data.path */
    int64_t bank, queries; /* images; 0: the configuration's eval.bank, eval.queries */
    FILE *progress;        /* one line per stage goes here; NULL: silent */
};

struct probe_scores {
    double knn, linear; /* percent of queries */
};

struct evaluation {
    char run[64], directory[1280];
    uint64_t step;
    bool joint;
    uint32_t K, D, bank, queries;                /* as used: at most what the data set has */
    char probes_missing[256];                    /* why there are none; empty when there are */
    bool held_out;                               /* the queries are a share of the training files (data.holdout) */
    struct probe_scores encoder, pixels, random; /* the last two only with references */
    bool references;
    struct prototype_scores prototypes;
    uint64_t data, data_trained; /* fingerprints of these training images and of those of the run; 0: not known */
};

/* checkpoint: as checkpoint_open. 0 or ERR_* with a text. */
int evaluate_checkpoint(const char *checkpoint, const struct evaluation_options *o, struct evaluation *out,
                        struct error *e);

#endif
