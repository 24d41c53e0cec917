/* Transposition and copies of a matrix between two strided places: how operands get into panels and gradients out of
 * them. */
#ifndef DECANT_WORKER_NN_TRANSPOSE_H
#define DECANT_WORKER_NN_TRANSPOSE_H

#include "worker/nn/real.h"

/* to[c * to_stride + r] = from[r * from_stride + c] for r < rows, c < columns. The two do not overlap. */
void transpose(const real *from, size_t from_stride, size_t rows, size_t columns, real *to, size_t to_stride);
/* to[r * to_stride + c] = from[r * from_stride + c] likewise; for rows so short that a call of memcpy would cost
 * more. */
void copy_rows(const real *restrict from, size_t from_stride, size_t rows, size_t columns, real *restrict to,
               size_t to_stride);
/* to[r * stride + c] = 0, for rows so short that a call of memset would cost more. */
void clear_rows(real *to, size_t stride, size_t rows, size_t columns);

#endif
