/* Multi-head self-attention of one sample: per head, O = softmax(Q K^T / sqrt(width)) V (Vaswani et al., 2017). Q, K
 * and V stand side by side in qkv (T, 3 dim), heads side by side within each. The object is immutable after
 * attention_init. */
#ifndef DECANT_WORKER_NN_ATTENTION_H
#define DECANT_WORKER_NN_ATTENTION_H

#include "worker/nn/arena.h"
#include "worker/nn/tiles.h"

struct attention {
    uint32_t tokens, dim, heads, width; /* T; width = dim / heads */
    enum encoder_precision precision;   /* of the operands of its products */
    uint32_t padded;                    /* T rounded up to whole vectors: the length of a row of scores */
    struct gather scores, mix;          /* Q K^T -> S; P V -> O */
    struct gather d_probabilities, d_q; /* dO V^T -> dP; dS K -> dQ */
    struct outer d_v, d_k;              /* P^T dO; dS^T Q */
    struct arena tables;
};

struct attention_scratch {
    real *packed, *gradient, *scores;
};

/* 0 or ERR_MEMORY */
int attention_init(struct attention *t, uint32_t tokens, uint32_t dim, uint32_t heads,
                   enum encoder_precision precision);
void attention_fini(struct attention *t);
void attention_carve(const struct attention *t, struct attention_scratch *s, struct arena *a);

size_t attention_probabilities_size(const struct attention *t); /* reals of one sample: heads, T, padded */

/* probabilities are kept for backward, their columns beyond T are practically zero; output (T,dim). */
void attention_forward(const struct attention *t, const real *qkv, real *probabilities, real *output,
                       const struct attention_scratch *s);
/* d_output (T,dim); d_qkv (T,3 dim) is overwritten. */
void attention_backward(const struct attention *t, const real *qkv, const real *probabilities, const real *d_output,
                        real *d_qkv, const struct attention_scratch *s);

#endif
