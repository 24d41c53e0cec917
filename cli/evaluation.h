/* What a checkpoint is worth, in one pass over a fixed choice of images: probes of the teacher's backbone features, its
 * prototypes as a clustering and a classifier, and their health. */
#ifndef DECANT_CLI_EVALUATION_H
#define DECANT_CLI_EVALUATION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "cli/accuracy.h"
#include "cli/prototype_scores.h"
#include "cli/ridge_probe.h"
#include "common/error.h"

/* When logistic regression is done, which alone takes minutes with a thousand classes. */
enum evaluation_linear {
    EVALUATION_LINEAR_SHORT, /* where it takes less than about a minute */
    EVALUATION_LINEAR_ALWAYS,
    EVALUATION_LINEAR_NEVER
};

struct evaluation_options {
    bool references; /* also raw pixels and a random encoder */
    enum evaluation_linear linear;
    const char *data;      /* images, as data.path, brought to the size of the run's own; NULL: data.path itself */
    int64_t bank, queries; /* images; 0: the configuration's eval.bank, eval.queries */
    FILE *progress;        /* what it is doing, with the time left; NULL: silent */
};

struct probe_scores {
    struct accuracy knn;    /* weighted vote of neighbours */
    struct accuracy linear; /* logistic regression; NAN where it was left out */
    struct accuracy ridge;  /* linear too, in closed form; NAN for more than RIDGE_WIDTH_MAX features */
};

/* Of the trained encoder; without queries all but the ranks are 0, without labels of the bank purity and nmi too. */
struct encoder_scores {
    struct probe_scores features;
    struct few_shot few[FEW_SHOTS];         /* ridge */
    struct accuracy knn_projections;        /* as knn, on what the prototypes see */
    struct accuracy prototype_classifier;   /* the label that most of its prototype's bank images have */
    double purity, nmi;                     /* of the bank's assignment to prototypes, 0..1 */
    double rank_features, rank_projections; /* effective ranks over the bank */
    double usage_perplexity;                /* of the mixture's own average usage; NAN in a joint run */
};

struct evaluation {
    char run[64], directory[1280];
    uint64_t step;
    bool joint;
    uint32_t K, D, classes, bank, queries;                /* as used: at most what the data set has */
    char probes_missing[256];                             /* why there are none; empty when there are */
    uint32_t third_classes[THIRDS], third_images[THIRDS]; /* of the training images: accuracy_thirds */
    bool held_out; /* the queries are a share of the training files (data.holdout) */
    bool labelled; /* the bank has labels */
    struct encoder_scores encoder;
    struct probe_scores pixels, random; /* only with references */
    bool references;
    bool linear_left_out; /* somewhere, since it takes long */
    struct prototype_scores prototypes;
    uint64_t data, data_trained; /* fingerprints of these training images and of those of the run; 0: not known */
};

/* checkpoint: as checkpoint_open. 0 or ERR_* with a text. */
int evaluate_checkpoint(const char *checkpoint, const struct evaluation_options *o, struct evaluation *out,
                        struct error *e);

#endif
