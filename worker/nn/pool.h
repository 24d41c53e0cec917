/* The mean over the pixels of a sample, which makes a convolutional encoder's feature, and its gradient. */
#ifndef DECANT_WORKER_NN_POOL_H
#define DECANT_WORKER_NN_POOL_H

#include "worker/nn/real.h"

/* y (pixels, channels) -> mean (channels) */
void pool_mean(const real *y, size_t pixels, size_t channels, real *mean);
/* d_mean (n, channels) -> d_y (n, pixels, channels): every pixel receives its share. */
void pool_spread(const real *d_mean, size_t n, size_t pixels, size_t channels, real *d_y);

#endif
