/* LayerNorm; see layernorm.h. */
#include "worker/nn/layernorm.h"

#include "common/vecmath.h"
#include "worker/nn/rows.h"

#define EPSILON REAL(1e-5)

KERNEL static void subtract(const real *restrict x, real mean, size_t n, real *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] - mean;
}

/* y = x - mean(x); returns 1/deviation. */
static real center_row(const real *x, size_t n, real *y)
{
    subtract(x, row_sum(x, n) / (real)n, n, y);
    return 1 / (real)sqrt(row_dot(y, y, n) / (real)n + EPSILON);
}

KERNEL static void affine(real *restrict y, real inverse, const real *restrict gamma, const real *restrict beta,
                          size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] * inverse * gamma[i] + beta[i];
}

void layernorm_forward(const real *x, size_t rows, size_t n, const real *gamma, const real *beta, real *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n)
        affine(y, center_row(x, n, y), gamma, beta, n);
}

/* hat becomes xhat, through = gamma d_y; the parameters' gradients are added to. */
KERNEL static void parameter_gradients(real *restrict hat, real inverse, const real *restrict gamma,
                                       const real *restrict d_y, size_t n, real *restrict through,
                                       real *restrict d_gamma, real *restrict d_beta)
{
    for (size_t i = 0; i < n; i++) {
        hat[i] *= inverse;
        through[i] = gamma[i] * d_y[i];
        d_gamma[i] += d_y[i] * hat[i];
        d_beta[i] += d_y[i];
    }
}

KERNEL static void input_gradient(const real *restrict hat, const real *restrict through, real inverse, real mean,
                                  real along, size_t n, real *restrict d_x)
{
    for (size_t i = 0; i < n; i++)
        d_x[i] += inverse * (through[i] - mean - hat[i] * along);
}

void layernorm_backward(const real *x, size_t rows, size_t n, const real *gamma, const real *d_y, real *d_x,
                        real *d_gamma, real *d_beta, real *scratch)
{
    real *hat = scratch, *through = scratch + n;
    for (size_t r = 0; r < rows; r++, x += n, d_y += n, d_x += n) {
        real inverse = center_row(x, n, hat);
        parameter_gradients(hat, inverse, gamma, d_y, n, through, d_gamma, d_beta);
        real mean = row_sum(through, n) / (real)n, along = row_dot(through, hat, n) / (real)n;
        input_gradient(hat, through, inverse, mean, along, n, d_x);
    }
}
