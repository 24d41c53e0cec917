/* The exponential of vecmath, for loops that other files vectorise: compiled for one set of kernels it gives the same
 * bits wherever it stands. */
#ifndef DECANT_COMMON_EXP_H
#define DECANT_COMMON_EXP_H

#include <stdint.h>
#include <string.h>

/* exp(r) for |r| <= ln 2 / 2: the polynomial of Cephes' expf, relative error below 2e-7. */
static inline __attribute__((always_inline)) float exp_near_zero(float r)
{
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * r * r + r + 1.0f;
}

/* exp(x) = 2^k exp(r), x = k ln 2 + r with |r| <= ln 2 / 2; branch-free, so that the loop around it vectorises.
 * Overflow to infinity sets in at 88.38 (a little early); NaN stays NaN. */
static inline __attribute__((always_inline)) float exp_or_zero(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits */
    float c = x < -87.0f ? -87.0f : x;
    c = c > 89.0f ? 89.0f : c;
    float t = c * 1.44269504088896341f + round;
    float k = t - round;
    float r = c - k * 0.693359375f; /* ln 2 in two parts, the first exact in 9 bits */
    r = r - k * -2.12194440e-4f;
    float p = exp_near_zero(r);
    uint32_t power;
    memcpy(&power, &t, sizeof power);
    power = (power << 23) + 0x3f800000u; /* the exponent field of 2^k */
    float scale;
    memcpy(&scale, &power, sizeof scale);
    float result = p * scale;
    return x < -87.0f ? 0.0f : result;
}

#endif
