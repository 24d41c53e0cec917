/* BatchNorm over the rows of (R,N) and GELU, fused: y = gelu(gamma xhat + beta) (Ioffe & Szegedy, ICML 2015).
 * Statistics are those of the given rows, or running ones. Backward recomputes the normalised value from x. */
#ifndef DECANT_WORKER_NN_BATCHNORM_H
#define DECANT_WORKER_NN_BATCHNORM_H

#include "worker/nn/real.h"

enum { BATCHNORM_SCRATCH = 6 }; /* scratch: this many times N */

/* Column means and biased variances. */
void batchnorm_statistics(const real *x, size_t R, size_t N, real *mean, real *variance);
void batchnorm_gelu_forward(const real *x, size_t R, size_t N, const real *mean, const real *variance,
                            const real *gamma, const real *beta, real *y, real *scratch);
/* For statistics of the batch. d (R,N): gradient wrt y, replaced by that wrt x. d_gamma, d_beta (N) are overwritten. */
void batchnorm_gelu_backward(const real *x, size_t R, size_t N, const real *mean, const real *variance,
                             const real *gamma, const real *beta, real *d, real *d_gamma, real *d_beta, real *scratch);

#endif
