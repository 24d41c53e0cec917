/* Softmax of attention, rows of scores at a time. */
#ifndef DECANT_WORKER_NN_SCORES_H
#define DECANT_WORKER_NN_SCORES_H

#include "worker/nn/real.h"

enum { SCORES_MULTIPLE = 16 }; /* of the length of a row: whole vectors for every choice of kernels */

static inline uint32_t scores_length(uint32_t tokens)
{
    return (tokens + SCORES_MULTIPLE - 1) / SCORES_MULTIPLE * SCORES_MULTIPLE;
}

/* Rows of n scores, scores_length(n) apart, become softmax(scale * row); what follows the n becomes practically
 * zero. */
void scores_normalise(size_t rows, size_t n, real scale, real *x);
/* d, the gradient wrt the probabilities p, becomes that wrt the scores: scale p (d - sum p d), row by row. */
void scores_gradient(size_t rows, size_t n, const real *restrict p, real scale, real *restrict d);

#endif
