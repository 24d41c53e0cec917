/* Reductions of a matrix over its rows, column by column: x is (rows, n) and contiguous. Sums run in row order, four
 * rows at a time, so that the additions of one column overlap. */
#ifndef DECANT_WORKER_NN_COLUMNS_H
#define DECANT_WORKER_NN_COLUMNS_H

#include "worker/nn/real.h"

void columns_sum(const real *x, size_t rows, size_t n, real *sum);
/* sum[j] = sum over rows of (x[r][j] - center[j])^2 */
void columns_sum_squares(const real *x, size_t rows, size_t n, const real *center, real *sum);

#endif
