/* The projection head: features-hidden-hidden-projection, BatchNorm and GELU after the first two layers. */
#ifndef DECANT_WORKER_NN_HEAD_H
#define DECANT_WORKER_NN_HEAD_H

#include "worker/nn/linear.h"
#include "worker/nn/model.h"
#include "worker/nn/parameters.h"

enum { HEAD_LAYERS = 3, HEAD_NORMS = 2 };

struct head {
    struct linear linear[HEAD_LAYERS];
    struct parameter weight[HEAD_LAYERS], bias[HEAD_LAYERS], gamma[HEAD_NORMS], beta[HEAD_NORMS];
    size_t mean[HEAD_NORMS], variance[HEAD_NORMS]; /* offsets of the running statistics among the buffers */
};

/* Activations of one pass over up to rows_max rows. */
struct head_workspace {
    real *input;                                   /* (R,F) copy of the features */
    real *x[HEAD_NORMS];                           /* (R,hidden) before BatchNorm */
    real *y[HEAD_NORMS];                           /* (R,hidden) after GELU */
    real *mean[HEAD_NORMS], *variance[HEAD_NORMS]; /* of the batch, biased */
    real *delta[2];                                /* (R,hidden) gradients */
    real *packed, *gradient, *scratch;
};

int head_init(struct head *h, uint32_t features, uint32_t hidden, uint32_t projection); /* 0 or ERR_MEMORY */
void head_fini(struct head *h);
int head_describe(struct head *h, struct manifest *m);
void head_initialise(const struct head *h, uint64_t seed, real *params, real *buffers);
void head_carve(const struct head *h, uint32_t rows_max, struct head_workspace *w, struct arena *a);

void head_forward(const struct head *h, enum model_mode mode, const real *params, const real *buffers,
                  const real *features, size_t R, struct head_workspace *w, real *z);
/* Of the last MODEL_TRAIN forward. d_features (R,F) overwritten; the head's part of grad is overwritten. */
void head_backward(const struct head *h, const real *params, const real *dz, size_t R, struct head_workspace *w,
                   real *d_features, real *grad);
/* The head's buffers: batch mean and unbiased variance of the R rows of the last forward, not one of MODEL_EVAL. */
void head_buffer_contribution(const struct head *h, const struct head_workspace *w, size_t R, real *buffers);

#endif
