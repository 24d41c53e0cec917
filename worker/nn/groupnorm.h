/* GroupNorm and ReLU of one NHWC sample, fused: y = max(0, gamma xhat + beta), xhat = (x - mean) / sqrt(var + 1e-5),
 * mean and variance over the pixels and channels of a group (Wu & He, "Group Normalization", ECCV 2018). Backward
 * recomputes the mask from x, so y need not be kept. The output (and d_x) may lie inside a zero frame, as conv.h
 * wants it: its rows are `row` reals apart. */
#ifndef DECANT_WORKER_NN_GROUPNORM_H
#define DECANT_WORKER_NN_GROUPNORM_H

#include "worker/nn/real.h"

struct groupnorm {
    uint32_t height, width, channels, groups; /* groups divides channels */
};

enum { GROUPNORM_SCRATCH = 6 }; /* scratch: this many times channels */

/* x (height, width, channels) contiguous; statistics (2, groups): mean and 1/deviation; y's rows `row` apart. */
void groupnorm_relu_forward(const struct groupnorm *g, const real *x, const real *gamma, const real *beta,
                            real *statistics, real *y, size_t row, real *scratch);
/* d_y contiguous, d_x's rows `row` apart; d_gamma and d_beta (channels) are added to. */
void groupnorm_relu_backward(const struct groupnorm *g, const real *x, const real *gamma, const real *beta,
                             const real *statistics, const real *d_y, real *d_x, size_t row, real *d_gamma,
                             real *d_beta, real *scratch);

/* The steps of the two, for whoever fuses something else with them (norm.h). statistics (2, groups) of x; scratch:
 * twice channels. */
void groupnorm_statistics(const struct groupnorm *g, const real *x, real *statistics, real *scratch);
/* gamma xhat + beta = slope x + shift, per channel. */
void groupnorm_affine(const struct groupnorm *g, const real *statistics, const real *gamma, const real *beta,
                      real *slope, real *shift);
void groupnorm_center(const struct groupnorm *g, const real *statistics, real *center); /* each channel's mean */
/* From each channel's sum of d (gradients wrt gamma xhat + beta) and of d (x - center): d_x = slope d + linear x +
 * constant; adds to d_gamma and d_beta. */
void groupnorm_terms(const struct groupnorm *g, const real *gamma, const real *statistics, const real *sum,
                     const real *product, real *linear, real *constant, real *d_gamma, real *d_beta);

#endif
