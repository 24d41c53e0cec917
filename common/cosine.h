/* Cosine geometry of a set of vectors: greedy cover and nearest neighbours. Used for prototype diagnostics. */
#ifndef DECANT_COMMON_COSINE_H
#define DECANT_COMMON_COSINE_H

#include <stddef.h>
#include <stdint.h>

/* Greedy cover in index order ("unique prototypes"): row i joins the first earlier representative r with
 * 1 - cos(x_i, x_r) < eps (strict), else becomes one. Returns the number of representatives for each eps.
 * x: (K,D), rows of unit length. eps: n values; counts: n outputs. 0 or ERR_MEMORY. Blocked GEMM, O(K^2 D). */
int cosine_cover(const float *x, size_t K, size_t D, const double *eps, size_t n, uint32_t *counts);

/* For each row the largest cosine to another row, and which one. K >= 2; nearest and cosine: (K). 0 or ERR_MEMORY. */
int cosine_nearest(const float *x, size_t K, size_t D, uint32_t *nearest, float *cosine);

#endif
