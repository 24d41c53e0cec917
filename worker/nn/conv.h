/* 3x3 convolution, stride 1 or 2, padding 1, no bias, on NHWC. Weights are (out, 9 in), the nine taps row by row.
 *
 * Inputs are zero-padded images with the image at (1, 1), of stride (OH - 1) + 3 by stride (OW - 1) + 3 pixels; so
 * an output pixel reads three contiguous runs. Output gradients ("deltas") are padded too: stride 2 has one more
 * zero column and row at the end, (OH + 1, OW + 1), stride 1 also one at the beginning, (OH + 2, OW + 2). So an
 * input pixel reads contiguous runs of them: three of three, or with stride 2 one or two of one or two, since the
 * taps that it hears depend on the parity of its coordinates (1, 2, 2 or 4 of the 9). All three products are then
 * tiles.h's, without im2col or col2im. With stride 1 and enough channels, in float32, they are winograd.h's, which
 * needs scratch memory. The object holds geometry and offset tables for up to `block` samples; it is immutable after
 * conv_init. */
#ifndef DECANT_WORKER_NN_CONV_H
#define DECANT_WORKER_NN_CONV_H

#include "worker/nn/arena.h"
#include "worker/nn/tiles.h"
#include "worker/nn/winograd.h"

enum { CONV_PHASES_MAX = 4 };

struct conv_shape {
    uint32_t height, width, in, out; /* of the input; channels in, channels out */
    uint32_t stride;                 /* 1 or 2 */
};

struct conv {
    struct conv_shape shape;
    enum encoder_precision precision;     /* of the operands of its products */
    uint32_t out_height, out_width;       /* ceil(height / stride), ceil(width / stride) */
    uint32_t padded_height, padded_width; /* of an input */
    uint32_t delta_width, delta_margin;   /* of a padded output gradient; zeros before its first column and row */
    uint32_t block;                       /* samples that the tables cover */
    struct gather forward;
    uint32_t phases; /* stride^2: gradients wrt input pixels (y, x) with (y, x) % stride = (i / stride, i % stride) */
    struct gather input[CONV_PHASES_MAX];
    size_t input_rows[CONV_PHASES_MAX];   /* pixels of each phase, per sample */
    size_t input_packed[CONV_PHASES_MAX]; /* where each phase's weights start in the packed vector */
    struct outer weight;
    struct arena tables;
    bool short_cut; /* the products are those of: */
    struct winograd winograd;
};

int conv_init(struct conv *c, struct conv_shape shape, enum encoder_precision precision); /* 0 or ERR_MEMORY */
void conv_fini(struct conv *c);

size_t conv_padded_size(const struct conv *c); /* reals of one padded input */
/* Where sample i's image starts inside padded inputs; its rows are padded_width * in reals apart. */
real *conv_padded_image(const struct conv *c, real *input, size_t i);
/* The same inside padded output gradients; rows are delta_width * out apart. */
real *conv_delta_image(const struct conv *c, real *delta, size_t i);
size_t conv_output_size(const struct conv *c); /* reals of one output */
size_t conv_delta_size(const struct conv *c);  /* reals of one padded output gradient */
/* n images (height, width, in) into their frames. */
void conv_frame_images(const struct conv *c, const real *images, size_t n, real *input);
size_t conv_packed_forward_size(const struct conv *c);
size_t conv_packed_backward_size(const struct conv *c);
size_t conv_gradient_size(const struct conv *c); /* of the packed weight gradient */
size_t conv_scratch_size(const struct conv *c);  /* reals that each product writes over; 0: they take NULL */

void conv_pack_forward(const struct conv *c, const real *weight, real *packed);
void conv_pack_backward(const struct conv *c, const real *weight, real *packed);
/* Uses the end of `gradient`. */
void conv_unpack_gradient(const struct conv *c, real *gradient, real *weight_gradient);

/* n <= block samples. input: padded; output: (n, OH, OW, out). */
void conv_forward(const struct conv *c, size_t n, const real *input, const real *packed, real *scratch, real *output);
/* delta: padded output gradients; d_input: (n, height, width, in), overwritten. */
void conv_backward_input(const struct conv *c, size_t n, const real *delta, const real *packed, real *scratch,
                         real *d_input);
/* gradient (packed) += */
void conv_backward_weight(const struct conv *c, size_t n, const real *input, const real *delta, real *scratch,
                          real *gradient);

#endif
