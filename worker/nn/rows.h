/* Reductions and softmax along one contiguous row. Sums have a fixed shape, so that a row's result depends on its
 * values and length only. */
#ifndef DECANT_WORKER_NN_ROWS_H
#define DECANT_WORKER_NN_ROWS_H

#include "worker/nn/real.h"

real row_sum(const real *x, size_t n);
real row_dot(const real *x, const real *y, size_t n);
real row_max(const real *x, size_t n); /* n > 0 */
void row_scale(real *x, real a, size_t n);
void row_add(real *restrict y, const real *restrict x, size_t n); /* y += x */
/* x = softmax(scale * x); log_sum, when not NULL, receives log sum exp(scale * x). n > 0, scale > 0. */
void row_softmax(real *x, real scale, size_t n, real *log_sum);

#endif
