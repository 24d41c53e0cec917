/* Sums of products of columns, and what follows from them. In double, on several threads, the same bytes for any
 * number of these. */
#ifndef DECANT_CLI_GRAM_H
#define DECANT_CLI_GRAM_H

#include <stdint.h>
#include "cli/evaluation_meter.h"

/* Who hears how far it is: the whole of it is `share` of what the meter's stage does. meter NULL: nobody. */
struct gram_progress {
    struct evaluation_meter *meter;
    double share;
};

/* out (F,F), its upper triangle: sum over rows of (x_i - mean)(x_i - mean)^T, for x (n,F) and mean (F). The lower one
 * is not defined. */
void gram_centred(const double *x, uint32_t n, uint32_t F, const double *mean, unsigned threads,
                  struct gram_progress progress, double *out);

/* exp of the entropy of the eigenvalues of the covariance of x (n,F), as shares of their sum: how many directions are
 * used evenly, 1..F (after Roy and Vetterli, "The effective rank", EUSIPCO 2007). 1 when all rows are the same. 0 or
 * ERR_MEMORY. */
int gram_effective_rank(const float *x, uint32_t n, uint32_t F, unsigned threads, double *out);

#endif
