/* LayerNorm; see layernorm.h. */
#include "worker/nn/layernorm.h"

#include <math.h>
#include "common/kernels.h"
#include "worker/nn/vector.h"

#define EPSILON REAL(1e-5)

/* y = x - mean(x); returns 1/deviation. */
INLINE real center_row(const real *restrict x, size_t n, real *restrict y)
{
    real mean = vector_sum(x, n) / (real)n;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] - mean;
    return 1 / (real)sqrt(vector_dot(y, y, n) / (real)n + EPSILON);
}

STATIC_KERNEL(void, forward_row,
              (const real *restrict x, size_t n, const real *restrict gamma, const real *restrict beta,
               real *restrict y),
              (x, n, gamma, beta, y))
{
    real inverse = center_row(x, n, y);
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] * inverse * gamma[i] + beta[i];
}

void layernorm_forward(const real *x, size_t rows, size_t n, const real *gamma, const real *beta, real *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n)
        forward_row(x, n, gamma, beta, y);
}

/* hat and through (n): xhat and gamma d_y of this row. */
STATIC_KERNEL(void, backward_row,
              (const real *restrict x, size_t n, const real *restrict gamma, const real *restrict d_y,
               real *restrict d_x, real *restrict d_gamma, real *restrict d_beta, real *restrict hat,
               real *restrict through),
              (x, n, gamma, d_y, d_x, d_gamma, d_beta, hat, through))
{
    real inverse = center_row(x, n, hat);
    for (size_t i = 0; i < n; i++) {
        hat[i] *= inverse;
        through[i] = gamma[i] * d_y[i];
        d_gamma[i] += d_y[i] * hat[i];
        d_beta[i] += d_y[i];
    }
    real mean = vector_sum(through, n) / (real)n, along = vector_dot(through, hat, n) / (real)n;
    for (size_t i = 0; i < n; i++)
        d_x[i] += inverse * (through[i] - mean - hat[i] * along);
}

void layernorm_backward(const real *x, size_t rows, size_t n, const real *gamma, const real *d_y, real *d_x,
                        real *d_gamma, real *d_beta, real *scratch)
{
    for (size_t r = 0; r < rows; r++, x += n, d_y += n, d_x += n)
        backward_row(x, n, gamma, d_y, d_x, d_gamma, d_beta, scratch, scratch + n);
}
