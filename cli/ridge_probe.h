/* The linear probe in closed form: ridge regression on one-hot labels, on features standardised with the bank's mean
 * and deviation. Seconds where logistic regression takes minutes, whatever the number of classes. Few-shot: the same
 * with the labels of a share of the bank only, a mean over draws. */
#ifndef DECANT_CLI_RIDGE_PROBE_H
#define DECANT_CLI_RIDGE_PROBE_H

#include "cli/accuracy.h"
#include "cli/evaluation_meter.h"
#include "cli/feature_set.h"

enum {
    RIDGE_WIDTH_MAX = 8192, /* features: beyond, its matrix takes more than half a GiB and minutes to factorise */
    FEW_SHOTS = 2,
    FEW_SHOT_DRAWS = 5,
};
extern const double few_shot_share[FEW_SHOTS]; /* 0.01, 0.1 */

struct few_shot {
    double percent, deviation; /* mean and standard deviation over the draws, of the percentage labelled right */
    uint32_t rows;             /* labelled images of a draw */
};

struct ridge_scores {
    struct accuracy all;
    struct few_shot few[FEW_SHOTS];
};

struct ridge_options {
    bool few; /* also few-shot */
    unsigned threads;
    struct evaluation_meter *meter;
};

/* Same width and classes in both sets, neither empty. 0, ERR_MEMORY, or ERR_RANGE for more features than
 * RIDGE_WIDTH_MAX. */
int ridge_probe(const struct feature_set *bank, const struct feature_set *queries, struct ridge_options o,
                struct ridge_scores *out);

/* Which rows have labels in a draw: of each class that there is the share, rounded up, chosen by a permutation that
 * only the draw decides. Writes them to rows (n) and returns how many. */
uint32_t few_shot_pick(const uint16_t *labels, uint32_t n, uint32_t classes, double share, uint32_t draw,
                       uint32_t *rows);

#endif
