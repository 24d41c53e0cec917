/* GELU; see activations.h. */
#include "worker/nn/activations.h"

#include "common/kernels.h"
#include "worker/nn/scalar.h"

KERNEL(void, gelu_forward, (const real *restrict x, size_t n, real *restrict y), (x, n, y))
{
    for (size_t i = 0; i < n; i++)
        y[i] = real_gelu(x[i]);
}

KERNEL(void, gelu_backward, (const real *restrict x, size_t n, real *restrict d, real *restrict y), (x, n, d, y))
{
    for (size_t i = 0; i < n; i++) {
        y[i] = real_gelu(x[i]);
        d[i] *= real_gelu_slope(x[i]);
    }
}
