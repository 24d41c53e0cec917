/* Squares of 4x4, and rows, through registers, four squares at once with AVX-512; see transpose.h. Moves only, so that
 * the choice of kernels changes no value. */
#include "worker/nn/transpose.h"

#include "common/kernels.h"
#include "worker/nn/vector.h"
#if KERNELS_X86
#include <immintrin.h>
#endif

enum {
    SIDE = 4,
    STRIP = 64, /* columns at a time: their lines of `to` stay in the first-level cache while rows go by */
};

typedef real quad __attribute__((vector_size(SIDE * sizeof(real)), aligned(sizeof(real)), may_alias));

static inline void transpose_square(const real *from, size_t from_stride, real *to, size_t to_stride)
{
    const quad a = *(const quad *)from, b = *(const quad *)(from + from_stride);
    const quad c = *(const quad *)(from + 2 * from_stride), d = *(const quad *)(from + 3 * from_stride);
    const quad ac_low = __builtin_shufflevector(a, c, 0, 4, 1, 5), ac_high = __builtin_shufflevector(a, c, 2, 6, 3, 7);
    const quad bd_low = __builtin_shufflevector(b, d, 0, 4, 1, 5), bd_high = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    *(quad *)to = __builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5);
    *(quad *)(to + to_stride) = __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7);
    *(quad *)(to + 2 * to_stride) = __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5);
    *(quad *)(to + 3 * to_stride) = __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7);
}

static void transpose_plain(const real *from, size_t from_stride, size_t rows, size_t columns, real *to,
                            size_t to_stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            to[c * to_stride + r] = from[r * from_stride + c];
}

static void transpose_strip(const real *from, size_t from_stride, size_t rows, size_t columns, real *to,
                            size_t to_stride)
{
    size_t r = 0, whole = columns / SIDE * SIDE;
    for (; r + SIDE <= rows; r += SIDE) {
        for (size_t c = 0; c < whole; c += SIDE)
            transpose_square(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
        transpose_plain(from + r * from_stride + whole, from_stride, SIDE, columns - whole, to + whole * to_stride + r,
                        to_stride);
    }
    transpose_plain(from + r * from_stride, from_stride, rows - r, columns, to + r, to_stride);
}

static void transpose_squares(const real *from, size_t from_stride, size_t rows, size_t columns, real *to,
                              size_t to_stride)
{
    for (size_t c = 0; c < columns; c += STRIP)
        transpose_strip(from + c, from_stride, rows, columns - c < STRIP ? columns - c : STRIP, to + c * to_stride,
                        to_stride);
}

#if KERNELS_X86 && !defined(NN_DOUBLE)

/* Four squares, one below the other, become four columns of 16 rows: register m takes row m of each. */
KERNELS_TARGET_AVX512 static inline void transpose_four(const real *from, size_t from_stride, real *to,
                                                        size_t to_stride)
{
    const real *const second = from + SIDE * from_stride, *const third = second + SIDE * from_stride,
                      *const fourth = third + SIDE * from_stride;
    __m512 m[SIDE];
#pragma GCC unroll 4
    for (size_t i = 0; i < SIDE; i++) {
        m[i] = _mm512_castps128_ps512(_mm_loadu_ps(from + i * from_stride));
        m[i] = _mm512_insertf32x4(m[i], _mm_loadu_ps(second + i * from_stride), 1);
        m[i] = _mm512_insertf32x4(m[i], _mm_loadu_ps(third + i * from_stride), 2);
        m[i] = _mm512_insertf32x4(m[i], _mm_loadu_ps(fourth + i * from_stride), 3);
    }
    const __m512 low = _mm512_unpacklo_ps(m[0], m[1]), high = _mm512_unpackhi_ps(m[0], m[1]);
    const __m512 next_low = _mm512_unpacklo_ps(m[2], m[3]), next_high = _mm512_unpackhi_ps(m[2], m[3]);
    _mm512_storeu_ps(to, _mm512_shuffle_ps(low, next_low, 0x44));
    _mm512_storeu_ps(to + to_stride, _mm512_shuffle_ps(low, next_low, 0xee));
    _mm512_storeu_ps(to + 2 * to_stride, _mm512_shuffle_ps(high, next_high, 0x44));
    _mm512_storeu_ps(to + 3 * to_stride, _mm512_shuffle_ps(high, next_high, 0xee));
}

/* The last rows, fewer than SIDE, or SIDE: rows that are not there are the last one, read again, and are not stored. */
KERNELS_TARGET_AVX512 static void transpose_last(const real *from, size_t from_stride, size_t rows, size_t columns,
                                                 real *to, size_t to_stride)
{
    const __mmask8 kept = (__mmask8)((1u << rows) - 1);
    const real *const a = from, *const b = from + (rows > 1 ? 1 : rows - 1) * from_stride,
                      *const c = from + (rows > 2 ? 2 : rows - 1) * from_stride,
                      *const d = from + (rows > 3 ? 3 : rows - 1) * from_stride;
    for (size_t i = 0; i < columns; i += SIDE, to += SIDE * to_stride) {
        const __m128 ab_low = _mm_unpacklo_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)),
                     ab_high = _mm_unpackhi_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)),
                     cd_low = _mm_unpacklo_ps(_mm_loadu_ps(c + i), _mm_loadu_ps(d + i)),
                     cd_high = _mm_unpackhi_ps(_mm_loadu_ps(c + i), _mm_loadu_ps(d + i));
        _mm_mask_storeu_ps(to, kept, _mm_shuffle_ps(ab_low, cd_low, 0x44));
        _mm_mask_storeu_ps(to + to_stride, kept, _mm_shuffle_ps(ab_low, cd_low, 0xee));
        _mm_mask_storeu_ps(to + 2 * to_stride, kept, _mm_shuffle_ps(ab_high, cd_high, 0x44));
        _mm_mask_storeu_ps(to + 3 * to_stride, kept, _mm_shuffle_ps(ab_high, cd_high, 0xee));
    }
}

KERNELS_TARGET_AVX512 static void transpose_wide(const real *from, size_t from_stride, size_t rows, size_t columns,
                                                 real *to, size_t to_stride)
{
    size_t r = 0, whole = columns / SIDE * SIDE;
    for (; r + 4 * SIDE <= rows; r += 4 * SIDE)
        for (size_t c = 0; c < whole; c += SIDE)
            transpose_four(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
    for (; r < rows; r += SIDE)
        transpose_last(from + r * from_stride, from_stride, rows - r < SIDE ? rows - r : SIDE, whole, to + r,
                       to_stride);
    transpose_plain(from + whole, from_stride, rows, columns - whole, to + whole * to_stride, to_stride);
}

void transpose(const real *from, size_t from_stride, size_t rows, size_t columns, real *to, size_t to_stride)
{
    if (kernels_chosen() >= KERNELS_AVX512)
        transpose_wide(from, from_stride, rows, columns, to, to_stride);
    else
        transpose_squares(from, from_stride, rows, columns, to, to_stride);
}

#else

void transpose(const real *from, size_t from_stride, size_t rows, size_t columns, real *to, size_t to_stride)
{
    transpose_squares(from, from_stride, rows, columns, to, to_stride);
}

#endif

KERNEL(void, copy_rows,
       (const real *restrict from, size_t from_stride, size_t rows, size_t columns, real *restrict to,
        size_t to_stride),
       (from, from_stride, rows, columns, to, to_stride))
{
    for (size_t r = 0; r < rows; r++, from += from_stride, to += to_stride) {
        size_t c = 0;
        for (; c + VECTOR <= columns; c += VECTOR) {
            *(vector *)(to + c) = VECTOR_AT(from + c);
            __asm__ volatile(""); /* the compiler would make a call of memcpy of it */
        }
        for (; c < columns; c++) {
            to[c] = from[c];
            __asm__ volatile("");
        }
    }
}

KERNEL(void, clear_rows, (real * to, size_t stride, size_t rows, size_t columns), (to, stride, rows, columns))
{
    for (size_t r = 0; r < rows; r++, to += stride) {
        size_t c = 0;
        for (; c + VECTOR <= columns; c += VECTOR) {
            *(vector *)(to + c) = (vector){0};
            __asm__ volatile("");
        }
        for (; c < columns; c++) {
            to[c] = 0;
            __asm__ volatile("");
        }
    }
}
