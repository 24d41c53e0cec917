/* Vector kernels. Reductions keep 32 partial results, element i always going to lane i mod 32, and fold them in halves:
 * the order of operations is part of the source, and the compiler may use any vector width. The lanes are plain arrays
 * because gcc splits its own wide vector types at the baseline's width before it clones a function. */
#include "common/exp.h"
#include "common/kernels.h"
#include "common/vecmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#if KERNELS_X86
#include <immintrin.h>
#endif
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

/* In halves whose sizes are constants, or each would take a loop of its own. */
static inline __attribute__((always_inline)) float fold_sum(float sums[LANES])
{
#pragma GCC unroll 5
    for (size_t half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 16
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

/* Bit i tells whether scale x[i] is not below limit, of at most LANES. */
static inline __attribute__((always_inline)) uint32_t not_below(const float *x, uint32_t n, float scale, float limit)
{
    uint32_t mask = 0;
    for (uint32_t lane = 0; lane < n; lane++)
        mask |= !(x[lane] * scale < limit) ? 1u << lane : 0;
    return mask;
}

/* LANES values from x[i] on, all of them, and their names. */
static inline __attribute__((always_inline)) void list_all(const float *x, const uint32_t *names, uint32_t i,
                                                           uint32_t *name, float *value)
{
    memcpy(value, x + i, LANES * sizeof *value);
    for (uint32_t lane = 0; lane < LANES; lane++)
        name[lane] = names ? names[i + lane] : i + lane;
}

STATIC_KERNEL(uint32_t, list_from,
              (const float *restrict x, uint32_t n, const uint32_t *restrict names, float scale, float limit,
               uint32_t *restrict name, float *restrict value),
              (x, n, names, scale, limit, name, value))
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i += LANES) {
        uint32_t mask = n - i < LANES ? not_below(x + i, n - i, scale, limit) : not_below(x + i, LANES, scale, limit);
        if (mask == UINT32_MAX) {
            list_all(x, names, i, name + found, value + found);
            found += LANES;
            continue;
        }
        for (; mask != 0; mask &= mask - 1) {
            uint32_t at = i + (uint32_t)__builtin_ctz(mask);
            name[found] = names ? names[at] : at;
            value[found++] = x[at];
        }
    }
    return found;
}

#if KERNELS_X86
KERNELS_TARGET_AVX512 static __mmask16 first_lanes(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu);
}

/* Which of the first n <= 16 from x on are listed. */
KERNELS_TARGET_AVX512 static inline __mmask16 listed_mask(const float *x, size_t n, __m512 scale, __m512 limit)
{
    const __mmask16 there = first_lanes(n);
    return _mm512_mask_cmp_ps_mask(there, _mm512_mul_ps(_mm512_maskz_loadu_ps(there, x), scale), limit, _CMP_NLT_UQ);
}

/* Moves only, so nothing can differ. Mostly nothing is found, which is looked at for 64 at a time, since every branch
 * that is now taken and now not costs as much as that. Vectors are stored whole, which costs less than a masked
 * store. */
KERNELS_TARGET_AVX512 static uint32_t list_compressed(const float *x, uint32_t n, const uint32_t *names, float scale,
                                                      float limit, uint32_t *name, float *value)
{
    const __m512i counted = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 factor = _mm512_set1_ps(scale), least = _mm512_set1_ps(limit);
    uint32_t found = 0, i = 0;
    while (i < n) {
        if (n - i >= 64 && !(listed_mask(x + i, 16, factor, least) | listed_mask(x + i + 16, 16, factor, least) |
                             listed_mask(x + i + 32, 16, factor, least) | listed_mask(x + i + 48, 16, factor, least))) {
            i += 64;
            continue;
        }
        for (uint32_t end = n - i < 64 ? n : i + 64; i < end; i += 16) {
            __mmask16 there = first_lanes(n - i), mask = listed_mask(x + i, n - i, factor, least);
            __m512i from = names ? _mm512_maskz_loadu_epi32(there, names + i)
                                 : _mm512_add_epi32(counted, _mm512_set1_epi32((int)i));
            _mm512_storeu_ps(value + found, _mm512_maskz_compress_ps(mask, _mm512_maskz_loadu_ps(there, x + i)));
            _mm512_storeu_si512(name + found, _mm512_maskz_compress_epi32(mask, from));
            found += (uint32_t)__builtin_popcount(mask);
        }
    }
    return found;
}

/* The instruction answers its second operand where one is no number: a NaN is passed over, as max_of does. */
KERNELS_TARGET_AVX512 static float max_avx512(const float *x, size_t n)
{
    __m512 most = _mm512_set1_ps(x[0]), other = most;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        most = _mm512_max_ps(_mm512_loadu_ps(x + i), most);
        other = _mm512_max_ps(_mm512_loadu_ps(x + i + 16), other);
    }
    for (; i < n; i += 16)
        most = _mm512_mask_max_ps(most, first_lanes(n - i), _mm512_maskz_loadu_ps(first_lanes(n - i), x + i), most);
    return _mm512_reduce_max_ps(_mm512_max_ps(most, other));
}
#endif

uint32_t vec_list(const float *restrict x, uint32_t n, const uint32_t *restrict names, float scale, float limit,
                  uint32_t *restrict name, float *restrict value)
{
#if KERNELS_X86
    if (kernels_chosen() >= KERNELS_AVX512)
        return list_compressed(x, n, names, scale, limit, name, value);
#endif
    return list_from(x, n, names, scale, limit, name, value);
}

STATIC_KERNEL(float, max_of, (const float *x, size_t n), (x, n))
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

float vec_max(const float *x, size_t n)
{
#if KERNELS_X86
    if (kernels_chosen() >= KERNELS_AVX512)
        return max_avx512(x, n);
#endif
    return max_of(x, n);
}
