/* Row kernels; see rows.h. */
#include "worker/nn/rows.h"

#include <math.h>
#include "common/kernels.h"
#include "worker/nn/scalar.h"

KERNEL(real, row_sum, (const real *x, size_t n), (x, n))
{
    return vector_sum(x, n);
}

KERNEL(real, row_dot, (const real *x, const real *y, size_t n), (x, y, n))
{
    return vector_dot(x, y, n);
}

KERNEL(real, row_max, (const real *x, size_t n), (x, n))
{
    return vector_max(x, n);
}

KERNEL(void, row_scale, (real * x, real a, size_t n), (x, a, n))
{
    for (size_t i = 0; i < n; i++)
        x[i] *= a;
}

KERNEL(void, row_add, (real *restrict y, const real *restrict x, size_t n), (y, x, n))
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* Returns sum exp(scale * (x - shift)), *shift = max x. */
STATIC_KERNEL(real, softmax, (real * x, real scale, size_t n, real *shift), (x, scale, n, shift))
{
    real most = vector_max(x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = real_exp(scale * (x[i] - most));
    real sum = vector_sum(x, n), inverse = 1 / sum;
    for (size_t i = 0; i < n; i++)
        x[i] *= inverse;
    *shift = most;
    return sum;
}

void row_softmax(real *x, real scale, size_t n, real *log_sum)
{
    real shift, sum = softmax(x, scale, n, &shift);
    if (log_sum)
        *log_sum = scale * shift + (real)log(sum);
}
