/* One basic block of a residual network (He et al., "Deep Residual Learning", CVPR 2016):
 *
 *   y = max(0, norm2(conv2(max(0, norm1(conv1 x)))) + shortcut x)
 *
 * The shortcut is x itself, or norm3(W x) on every second pixel where the block halves the image or changes the
 * width. */
#ifndef DECANT_WORKER_NN_RESIDUAL_H
#define DECANT_WORKER_NN_RESIDUAL_H

#include "worker/nn/conv_norm.h"
#include "worker/nn/linear.h"

struct residual {
    struct conv_norm unit[2];
    bool projects; /* the shortcut has weights: */
    struct linear linear;
    struct norm norm;
    struct parameter weight;
};

struct residual_store {
    struct conv_norm_store unit[2]; /* the first one's input is the block's */
    real *projected;                /* (places, OH*OW*out): W x */
    real *packed_forward, *packed_backward, *gradient;
    struct norm_store norm;
};

/* Temporaries that all blocks share. */
struct residual_scratch {
    real *mid; /* (samples of a pass, output): forward the shortcut, backward gradients between convolutions */
    real *picked, *d_picked; /* (RESIDUAL_BLOCK, OH*OW*in): every second pixel, and gradients */
    real *d_projected;       /* (RESIDUAL_BLOCK, OH*OW*out) */
};

enum { RESIDUAL_BLOCK = 4 }; /* samples of a shortcut at a time: few enough for the cache (fairly arbitrary) */

/* 0 or ERR_MEMORY */
int residual_init(struct residual *b, struct conv_shape shape, struct norm_kind kind, enum encoder_precision precision);
void residual_fini(struct residual *b);
int residual_describe(struct residual *b, const char *prefix, struct manifest *m);
void residual_initialise(const struct residual *b, uint64_t seed, real *params, real *buffers);
void residual_carve(const struct residual *b, size_t places, struct residual_store *w, struct arena *a);
size_t residual_input_size(const struct residual *b);  /* of a sample, without its frame */
size_t residual_output_size(const struct residual *b); /* likewise */

void residual_begin_forward(const struct residual *b, const struct residual_store *w, const struct resnet_pass *p);
void residual_begin_backward(const struct residual *b, const struct residual_store *w, const real *params, real *grad);
void residual_end_backward(const struct residual *b, const struct residual_store *w, real *grad);

void residual_forward(const struct residual *b, const struct residual_store *w, const struct residual_scratch *s,
                      const struct resnet_pass *p, const struct norm_images *y);
/* d_y (n, output): overwritten. d_x (n, input): gradients wrt the block's input. */
void residual_backward(const struct residual *b, const struct residual_store *w, const struct residual_scratch *s,
                       const struct resnet_pass *p, const struct norm_images *y, real *d_y, real *d_x, real *grad);
void residual_contribution(const struct residual *b, const struct residual_store *w, size_t samples, real *buffers);

#endif
