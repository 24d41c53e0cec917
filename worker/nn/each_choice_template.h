/* Includes the file TEMPLATE once for each choice of kernels (common/kernels.h), with
 *
 *   CHOICE(f)       the function's name in this choice
 *   CHOICE_TARGET   the instructions that it may use
 *   CHOICE_BYTES    of its vectors
 *
 * for code whose vectors are of another type in each. CHOSEN(f) is the function of the choice that runs.
 * No include guard: a file may have several templates. */
#include "common/kernels.h"

#define CHOICE(f) portable_##f
#define CHOICE_TARGET
#define CHOICE_BYTES 16
#include TEMPLATE
#undef CHOICE
#undef CHOICE_TARGET
#undef CHOICE_BYTES

#if KERNELS_X86

#define CHOICE(f) avx2_##f
#define CHOICE_TARGET KERNELS_TARGET_AVX2
#define CHOICE_BYTES 32
#include TEMPLATE
#undef CHOICE
#undef CHOICE_TARGET
#undef CHOICE_BYTES

#define CHOICE(f) avx512_##f
#define CHOICE_TARGET KERNELS_TARGET_AVX512
#define CHOICE_BYTES 64
#include TEMPLATE
#undef CHOICE
#undef CHOICE_TARGET
#undef CHOICE_BYTES

#define CHOSEN(f)                                                                                                      \
    (kernels_chosen() >= KERNELS_AVX512 ? avx512_##f : kernels_chosen() == KERNELS_AVX2 ? avx2_##f : portable_##f)
#else
#define CHOSEN(f) portable_##f
#endif

#undef TEMPLATE
