/* Squares of 4x4, and rows, through registers; see transpose.h. Moves only, so that no choice of kernels matters. */
#include "worker/nn/transpose.h"

#include "common/kernels.h"
#include "worker/nn/vector.h"

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

void transpose(const real *from, size_t from_stride, size_t rows, size_t columns, real *to, size_t to_stride)
{
    for (size_t c = 0; c < columns; c += STRIP)
        transpose_strip(from + c, from_stride, rows, columns - c < STRIP ? columns - c : STRIP, to + c * to_stride,
                        to_stride);
}

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
