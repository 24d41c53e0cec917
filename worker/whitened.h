/* Logits of components with full covariances: l_ik = bias_k - 1/2 |W_k h_i - W_k mu_k|^2, W_k (D,D) from the published
 * mixture. One product gives W h - W mu of a few components at a time, D columns each; their squares are added up while
 * they are in cache. Nothing is subtracted that has been squared before, so narrow components lose no digits. */
#ifndef DECANT_WORKER_WHITENED_H
#define DECANT_WORKER_WHITENED_H

#include <stddef.h>
#include <stdint.h>
#include "proto/mixture_wire.h"

struct whitened;

/* Room for K components of D dimensions, and blocks of at most that many rows. 0 or ERR_MEMORY. */
int whitened_new(uint32_t block_rows, uint32_t K, uint32_t D, struct whitened **out);
void whitened_free(struct whitened **w);
/* Copies the operand of all components. v->covariance is COVARIANCE_FULL; K and D are those of whitened_new. */
void whitened_use(struct whitened *w, const struct mixture_view *v);
/* logits (rows,K) of h (rows,D), rows at most block_rows: log_const + price included. */
void whitened_logits(struct whitened *w, const float *h, size_t rows, float *logits);

#endif
