/* Exact logits of single pairs of embedding and component, for what a sieve lets through: a few pairs a row, each
 * with a component of its own, which no matrix product does. A logit is b_k + sum_d x_d r_kd with the sum begun at
 * b_k and taken in the order of d, every product and its addition rounded once: what the tiles of worker/nn/tiles.h
 * do with FMA, to the bit. One chain of additions cannot be cut, so that what runs side by side are 32 of them, of 16
 * duos: two components each, of one row. */
#ifndef DECANT_WORKER_REFINE_H
#define DECANT_WORKER_REFINE_H

#include <stddef.h>

enum { DUO = 2, DUOS = 16, PAIRS = DUO * DUOS };

struct duos {
    const float *x[DUOS];  /* (width) the row of each duo; duos may share one */
    const float *r[PAIRS]; /* (width) of each component, duo by duo */
    float logit[PAIRS];    /* in: b_k; out: the logit */
};

/* Where AVX-512 may be used, as with a sieve. */
void refine_duos(struct duos *q, size_t width);

#endif
