/* BatchNorm with GELU; see batchnorm.h. */
#include "worker/nn/batchnorm.h"

#include <math.h>
#include <string.h>
#include "common/kernels.h"
#include "worker/nn/columns.h"
#include "worker/nn/scalar.h"

#define EPSILON REAL(1e-5)

void batchnorm_statistics(const real *x, size_t R, size_t N, real *mean, real *variance)
{
    columns_sum(x, R, N, mean);
    for (size_t j = 0; j < N; j++)
        mean[j] /= (real)R;
    columns_sum_squares(x, R, N, mean, variance);
    for (size_t j = 0; j < N; j++)
        variance[j] /= (real)R;
}

/* gamma xhat + beta = slope x + shift; inverse, when not NULL, receives 1/deviation. */
static void affine(size_t N, const real *mean, const real *variance, const real *gamma, const real *beta, real *slope,
                   real *shift, real *inverse)
{
    for (size_t j = 0; j < N; j++) {
        real scale = 1 / (real)sqrt(variance[j] + EPSILON);
        slope[j] = gamma[j] * scale;
        shift[j] = beta[j] - mean[j] * slope[j];
        if (inverse)
            inverse[j] = scale;
    }
}

STATIC_KERNEL(void, apply,
              (size_t R, size_t N, const real *restrict x, const real *restrict slope, const real *restrict shift,
               real *restrict y),
              (R, N, x, slope, shift, y))
{
    for (size_t r = 0; r < R; r++, x += N, y += N)
        for (size_t j = 0; j < N; j++)
            y[j] = real_gelu(slope[j] * x[j] + shift[j]);
}

void batchnorm_gelu_forward(const real *x, size_t R, size_t N, const real *mean, const real *variance,
                            const real *gamma, const real *beta, real *y, real *scratch)
{
    affine(N, mean, variance, gamma, beta, scratch, scratch + N, NULL);
    apply(R, N, x, scratch, scratch + N, y);
}

/* d becomes the gradient wrt the normalised value; its column sums are d_beta, those of d (x - mean) the product. */
STATIC_KERNEL(void, through_gelu,
              (size_t R, size_t N, const real *restrict x, const real *restrict mean, const real *restrict slope,
               const real *restrict shift, real *restrict d, real *restrict sum, real *restrict product),
              (R, N, x, mean, slope, shift, d, sum, product))
{
    memset(sum, 0, N * sizeof(real));
    memset(product, 0, N * sizeof(real));
    for (size_t r = 0; r < R; r++, x += N, d += N)
        for (size_t j = 0; j < N; j++) {
            d[j] *= real_gelu_slope(slope[j] * x[j] + shift[j]);
            sum[j] += d[j];
            product[j] += d[j] * (x[j] - mean[j]);
        }
}

STATIC_KERNEL(void, input_gradient,
              (size_t R, size_t N, const real *restrict x, const real *restrict slope, const real *restrict linear,
               const real *restrict constant, real *restrict d),
              (R, N, x, slope, linear, constant, d))
{
    for (size_t r = 0; r < R; r++, x += N, d += N)
        for (size_t j = 0; j < N; j++)
            d[j] = slope[j] * d[j] + (linear[j] * x[j] + constant[j]);
}

void batchnorm_gelu_backward(const real *x, size_t R, size_t N, const real *mean, const real *variance,
                             const real *gamma, const real *beta, real *d, real *d_gamma, real *d_beta, real *scratch)
{
    real *slope = scratch, *shift = scratch + N, *inverse = scratch + 2 * N;
    real *linear = scratch + 3 * N, *constant = scratch + 4 * N, *product = scratch + 5 * N;
    affine(N, mean, variance, gamma, beta, slope, shift, inverse);
    through_gelu(R, N, x, mean, slope, shift, d, d_beta, product);
    for (size_t j = 0; j < N; j++) {
        d_gamma[j] = product[j] * inverse[j];
        linear[j] = -slope[j] * inverse[j] * d_gamma[j] / (real)R;
        constant[j] = -slope[j] * d_beta[j] / (real)R - linear[j] * mean[j];
    }
    input_gradient(R, N, x, slope, linear, constant, d);
}
