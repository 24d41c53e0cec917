/* Vector kernels. Reductions keep 32 partial results, element i always going to lane i mod 32, and fold them in halves:
 * the order of operations is part of the source, and the compiler may use any vector width. The lanes are plain arrays
 * because gcc splits its own wide vector types at the baseline's width before it clones a function. */
#include "common/kernels.h"
#include "common/vecmath.h"

#include <cblas.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <pmmintrin.h>
#include <xmmintrin.h>
#endif

enum { LANES = 32 };

void compute_thread_init(void)
{
#if defined(__x86_64__)
    _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
    _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
#endif
}

void blas_single_threaded(void)
{
    openblas_set_num_threads(1);
}

const char *blas_kernels(void)
{
    return openblas_get_corename();
}

KERNEL(void, vec_add, (float *restrict y, const float *restrict x, size_t n), (y, x, n))
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

KERNEL(void, vec_axpy, (float *restrict y, float a, const float *restrict x, size_t n), (y, a, x, n))
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

KERNEL(void, vec_scale, (float *x, float a, size_t n), (x, a, n))
{
    for (size_t i = 0; i < n; i++)
        x[i] *= a;
}

KERNEL(double, vec_sum_squares, (const float *x, size_t n), (x, n))
{
    double sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += (double)x[i + lane] * x[i + lane];
    for (size_t lane = 0; i + lane < n; lane++)
        sums[lane] += (double)x[i + lane] * x[i + lane];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t lane = 0; lane < half; lane++)
            sums[lane] += sums[half + lane];
    return sums[0];
}

static inline __attribute__((always_inline)) float fold_sum(float sums[LANES])
{
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t lane = 0; lane < half; lane++)
            sums[lane] += sums[half + lane];
    return sums[0];
}

KERNEL(float, vec_dot, (const float *restrict x, const float *restrict y, size_t n), (x, y, n))
{
    float sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += x[i + lane] * y[i + lane];
    for (size_t lane = 0; i + lane < n; lane++)
        sums[lane] += x[i + lane] * y[i + lane];
    return fold_sum(sums);
}

/* A float is not finite when its exponent is all ones. Adding one to the exponent then carries into the sign bit, which
 * was cleared: the carries are collected without a branch. */
KERNEL(bool, vec_all_finite, (const float *x, size_t n), (x, n))
{
    uint32_t carries = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        carries |= (bits & 0x7fffffffu) + 0x00800000u;
    }
    return carries >> 31 == 0;
}

KERNEL(bool, vec_all_finite_f64, (const double *x, size_t n), (x, n))
{
    uint64_t carries = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        carries |= (bits & 0x7fffffffffffffffu) + 0x0010000000000000u;
    }
    return carries >> 63 == 0;
}

void vec_normalise_rows(float *x, size_t R, size_t D, float *norms)
{
    for (size_t i = 0; i < R; i++) {
        double norm = sqrt(vec_sum_squares(x + i * D, D));
        vec_scale(x + i * D, (float)(1 / fmax(norm, 1e-12)), D);
        if (norms != NULL)
            norms[i] = (float)norm;
    }
}

/* exp(x) = 2^k exp(r), x = k ln 2 + r with |r| <= ln 2 / 2; the polynomial is that of Cephes' expf. Branch-free, so
 * that the loop around it vectorises. Overflow to infinity sets in at 88.38 (a little early); NaN stays NaN. */
static inline __attribute__((always_inline)) float exp_or_zero(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits */
    float c = x < -87.0f ? -87.0f : x;
    c = c > 89.0f ? 89.0f : c;
    float t = c * 1.44269504088896341f + round;
    float k = t - round;
    float r = c - k * 0.693359375f; /* ln 2 in two parts, the first exact in 9 bits */
    r = r - k * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t power;
    memcpy(&power, &t, sizeof power);
    power = (power << 23) + 0x3f800000u; /* the exponent field of 2^k */
    float scale;
    memcpy(&scale, &power, sizeof scale);
    float result = p * scale;
    return x < -87.0f ? 0.0f : result;
}

KERNEL(float, vec_exp_shifted, (float *x, float shift, size_t n), (x, shift, n))
{
    float sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) {
            x[i + lane] = exp_or_zero(x[i + lane] - shift);
            sums[lane] += x[i + lane];
        }
    for (size_t lane = 0; i + lane < n; lane++) {
        x[i + lane] = exp_or_zero(x[i + lane] - shift);
        sums[lane] += x[i + lane];
    }
    return fold_sum(sums);
}

KERNEL(float, vec_max, (const float *x, size_t n), (x, n))
{
    float maxima[LANES];
    for (size_t lane = 0; lane < LANES; lane++)
        maxima[lane] = x[0];
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            maxima[lane] = x[i + lane] > maxima[lane] ? x[i + lane] : maxima[lane];
    for (size_t lane = 0; i + lane < n; lane++)
        maxima[lane] = x[i + lane] > maxima[lane] ? x[i + lane] : maxima[lane];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t lane = 0; lane < half; lane++)
            maxima[lane] = maxima[half + lane] > maxima[lane] ? maxima[half + lane] : maxima[lane];
    return maxima[0];
}
