/* y = x W^T + bias, with W (out, in). Rows are processed in blocks that stay in cache. Packing happens once per step
 * and is separate from use, so that callers who work in chunks of rows pack once. Immutable after linear_init. */
#ifndef DECANT_WORKER_NN_LINEAR_H
#define DECANT_WORKER_NN_LINEAR_H

#include "worker/nn/arena.h"
#include "worker/nn/tiles.h"

struct linear {
    uint32_t in, out;
    enum encoder_precision precision; /* of the operands of its products */
    uint32_t block;                   /* rows that the tables cover */
    struct gather forward, input;     /* y; gradient wrt x */
    struct outer weight;
    struct arena tables;
};

int linear_init(struct linear *l, uint32_t in, uint32_t out, enum encoder_precision precision); /* 0 or ERR_MEMORY */
void linear_fini(struct linear *l);

size_t linear_packed_forward_size(const struct linear *l);
size_t linear_packed_backward_size(const struct linear *l);
size_t linear_gradient_size(const struct linear *l); /* of the packed weight gradient */

void linear_pack_forward(const struct linear *l, const real *weight, const real *bias, real *packed); /* bias or NULL */
void linear_pack_backward(const struct linear *l, const real *weight, real *packed);
void linear_unpack_gradient(const struct linear *l, const real *gradient, real *weight_gradient);

void linear_forward(const struct linear *l, size_t R, const real *x, const real *packed, real *y);
void linear_backward_input(const struct linear *l, size_t R, const real *d_y, const real *packed, real *d_x);
/* gradient (packed) += */
void linear_backward_weight(const struct linear *l, size_t R, const real *x, const real *d_y, real *gradient);
/* The same, and what comes next is fetched meanwhile (tiles.h). */
void linear_forward_ahead(const struct linear *l, size_t R, const real *x, const real *packed, real *y,
                          struct ahead *ahead);
void linear_backward_input_ahead(const struct linear *l, size_t R, const real *d_y, const real *packed, real *d_x,
                                 struct ahead *ahead);
void linear_backward_weight_ahead(const struct linear *l, size_t R, const real *x, const real *d_y, real *gradient,
                                  struct ahead *ahead);

#endif
