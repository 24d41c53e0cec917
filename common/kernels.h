/* Which of three compilations of the hot functions runs. The choice is one for the whole process, made once: the best
 * that the processor and the system offer, or what the environment variable DECANT_KERNELS names.
 *
 *   portable  x86-64-v2, or whatever other processor the program was built for; products and sums are rounded apart
 *   avx2      x86-64-v3: AVX2, and FMA, which rounds once
 *   avx512    x86-64-v4: AVX-512 (F, BW, CD, DQ, VL); products of bf16 with AVX512_BF16 where the processor has it
 *   amx       the same, but products of bf16 with AMX
 *
 * The order of every sum is part of the source, so a choice gives the same bytes on any machine, and any number of
 * threads. It covers every function that is defined with KERNEL or STATIC_KERNEL and the tiles of worker/nn. It does
 * not cover OpenBLAS, which chooses for itself and obeys OPENBLAS_CORETYPE, nor libm. In float32 avx512 and amx are one
 * and the same code; in bf16 they add up in different orders (worker/nn/bf16.h). */
#ifndef DECANT_COMMON_KERNELS_H
#define DECANT_COMMON_KERNELS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include "common/error.h"

enum kernels { KERNELS_PORTABLE, KERNELS_AVX2, KERNELS_AVX512, KERNELS_AMX, KERNELS_COUNT };

#define KERNELS_VARIABLE "DECANT_KERNELS"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define KERNELS_X86 1
#else
#define KERNELS_X86 0
#endif

const char *kernels_name(enum kernels k);
/* On this processor and system, in this build. Of AMX it asks the system for the right to use it, which Linux wants and
 * which this process and its children then have. */
bool kernels_possible(enum kernels k);
/* Whether they multiply bf16 on this processor. */
bool kernels_multiply_bf16(enum kernels k);
/* By name; NULL or "" takes the best. ERR_CONFIG names what is possible here. Call it before threads compute: memory
 * that was packed for one choice is not readable with another. */
int kernels_choose(const char *name, struct error *e);
/* What every program does first: kernels_choose with the environment variable's value. */
int kernels_from_environment(struct error *e);
/* Of a process that never chose: takes the environment's choice if that is possible, else the best. */
enum kernels kernels_first_use(void);

extern _Atomic int kernels_choice; /* 1 + enum kernels, 0 before the first use; read it with kernels_chosen */

static inline enum kernels kernels_chosen(void)
{
    int choice = atomic_load_explicit(&kernels_choice, memory_order_relaxed);
    return choice > 0 ? (enum kernels)(choice - 1) : kernels_first_use();
}

/* Defines a function that is compiled three times and calls the chosen one:
 *
 *   KERNEL(float, vec_max, (const float *x, size_t n), (x, n))
 *   {
 *       ...
 *   }
 *
 * STATIC_KERNEL is the same for a function that only its file sees. What the body calls must be inline, or it is
 * compiled for the portable choice only. */
#define KERNEL(type, name, parameters, arguments) KERNEL_VARIANTS(, type, name, parameters, arguments)
#define STATIC_KERNEL(type, name, parameters, arguments) KERNEL_VARIANTS(static, type, name, parameters, arguments)

#if KERNELS_X86
#define KERNELS_TARGET_AVX2 __attribute__((target("arch=x86-64-v3")))
#define KERNELS_TARGET_AVX512 __attribute__((target("arch=x86-64-v4")))
#define KERNELS_TARGET_AVX512_BF16 __attribute__((target("arch=x86-64-v4,avx512bf16")))
#define KERNEL_VARIANTS(linkage, type, name, parameters, arguments)                                                    \
    static inline __attribute__((always_inline)) type name##_body parameters;                                          \
    KERNELS_TARGET_AVX512 __attribute__((noinline)) static type name##_avx512 parameters                               \
    {                                                                                                                  \
        return name##_body arguments;                                                                                  \
    }                                                                                                                  \
    KERNELS_TARGET_AVX2 __attribute__((noinline)) static type name##_avx2 parameters                                   \
    {                                                                                                                  \
        return name##_body arguments;                                                                                  \
    }                                                                                                                  \
    __attribute__((noinline)) static type name##_portable parameters                                                   \
    {                                                                                                                  \
        return name##_body arguments;                                                                                  \
    }                                                                                                                  \
    linkage type name parameters                                                                                       \
    {                                                                                                                  \
        enum kernels chosen = kernels_chosen();                                                                        \
        if (chosen >= KERNELS_AVX512)                                                                                  \
            return name##_avx512 arguments;                                                                            \
        if (chosen == KERNELS_AVX2)                                                                                    \
            return name##_avx2 arguments;                                                                              \
        return name##_portable arguments;                                                                              \
    }                                                                                                                  \
    static inline type name##_body parameters
#else
#define KERNEL_VARIANTS(linkage, type, name, parameters, arguments) linkage type name parameters
#endif

#endif
