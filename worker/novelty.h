/* How near the nearest prototype is: the largest cosine of unit rows to all K of them. Rows meet prototypes in place:
 * those are the rows of the product, and the embeddings its packed operand, so no operand is kept.
 *
 * With AMX and a large K most of it is done in bf16, which is off by less than e = 2^-7 + 2^-11 for unit rows (see
 * worker/sieve.h): of 32 prototypes at a time only those that come within 2 e of a row's largest cosine are
 * multiplied again in float32, in the same order, so the result is the same to the bit. */
#ifndef DECANT_WORKER_NOVELTY_H
#define DECANT_WORKER_NOVELTY_H

#include <stdint.h>

struct novelty;

int novelty_new(uint32_t rows_max, uint32_t K, uint32_t D, struct novelty **out); /* 0 or ERR_MEMORY */
void novelty_free(struct novelty **s);

/* nearest[i] = max over k of x_i . c_k for the n unit rows of x (n,D), n at most rows_max, and unit rows c (K,D).
 * What is above `near` need not be exact, only above it. */
void novelty_search(struct novelty *s, const float *x, uint32_t n, const float *c, float near, float *nearest);

#endif
