/* A 3x3 convolution and its normalisation: what a residual network is made of. Samples of a pass are independent of
 * each other unless it settles statistics of its own (BatchNorm in training): those need all its samples between the
 * convolution and the rest, the others go through both while they are in cache. */
#ifndef DECANT_WORKER_NN_CONV_NORM_H
#define DECANT_WORKER_NN_CONV_NORM_H

#include "worker/nn/conv.h"
#include "worker/nn/norm.h"

struct conv_norm {
    struct conv conv;
    struct norm norm;
    struct parameter weight;
};

struct conv_norm_store {
    real *input;  /* (places, padded input); whoever comes before writes it */
    real *output; /* (places, OH*OW*out) of the convolution */
    real *packed_forward, *packed_backward;
    real *delta;    /* (block, padded output gradient), its frame always zero */
    real *gradient; /* packed */
    struct norm_store norm;
};

/* n samples at places first, first + 1, ... of the stores. */
struct resnet_pass {
    const real *params, *buffers;
    bool settle; /* batch: statistics are those of these samples, else running ones */
    size_t first, n;
    real *scratch; /* of convolutions: the largest conv_scratch_size */
};

struct norm_kind {
    bool batch;
    uint32_t groups; /* else */
};

/* 0 or ERR_MEMORY */
int conv_norm_init(struct conv_norm *u, struct conv_shape shape, struct norm_kind kind,
                   enum encoder_precision precision);
void conv_norm_fini(struct conv_norm *u);
/* Appends PREFIX.conv, PREFIX.norm and the norm's buffers; NUMBER (0: none) goes after "conv" and "norm". */
int conv_norm_describe(struct conv_norm *u, const char *prefix, int number, struct manifest *m);
void conv_norm_initialise(const struct conv_norm *u, uint64_t seed, real *params, real *buffers);
void conv_norm_carve(const struct conv_norm *u, size_t places, struct conv_norm_store *w, struct arena *a);

/* The same of a norm alone: names are PREFIX.weight ... */
int norm_describe(struct norm *n, const char *prefix, struct manifest *m);
void norm_initialise(const struct norm *n, real *params, real *buffers);

/* Once per forward, once around the passes of a backward. */
void conv_norm_begin_forward(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p);
void conv_norm_begin_backward(const struct conv_norm *u, const struct conv_norm_store *w, const real *params,
                              real *grad);
void conv_norm_end_backward(const struct conv_norm *u, const struct conv_norm_store *w, real *grad);

/* Where the pass's inputs are to be written: inside their frames. */
struct norm_images conv_norm_inputs(const struct conv_norm *u, const struct conv_norm_store *w,
                                    const struct resnet_pass *p);
/* y = max(0, norm(conv(input)) [+ residual]); residual.first.at may be NULL. */
void conv_norm_forward(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p,
                       const struct norm_images *residual, const struct norm_images *y);
/* d (n, output): gradients wrt y, which become those before the ReLU. d_input (n, height, width, in), or NULL when not
 * wanted: overwritten with those wrt the input, plus `add` (the same shape) unless that is NULL. */
void conv_norm_backward(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p,
                        const struct norm_images *y, real *d, const real *add, real *d_input, real *grad);

#endif
