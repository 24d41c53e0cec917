/* Cosine geometry of a set of vectors: greedy cover and nearest neighbours. Used for prototype diagnostics. */
#ifndef DECANT_COMMON_COSINE_H
#define DECANT_COMMON_COSINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Greedy cover in index order ("unique prototypes"): row i joins the first earlier representative r with
 * 1 - cos(x_i, x_r) < eps (strict), else becomes one. Returns the number of representatives for each eps.
 * x: (K,D), rows of unit length. eps: n values; counts: n outputs. 0 or ERR_MEMORY. O(K^2 D) at most. */
int cosine_cover(const float *x, size_t K, size_t D, const double *eps, size_t n, uint32_t *counts);

/* For each row the largest cosine to another row, and which one. K >= 2; nearest and cosine: (K). 0 or ERR_MEMORY. */
int cosine_nearest(const float *x, size_t K, size_t D, uint32_t *nearest, float *cosine);

/* Both, for little more than the price of one: every pair meets once. */
struct cosine_survey {
    const float *x; /* (K,D), rows of unit length */
    size_t K, D;
    const double *eps; /* (n) */
    size_t n;
    uint32_t *counts;              /* (n), or NULL when n is 0 */
    uint32_t *nearest;             /* (K), K >= 2, or NULL: cover alone */
    float *cosine;                 /* (K) likewise */
    bool (*stop)(const void *arg); /* asked now and then, many times a second; NULL: never */
    const void *stop_arg;
};
/* 0, ERR_MEMORY, or ERR_CLOSED when it was stopped: then the outputs hold nothing. */
int cosine_survey(const struct cosine_survey *o);

#endif
