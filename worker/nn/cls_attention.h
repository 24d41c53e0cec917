/* Multi-head self-attention of which only the first token's output is wanted: the last block of an encoder whose
 * feature is the CLS token. The same function as attention.h after a linear layer for Q, K and V, but no token gets
 * a key or a value, since with one query q they can be had from its side. Per head, with X the tokens (T,dim):
 *
 *   q = W_q x_0 + b_q              scores = X u           u = W_k^T q
 *                                  (q b_k, the same for all tokens, changes nothing)
 *   p = softmax(scores / sqrt(width))                     m = X^T p
 *   output = W_v m + b_v           for the sum of p is 1
 *
 * which takes 2 dim (2 dim + heads T) products a sample in place of 3 dim^2 T. The gradient of b_k is zero. Arrays
 * hold heads side by side within a sample. The object is immutable after cls_attention_init. */
#ifndef DECANT_WORKER_NN_CLS_ATTENTION_H
#define DECANT_WORKER_NN_CLS_ATTENTION_H

#include "worker/nn/arena.h"
#include "worker/nn/linear.h"

struct cls_attention {
    uint32_t tokens, dim, heads, width; /* T; width = dim / heads */
    uint32_t samples;                   /* at a time at most */
    uint32_t padded;                    /* length of a row of scores: scores.h */
    enum encoder_precision precision;   /* of the operands of its products */
    struct linear query;
    struct gather widen, narrow;  /* one head of all samples: width -> dim, dim -> width */
    struct outer weight;          /* of a head's keys or values */
    struct gather scores, mix;    /* one sample, a row a head: (heads,dim) X^T; (heads,T) X */
    struct outer spread;          /* one sample: a row of dim for each token, from rows of (heads,T) and (heads,dim) */
    size_t wide, narrowed, share; /* reals of one head: packed width -> dim and dim -> width, packed gradient */
    struct arena tables;
};

/* What is kept for backward, (places, ...), and the packed weights and gradients of a layer. */
struct cls_store {
    real *q, *u, *probabilities, *m; /* (dim); (heads,dim); (heads,padded); (heads,dim) */
    real *query_forward, *query_backward, *query_gradient;
    real *key_widen, *key_narrow, *key_gradient;       /* heads one after the other, likewise */
    real *value_widen, *value_narrow, *value_gradient; /* ... */
};

struct cls_scratch {
    real *packed, *gradient;    /* tokens of one sample as an operand; its spread */
    real *first, *d_q;          /* (samples,dim) */
    real *d_u, *d_m, *d_scores; /* (samples,heads,dim) twice; (heads,padded) */
};

/* 0 or ERR_MEMORY */
int cls_attention_init(struct cls_attention *t, uint32_t tokens, uint32_t dim, uint32_t heads, uint32_t samples,
                       enum encoder_precision precision);
void cls_attention_fini(struct cls_attention *t);
void cls_attention_carve(const struct cls_attention *t, size_t places, struct cls_store *s, struct arena *a);
void cls_scratch_carve(const struct cls_attention *t, struct cls_scratch *s, struct arena *a);
/* The store's arrays from place `first` on. */
struct cls_store cls_store_at(const struct cls_attention *t, const struct cls_store *s, size_t first);

/* Once per pass. weight (3 dim,dim), bias (3 dim): those of Q, K and V in turn. end_backward writes weight's
 * gradient. */
void cls_attention_begin_forward(const struct cls_attention *t, const real *weight, const real *bias,
                                 const struct cls_store *s);
void cls_attention_begin_backward(const struct cls_attention *t, const real *weight, const struct cls_store *s);
void cls_attention_end_backward(const struct cls_attention *t, const struct cls_store *s, real *weight_gradient);

/* n samples x (n,T,dim), n <= samples; output (n,dim). */
void cls_attention_forward(const struct cls_attention *t, size_t n, const real *x, const struct cls_store *s,
                           const struct cls_scratch *w, real *output);
/* d_x (n,T,dim) is overwritten; bias_gradient (3 dim) is added to. */
void cls_attention_backward(const struct cls_attention *t, size_t n, const real *x, const real *d_output,
                            const struct cls_store *s, const struct cls_scratch *w, real *d_x, real *bias_gradient);

#endif
