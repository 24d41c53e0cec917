/* 3x3 convolution of stride 1 with 16 products for each 2x2 outputs in place of 36 (Winograd's F(2x2, 3x3): Lavin and
 * Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). With d a 4x4 patch of the input, g the weights of a
 * pair of channels and y the 2x2 outputs,
 *
 *   y = A' [(G g G') o (B' d B)] A         B' = 1  0 -1  0    G = 1    0   0     A' = 1 1  1  0
 *                                               0  1  1  0        1/2  1/2 1/2        0 1 -1 -1
 *                                               0 -1  1  0        1/2 -1/2 1/2
 *                                               0  1  0 -1        0    0   1
 *
 * and summed over input channels the 16 elementwise products are 16 products of matrices (patches, in) (in, out), which
 * tiles.h makes. The gradient with respect to the input is the same convolution with turned weights and the channels'
 * roles exchanged, that with respect to g is G' [sum over patches (B' d B) (A y A')] G. Factors are 0, 1 and 1/2, so
 * that in float32 errors are only somewhat larger than those of the plain sums.
 *
 * Images stand in frames of zeros one pixel wide, NHWC, both inputs and output gradients (conv.h). Rows of patches are
 * gone through a few at a time, so that both sides of the products stay in the second-level cache. An output depends on
 * its own image alone, and a sum's order on no block. Immutable after winograd_init. */
#ifndef DECANT_WORKER_NN_WINOGRAD_H
#define DECANT_WORKER_NN_WINOGRAD_H

#include <stdbool.h>
#include "worker/nn/arena.h"
#include "worker/nn/tiles.h"

struct winograd {
    uint32_t height, width, in, out;
    uint32_t rows, columns; /* of patches in an image */
    uint32_t block;         /* rows of patches at a time */
    struct gather forward, backward;
    struct outer weight;
    struct arena tables;
};

/* Whether it is worth it: fewer channels are moved about longer than they are multiplied. */
bool winograd_pays(uint32_t in, uint32_t out);
int winograd_init(struct winograd *w, uint32_t height, uint32_t width, uint32_t in, uint32_t out); /* 0, ERR_MEMORY */
void winograd_fini(struct winograd *w);

uint32_t winograd_samples(const struct winograd *w);    /* that make a full block */
size_t winograd_scratch_size(const struct winograd *w); /* reals, of each product */
size_t winograd_packed_forward_size(const struct winograd *w);
size_t winograd_packed_backward_size(const struct winograd *w);
size_t winograd_gradient_size(const struct winograd *w);

/* weight (out, 9 in), the taps row by row. */
void winograd_pack_forward(const struct winograd *w, const real *weight, real *packed);
void winograd_pack_backward(const struct winograd *w, const real *weight, real *packed);
/* weight_gradient (out, 9 in), overwritten. Uses the end of `gradient`. */
void winograd_unpack_gradient(const struct winograd *w, real *gradient, real *weight_gradient);

/* n samples. input: framed; output (n, height, width, out). */
void winograd_forward(const struct winograd *w, size_t n, const real *input, const real *packed, real *scratch,
                      real *output);
/* delta: framed output gradients; d_input (n, height, width, in), overwritten. */
void winograd_backward_input(const struct winograd *w, size_t n, const real *delta, const real *packed, real *scratch,
                             real *d_input);
/* gradient += */
void winograd_backward_weight(const struct winograd *w, size_t n, const real *input, const real *delta, real *scratch,
                              real *gradient);

#endif
