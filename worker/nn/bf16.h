/* The products of tiles.h with operands in bf16 (the upper half of a float32: its range, 8 bits of precision), summed
 * and put out in float32. Operands come and go as float32 and are rounded to the nearest, to even, on their way into
 * tiles; denormals count as zero. What AVX512_BF16 and AMX multiply is pairs that follow each other in k:
 *
 *   B, packed     bias | round16(N) reals |     float32
 *                 panel of 16 columns:          pair k = 0,1  | b(0,0) b(1,0) | b(0,1) b(1,1) | ... 16 words of 32 bits
 *                                               pair k = 2,3  ...    to a multiple of 32 in k, with zeros
 *                 next panel ...
 *   G, packed     panels of 16 columns: round16(K) rows of 16 reals
 *
 * A sum begins with the bias, or with what is in G, and takes in 32 products at a time, k or points in order:
 *
 *   avx512   each pair into the sum, the second of it first, each with one rounding
 *   amx      even ones into one sum and odd ones into another, from zero, each with one rounding; then both into one,
 *            and that into the sum
 *
 * so that these two do not agree to the bit. tests/unit/worker/test_nn_bf16.c has both orders in plain C. For float
 * builds on x86-64 only, and only where kernels_multiply_bf16. */
#ifndef DECANT_WORKER_NN_BF16_H
#define DECANT_WORKER_NN_BF16_H

#include "common/kernels.h"
#include "worker/nn/tiles.h"

#if KERNELS_X86 && !defined(NN_DOUBLE)
#define BF16_KERNELS 1

size_t bf16_packed_size(size_t K, size_t columns);   /* reals */
size_t bf16_gradient_size(size_t K, size_t columns); /* reals */
void bf16_pack(const struct pack *p, const float *source, float *packed);
void bf16_pack_bias(size_t columns, const float *bias, float *packed);
void bf16_pack_column(size_t K, size_t columns, size_t j, const float *source, float *packed);
void bf16_unpack_gradient(const struct pack *p, const float *gradient, float *target);
void bf16_gather_product(const struct gather *g, size_t rows, const float *a, const float *packed, float *c);
void bf16_gather_outer(const struct outer *o, size_t points, const float *a, const float *d, float *gradient);

#else
#define BF16_KERNELS 0
#endif

#endif
