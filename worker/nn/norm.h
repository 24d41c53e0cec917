/* The normalisations of a residual network, with what surrounds them there, on NHWC samples:
 *
 *   y = gamma xhat + beta     [+ residual]     [max(0, .)]          xhat = (x - mean) / sqrt(var + 1e-5)
 *
 * group: mean and variance over the pixels and channels of a group of one sample (GroupNorm, groupnorm.h). batch:
 * over the pixels of one channel of all samples (BatchNorm), or running ones. All samples must have been measured
 * before one is applied, and all must have been summed before one gradient is known:
 *
 *   forward    norm_measure for each sample    norm_settle(samples)         norm_apply for each
 *   running                                    norm_settle_running          norm_apply for each
 *   backward   norm_sums for each sample       norm_settle_gradient         norm_input_gradient for each
 *
 * Of the group kind a sample needs no other: there the calls for one sample follow each other while it is in cache,
 * and settling does nothing. Backward takes the mask of the ReLU from y. Samples are named by their place in the
 * stores. y, residual and d_x may lie inside a zero frame, as conv.h wants it: their rows are `row` reals apart. */
#ifndef DECANT_WORKER_NN_NORM_H
#define DECANT_WORKER_NN_NORM_H

#include <stdbool.h>
#include "worker/nn/arena.h"
#include "worker/nn/groupnorm.h"
#include "worker/nn/parameters.h"

struct norm {
    struct groupnorm sample; /* groups: of the group kind */
    bool batch;
    struct parameter gamma, beta;
    size_t mean, variance; /* batch: offsets of the running ones in the buffers */
};

/* What one pass keeps; C channels. */
struct norm_store {
    real *statistics;        /* mean, 1/deviation; group: (places, 2 groups), batch: (2 C) */
    real *variance;          /* batch: (C) biased, of the samples */
    real *sums;              /* of a sample: moments, later sums of gradients; batch: (places, 2 C), group: (2 C) */
    real *slope, *shift;     /* (C) gamma xhat + beta = slope x + shift; batch: from settling on, like the next */
    real *linear, *constant; /* (C) d_x = slope d + linear x + constant */
    real *center;            /* (C) each channel's mean */
};

/* An NHWC sample whose rows are `row` reals apart. */
struct norm_rows {
    real *at; /* NULL: there is none */
    size_t row;
};

/* Samples in such rows, `sample` reals apart. */
struct norm_images {
    struct norm_rows first;
    size_t sample;
};

static inline struct norm_rows norm_image(const struct norm_images *images, size_t i)
{
    real *at = images->first.at;
    return (struct norm_rows){at ? at + i * images->sample : NULL, images->first.row};
}

void norm_carve(const struct norm *n, size_t places, struct norm_store *w, struct arena *a);

/* x (height, width, channels) contiguous. */
void norm_measure(const struct norm *n, const struct norm_store *w, size_t place, const real *x);
void norm_settle(const struct norm *n, const struct norm_store *w, const real *params, size_t samples);
void norm_settle_running(const struct norm *n, const struct norm_store *w, const real *params, const real *buffers);
void norm_apply(const struct norm *n, const struct norm_store *w, const real *params, size_t place, const real *x,
                struct norm_rows residual, bool relu, struct norm_rows y);

/* d (height, width, channels), contiguous: gradients wrt y, which become those before the ReLU, when there is a y. */
void norm_sums(const struct norm *n, const struct norm_store *w, size_t place, const real *x, struct norm_rows y,
               real *d);
/* Adds to the gradients of gamma and beta, as the next does of the group kind. */
void norm_settle_gradient(const struct norm *n, const struct norm_store *w, const real *params, size_t samples,
                          real *grad);
/* d as norm_sums left it. */
void norm_input_gradient(const struct norm *n, const struct norm_store *w, const real *params, size_t place,
                         const real *x, const real *d, struct norm_rows d_x, real *grad);
/* What these samples contribute to the running statistics: mean and unbiased variance, at their places in buffers. */
void norm_contribution(const struct norm *n, const struct norm_store *w, size_t samples, real *buffers);

#endif
