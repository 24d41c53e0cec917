/* 3x3 convolution, stride 2, padding 1, no bias, on NHWC. Weights are (out, 9 in), the nine taps row by row.
 *
 * Inputs are zero-padded images of (2 OH + 1, 2 OW + 1) pixels with the image at (1, 1); so an output pixel reads three
 * contiguous runs. Output gradients ("deltas") carry one more zero column and row at the end, (OH + 1, OW + 1); so an
 * input pixel, whose taps depend on the parity of its coordinates only (1, 2, 2 or 4 of the 9), reads one or two runs
 * of them. All three products are then tiles.h's, without im2col or col2im. The object holds geometry and offset tables
 * for up to `block` samples; it is immutable after conv_init. */
#ifndef DECANT_WORKER_NN_CONV_H
#define DECANT_WORKER_NN_CONV_H

#include "worker/nn/arena.h"
#include "worker/nn/tiles.h"

enum { CONV_PARITIES = 4 };

struct conv {
    uint32_t height, width, in, out; /* of the input; channels in, channels out */
    uint32_t out_height, out_width;  /* (height + 1) / 2, (width + 1) / 2 */
    uint32_t padded_width;           /* 2 out_width + 1 */
    uint32_t block;                  /* samples that the tables cover */
    struct gather forward;
    struct gather input[CONV_PARITIES]; /* gradient wrt input pixels of parity (row, column) = (i / 2, i % 2) */
    size_t input_rows[CONV_PARITIES];   /* of them, per sample */
    size_t input_packed[CONV_PARITIES]; /* where each parity's weights start in the packed vector */
    struct outer weight;
    struct arena tables;
};

int conv_init(struct conv *c, uint32_t height, uint32_t width, uint32_t in, uint32_t out); /* 0 or ERR_MEMORY */
void conv_fini(struct conv *c);

size_t conv_padded_size(const struct conv *c); /* reals of one padded input */
size_t conv_output_size(const struct conv *c); /* reals of one output */
size_t conv_delta_size(const struct conv *c);  /* reals of one padded output gradient */
size_t conv_packed_forward_size(const struct conv *c);
size_t conv_packed_backward_size(const struct conv *c);
size_t conv_gradient_size(const struct conv *c); /* of the packed weight gradient */

void conv_pack_forward(const struct conv *c, const real *weight, real *packed);
void conv_pack_backward(const struct conv *c, const real *weight, real *packed);
void conv_unpack_gradient(const struct conv *c, const real *gradient, real *weight_gradient);

/* n <= block samples. input: padded; output: (n, OH, OW, out). */
void conv_forward(const struct conv *c, size_t n, const real *input, const real *packed, real *output);
/* delta: padded output gradients; d_input: (n, height, width, in), overwritten. */
void conv_backward_input(const struct conv *c, size_t n, const real *delta, const real *packed, real *d_input);
/* gradient (packed) += */
void conv_backward_weight(const struct conv *c, size_t n, const real *input, const real *delta, real *gradient);

#endif
