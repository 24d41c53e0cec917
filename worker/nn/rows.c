/* Row kernels; see rows.h. */
#include "worker/nn/rows.h"

#include "common/vecmath.h"
#include "worker/nn/scalar.h"

enum {
    PARTIALS = 32
}; /* independent partial results: four AVX2 vectors of float, enough to hide the latency of an add */

INLINE real fold_sum(real *partial)
{
    for (int width = PARTIALS / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            partial[i] += partial[i + width];
    return partial[0];
}

KERNEL real row_sum(const real *x, size_t n)
{
    real partial[PARTIALS] = {0};
    size_t i = 0;
    for (; i + PARTIALS <= n; i += PARTIALS)
        for (int k = 0; k < PARTIALS; k++)
            partial[k] += x[i + k];
    for (int k = 0; i < n; i++, k++)
        partial[k] += x[i];
    return fold_sum(partial);
}

KERNEL real row_dot(const real *x, const real *y, size_t n)
{
    real partial[PARTIALS] = {0};
    size_t i = 0;
    for (; i + PARTIALS <= n; i += PARTIALS)
        for (int k = 0; k < PARTIALS; k++)
            partial[k] += x[i + k] * y[i + k];
    for (int k = 0; i < n; i++, k++)
        partial[k] += x[i] * y[i];
    return fold_sum(partial);
}

KERNEL real row_max(const real *x, size_t n)
{
    real partial[PARTIALS];
    for (int k = 0; k < PARTIALS; k++)
        partial[k] = x[0];
    size_t i = 0;
    for (; i + PARTIALS <= n; i += PARTIALS)
        for (int k = 0; k < PARTIALS; k++)
            partial[k] = x[i + k] > partial[k] ? x[i + k] : partial[k];
    for (int k = 0; i < n; i++, k++)
        partial[k] = x[i] > partial[k] ? x[i] : partial[k];
    for (int k = 1; k < PARTIALS; k++)
        partial[0] = partial[k] > partial[0] ? partial[k] : partial[0];
    return partial[0];
}

KERNEL void row_scale(real *x, real a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= a;
}

KERNEL void row_add(real *restrict y, const real *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

KERNEL static void exponentials(real *x, real scale, real shift, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = real_exp(scale * (x[i] - shift));
}

real row_softmax(real *x, real scale, size_t n)
{
    real shift = row_max(x, n);
    exponentials(x, scale, shift, n);
    real sum = row_sum(x, n);
    row_scale(x, 1 / sum, n);
    return scale * shift + (real)log(sum);
}
