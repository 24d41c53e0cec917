/* Elementary functions of one real, written without branches or library calls so that loops over them vectorise. The
 * double build takes libm's, which is what its tests need. */
#ifndef DECANT_WORKER_NN_SCALAR_H
#define DECANT_WORKER_NN_SCALAR_H

#include <math.h>
#include <string.h>
#include "common/exp.h"
#include "worker/nn/vector.h"

#ifdef NN_DOUBLE

INLINE real real_exp(real x)
{
    return exp(x);
}

INLINE real real_sqrt(real x)
{
    return sqrt(x);
}

/* Phi(x), the standard normal distribution function. */
INLINE real real_normal(real x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

#else

/* e^x for x <= 88, as 2^n e^r with |r| <= ln2/2: relative error below 2e-7.
 * Under -87 it stays at e^-87, about the smallest normal number. */
INLINE float real_exp(float x)
{
    const float round = 12582912.0f;         /* 1.5 * 2^23: adding it rounds to an integer */
    float clamped = x < -87.0f ? -87.0f : x; /* in this order a NaN stays one */
    float n = (clamped * 1.44269504088896341f + round) - round;
    float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = exp_near_zero(r);
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

INLINE float real_sqrt(float x)
{
    return sqrtf(x);
}

/* Phi(x), the standard normal distribution function, from erf as a rational function (Eigen's): absolute error below
 * 3e-7. */
INLINE float real_normal(float x)
{
    float u = x * 0.70710678118654752440f;
    u = u < -4.0f ? -4.0f : u;
    u = u > 4.0f ? 4.0f : u;
    float t = u * u;
    float p = -2.72614225801306e-10f;
    p = p * t + 2.77068142495902e-08f;
    p = p * t - 2.10102402082508e-06f;
    p = p * t - 5.69250639462346e-05f;
    p = p * t - 7.34990630326855e-04f;
    p = p * t - 2.95459980854025e-03f;
    p = p * t - 1.60960333262415e-02f;
    float q = -1.45660718464996e-05f;
    q = q * t - 2.13374055278905e-04f;
    q = q * t - 1.68282697438203e-03f;
    q = q * t - 7.37332916720468e-03f;
    q = q * t - 1.42647390514189e-02f;
    return 0.5f + 0.5f * u * p / q;
}

#endif

/* GELU with the exact distribution function, as PyTorch's default. */
INLINE real real_gelu(real x)
{
    return x * real_normal(x);
}

INLINE real real_gelu_slope(real x)
{
    real density = real_exp(REAL(-0.5) * x * x) * REAL(0.39894228040143267794);
    return real_normal(x) + x * density;
}

#endif
