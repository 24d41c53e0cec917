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

STATIC_KERNEL(void, forward,
              (const real *restrict x, size_t rows, size_t n, const real *restrict gamma, const real *restrict beta,
               real *restrict y),
              (x, rows, n, gamma, beta, y))
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        real inverse = center_row(x, n, y);
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] * inverse * gamma[i] + beta[i];
    }
}

void layernorm_forward(const struct layernorm *l, const real *x, size_t rows, real *y)
{
    forward(x, rows, l->n, l->gamma, l->beta, y);
}

/* hat and through (n): xhat and gamma d_y of a row. */
STATIC_KERNEL(void, backward,
              (const real *restrict x, size_t rows, size_t n, const real *restrict gamma, const real *restrict beta,
               const real *restrict d_y, real *restrict d_x, real *restrict y, real *restrict d_gamma,
               real *restrict d_beta, real *restrict hat, real *restrict through),
              (x, rows, n, gamma, beta, d_y, d_x, y, d_gamma, d_beta, hat, through))
{
    for (size_t r = 0; r < rows; r++, x += n, y += n, d_y += n, d_x += n) {
        real inverse = center_row(x, n, hat);
        for (size_t i = 0; i < n; i++) {
            y[i] = hat[i] * inverse * gamma[i] + beta[i];
            hat[i] *= inverse;
            through[i] = gamma[i] * d_y[i];
            d_gamma[i] += d_y[i] * hat[i];
            d_beta[i] += d_y[i];
        }
        real mean = vector_sum(through, n) / (real)n, along = vector_dot(through, hat, n) / (real)n;
        for (size_t i = 0; i < n; i++)
            d_x[i] += inverse * (through[i] - mean - hat[i] * along);
    }
}

void layernorm_backward(const struct layernorm *l, const real *x, size_t rows, const real *d_y, real *d_x, real *y,
                        real *scratch)
{
    backward(x, rows, l->n, l->gamma, l->beta, d_y, d_x, y, l->d_gamma, l->d_beta, scratch, scratch + l->n);
}
