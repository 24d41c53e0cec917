/* LayerNorm of each row of (rows, n): y = gamma xhat + beta, xhat = (x - mean) / sqrt(var + 1e-5) (Ba et al., 2016). */
#ifndef DECANT_WORKER_NN_LAYERNORM_H
#define DECANT_WORKER_NN_LAYERNORM_H

#include "worker/nn/real.h"

struct layernorm {
    size_t n;
    const real *gamma, *beta; /* (n) */
    real *d_gamma, *d_beta;   /* (n), added to; forward does not touch them */
};

void layernorm_forward(const struct layernorm *l, const real *x, size_t rows, real *y);
/* d_x is added to (it holds the residual's gradient). Statistics are recomputed from x, and y with them: not keeping it
 * costs the pass that needs it nothing. */
void layernorm_backward(const struct layernorm *l, const real *x, size_t rows, const real *d_y, real *d_x, real *y);

#endif
