/* Products of embeddings with prototypes, `width` prototypes at a time: a run of `order` (carp's blocks), or all of
 * them. */
#ifndef DECANT_WORKER_LOSS_LOGITS_H
#define DECANT_WORKER_LOSS_LOGITS_H

#include "worker/nn/linear.h"

struct logits {
    struct linear product; /* D -> width */
    real *chosen;          /* (width,D): the prototypes in use, or their gradient */
    const real *held;      /* prototypes of whose selection `chosen` is a copy, NULL when of none; in this call only */
    size_t held_first;
    real *packed, *gradient;
};

int logits_init(struct logits *l, uint32_t D, uint32_t width); /* 0 or ERR_MEMORY */
void logits_fini(struct logits *l);
void logits_carve(struct logits *l, struct arena *a);

/* Before the first selection of a call, whose prototypes and order may differ from those of the call before. */
void logits_begin(struct logits *l);
/* Selects prototypes order[first..first+width), or first.. when order is NULL, for the forward products that follow. */
void logits_select(struct logits *l, const real *prototypes, const uint32_t *order, size_t first);
/* out (R,width) = z (R,D) . selected */
void logits_forward(const struct logits *l, size_t R, const real *z, real *out);
/* dz (R,D) = d (R,width) . prototypes of that range */
void logits_backward(struct logits *l, size_t R, const real *d, const real *prototypes, const uint32_t *order,
                     size_t first, real *dz);
/* The rows of d_prototypes (K,D) in that range are overwritten with d^T z. */
void logits_backward_prototypes(struct logits *l, size_t R, const real *z, const real *d, const uint32_t *order,
                                size_t first, real *d_prototypes);

#endif
