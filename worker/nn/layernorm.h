/* LayerNorm of each row of (rows, n): y = gamma xhat + beta, xhat = (x - mean) / sqrt(var + 1e-5) (Ba et al., 2016). */
#ifndef DECANT_WORKER_NN_LAYERNORM_H
#define DECANT_WORKER_NN_LAYERNORM_H

#include "worker/nn/real.h"

enum { LAYERNORM_SCRATCH = 2 }; /* scratch: this many times n */

void layernorm_forward(const real *x, size_t rows, size_t n, const real *gamma, const real *beta, real *y);
/* d_x is added to (it holds the residual's gradient), as are d_gamma and d_beta. Statistics are recomputed from x. */
void layernorm_backward(const real *x, size_t rows, size_t n, const real *gamma, const real *d_y, real *d_x,
                        real *d_gamma, real *d_beta, real *scratch);

#endif
