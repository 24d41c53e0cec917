/* Which components of a mixture can matter to an embedding: upper bounds of all logits from one product in bf16,
 * which AMX does an order of magnitude faster than the exact one, so that only what passes is computed exactly.
 *
 * A logit is b_k + sum_d x_d r_kd, with x = [h^2 | h] or h and r_k the component's row. With both rounded to bf16
 * (relative error at most 2^-8 each) and sums in float32 it is off by less than
 *
 *   e_k = (2^-7 + 2^-12) (|h^2| max_d |r_kd| + |h| |r_k|) + 2^-12 |b_k| + 10^-3,
 *
 * the maximum over the first half of the row, the norm of the second; a row x that is h alone has the second term
 * only. h has unit length: |h^2| summed is 1, and so is |h|. 2^-7 is both roundings, 2^-12 their product and the sums
 * of up to 2048 terms, and the constant covers numbers too small for bf16. So b_k + e_k in the place of b_k gives an
 * upper bound. */
#ifndef DECANT_WORKER_SIEVE_H
#define DECANT_WORKER_SIEVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIEVE_TILE = 1024,            /* components that are packed together; all but the last tile are whole */
    SIEVE_ROOM = SIEVE_TILE + 16, /* beyond what is asked for in a list */
};

struct sieve;

/* Whether it costs less than the exact product, when little passes: with AMX, and enough to multiply. */
bool sieve_pays(uint32_t K, uint32_t width);
/* For at most `rows` embeddings at a time. width: of a row, D or 2 D. */
int sieve_new(uint32_t rows, uint32_t K, uint32_t width, uint32_t D, struct sieve **out); /* 0 or ERR_MEMORY */
void sieve_free(struct sieve **s);

/* The rows (n,width) of the tile of n components from k on; or that of one. Then the tile's biases (n), always. */
void sieve_set_tile(struct sieve *s, size_t k, size_t n, const float *rows);
void sieve_set_row(struct sieve *s, size_t k, const float *row);
void sieve_set_biases(struct sieve *s, size_t k, size_t n, const float *bias);

/* Upper bounds of the logits of n embeddings: x + in[i] is row i, c + out[i] where its K bounds go, which must stay
 * there until the last is listed from. */
void sieve_bound(struct sieve *s, const float *x, uint32_t *in, uint32_t n, float *c, uint32_t *out);
uint32_t sieve_best(const struct sieve *s, uint32_t i); /* row i's largest bound: which component, any one of equals, */
float sieve_largest(const struct sieve *s, uint32_t i); /* and the bound */
float sieve_error(const struct sieve *s, uint32_t k);   /* e_k */
/* The components whose bound for row i is at least `threshold`, ascending. Returns how many they are, or, when there
 * are more than `max`, some number above it and a list that has no meaning. index: room for max + SIEVE_ROOM. */
uint32_t sieve_list(struct sieve *s, uint32_t i, float threshold, uint32_t max, uint32_t *index);

#endif
