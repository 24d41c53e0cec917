/* Elementary functions of one real, written without branches or library calls so that loops over them vectorise. The
 * double build takes libm's, which is what its tests need. */
#ifndef DECANT_WORKER_NN_SCALAR_H
#define DECANT_WORKER_NN_SCALAR_H

#include "worker/nn/real.h"

#define INLINE static inline __attribute__((always_inline))

#ifdef NN_DOUBLE

INLINE real real_exp(real x)
{
    return exp(x);
}

/* Phi(x), the standard normal distribution function; density receives phi(x). */
INLINE real real_normal(real x, real *density)
{
    *density = exp(-0.5 * x * x) * 0.39894228040143267794;
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

#else

/* e^x as 2^n e^r with |r| <= ln2/2 and Cephes' polynomial for e^r (expf.c): relative error below 2e-7. Under -87 it is
 * 0 (the result would be denormal), over 88 it saturates at e^88. */
INLINE float real_exp(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float clamped = x > 88.0f ? 88.0f : x;
    clamped = clamped < -87.0f ? -87.0f : clamped;
    float n = (clamped * 1.44269504088896341f + round) - round;
    float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.0f ? 0.0f : p * scale;
}

/* Phi(x), the standard normal distribution function; density receives phi(x). Abramowitz and Stegun 7.1.26: absolute
 * error below 1.5e-7, and its exponential is the density's. */
INLINE float real_normal(float x, float *density)
{
    float u = fabsf(x) * 0.70710678118654752440f;
    float t = 1.0f / (1.0f + 0.3275911f * u);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    float e = real_exp(-u * u);
    *density = e * 0.39894228040143267794f;
    float tail = 0.5f * p * t * e;
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif

/* GELU with the exact distribution function, as PyTorch's default. */
INLINE real real_gelu(real x)
{
    real density;
    return x * real_normal(x, &density);
}

INLINE real real_gelu_slope(real x)
{
    real density;
    real distribution = real_normal(x, &density);
    return distribution + x * density;
}

#endif
