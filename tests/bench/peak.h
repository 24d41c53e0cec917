/* What a core can do at most: independent chains of fused multiply-adds (without FMA: multiplications and additions) in
 * registers, for each choice of kernels. Runs are short and the best counts, so that other programs cost little. */
#ifndef DECANT_TESTS_BENCH_PEAK_H
#define DECANT_TESTS_BENCH_PEAK_H

#include <time.h>
#include "common/kernels.h"

enum { PEAK_CHAINS = 12, PEAK_LOOPS = 4000, PEAK_RUNS = 1000 };

static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A function that advances all chains PEAK_LOOPS times and returns the operations it did. */
#define PEAK_FUNCTION(name, target, bytes)                                                                             \
    target static double name(float *out)                                                                              \
    {                                                                                                                  \
        typedef float wide __attribute__((vector_size(bytes)));                                                        \
        wide chain[PEAK_CHAINS], factor = (wide){0} + 0.999f, term = (wide){0} + 1e-3f;                                \
        for (int i = 0; i < PEAK_CHAINS; i++)                                                                          \
            chain[i] = (wide){0} + 1e-3f * (float)i;                                                                   \
        for (int n = 0; n < PEAK_LOOPS; n++) {                                                                         \
            _Pragma("GCC unroll 12") for (int i = 0; i < PEAK_CHAINS; i++) chain[i] = chain[i] * factor + term;        \
            __asm__ volatile("" ::"x"(factor));                                                                        \
        }                                                                                                              \
        for (int i = 1; i < PEAK_CHAINS; i++)                                                                          \
            chain[0] += chain[i];                                                                                      \
        *out = chain[0][0];                                                                                            \
        return 2.0 * PEAK_LOOPS * PEAK_CHAINS * (bytes) / sizeof(float);                                               \
    }

PEAK_FUNCTION(peak_portable, , 16)
#if KERNELS_X86
PEAK_FUNCTION(peak_avx2, KERNELS_TARGET_AVX2, 32)
PEAK_FUNCTION(peak_avx512, KERNELS_TARGET_AVX512, 64)
#endif

/* GFLOP/s of one core, the best of many short runs. */
static inline double peak_gflops(enum kernels k)
{
    static double (*const run[KERNELS_COUNT])(float *) = {
        peak_portable,
#if KERNELS_X86
        peak_avx2,
        peak_avx512,
        peak_avx512 /* amx, in float32 */
#endif
    };
    double best = 0;
    float sink;
    for (int i = 0; i < PEAK_RUNS; i++) {
        double from = now(), rate = run[k](&sink) / (now() - from) / 1e9;
        best = rate > best ? rate : best;
    }
    return best;
}

#endif
