/* One kernel a family, all of which read doubles and write the floats that are published. */
#include "server/prototype/mixture_rows.h"

#include <math.h>
#include "common/kernels.h"
#include "common/vecmath.h"
#include "server/prototype/full.h"
#include "server/prototype/vmf.h"

/* Of von Mises-Fisher components: below them a direction is noise, and 1/kappa would be beyond all use. */
static const double RESULTANT_MIN = 1e-12, KAPPA_MIN = 1e-3;

/* mean, variance (D) from s1, s2 (D) of mass n. */
STATIC_KERNEL(void, diagonal_row,
              (const double *restrict s1, const double *restrict s2, double n, double floor_, float *restrict mean,
               float *restrict variance, size_t D),
              (s1, s2, n, floor_, mean, variance, D))
{
    const double share = 1 / n; /* a division of each sum would take longer than reading it */
    for (size_t d = 0; d < D; d++) {
        double mu = s1[d] * share;
        double v = s2[d] * share - mu * mu;
        mean[d] = (float)mu;
        variance[d] = (float)(v > floor_ ? v : floor_);
    }
}

/* mean (D) and the one variance. */
STATIC_KERNEL(float, spherical_row,
              (const double *restrict s1, const double *restrict s2, double n, double floor_, float *restrict mean,
               size_t D),
              (s1, s2, n, floor_, mean, D))
{
    double sum = 0;
    for (size_t d = 0; d < D; d++) {
        double mu = s1[d] / n;
        sum += s2[d] / n - mu * mu;
        mean[d] = (float)mu;
    }
    double v = sum / (double)D;
    return (float)(v > floor_ ? v : floor_);
}

enum { LANES = 8, FACTORS = 2 * LANES };

/* Halves added, or multiplied, until one is left. */
static inline __attribute__((always_inline)) double fold(double x[LANES], bool multiply)
{
#pragma GCC unroll 3
    for (size_t half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 4
        for (size_t lane = 0; lane < half; lane++)
            x[lane] = multiply ? x[lane] * x[half + lane] : x[lane] + x[half + lane];
    return x[0];
}

/* 1/2 sum_d (log v_d + mu_d^2/v_d) of the floats that are published, so that log_const fits what the E-step computes
 * with. Variances lie between 1e-9 (the floor) and 1e12 (what decoding lets in): products of FACTORS neither underflow
 * nor overflow, and save 15 of 16 logarithms. */
STATIC_KERNEL(double, diagonal_quadratic, (const float *mean, const float *variance, size_t D), (mean, variance, D))
{
    double sums[LANES] = {0}, logs = 0, rest = 1;
    size_t d = 0;
    for (; d + FACTORS <= D; d += FACTORS) {
        double product[LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            double v = variance[d + lane], mu = mean[d + lane];
            double w = variance[d + LANES + lane], nu = mean[d + LANES + lane];
            product[lane] = v * w;
            sums[lane] += mu * mu / v + nu * nu / w;
        }
        logs += log(fold(product, true));
    }
    for (size_t lane = 0; d < D; d++, lane = (lane + 1) % LANES) {
        double v = variance[d], mu = mean[d];
        rest *= v;
        sums[lane] += mu * mu / v;
    }
    return 0.5 * (fold(sums, false) + logs + log(rest));
}

static double spherical_quadratic(const float *mean, float variance, size_t D)
{
    return 0.5 * ((double)D * log((double)variance) + vec_sum_squares(mean, D) / (double)variance);
}

/* mean (D) and 1/kappa of s1 (D) and mass n. A sum that vanishes has no direction: its component is one of the whole
 * sphere, at 0. */
static float vmf_row(const double *s1, double n, double floor_, float *mean, size_t D)
{
    double squares = 0;
    for (size_t d = 0; d < D; d++)
        squares += s1[d] * s1[d];
    double length = sqrt(squares), R = length / n, kappa = vmf_concentration((uint32_t)D, R);
    double scale = R > RESULTANT_MIN ? 1 / length : 0;
    for (size_t d = 0; d < D; d++)
        mean[d] = (float)(s1[d] * scale);
    double v = kappa > KAPPA_MIN ? 1 / kappa : 1 / KAPPA_MIN;
    return (float)(v > floor_ ? v : floor_);
}

/* The mean alone: the spread is shared. */
static void tied_row(const double *s1, double n, float *mean, size_t D)
{
    for (size_t d = 0; d < D; d++)
        mean[d] = (float)(s1[d] / n);
}

double mixture_row(const struct mixture *m, uint32_t k, double *scratch, float *mean, float *variance)
{
    size_t D = m->options.D, at = k * D;
    double n = m->mass[k], floor_ = m->options.variance_floor;
    const double *s1 = m->s1 + at;
    switch (m->options.covariance) {
    case COVARIANCE_VMF:
        *variance = vmf_row(s1, n, floor_, mean, D);
        return -vmf_log_normaliser((uint32_t)D, 1 / (double)*variance);
    case COVARIANCE_TIED:
        tied_row(s1, n, mean, D);
        return 0;
    case COVARIANCE_FULL:
        return -full_row(s1, m->s2 + at * D, n, floor_, D, scratch, mean, variance);
    case COVARIANCE_SPHERICAL:
        *variance = spherical_row(s1, m->s2 + at, n, floor_, mean, D);
        return spherical_quadratic(mean, *variance, D);
    default:
        diagonal_row(s1, m->s2 + at, n, floor_, mean, variance, D);
        return diagonal_quadratic(mean, variance, D);
    }
}
