/* The two inner kernels for one tile of TILE_ROWS x (TILE_VECTORS vectors) sums. Included by tiles.c once per tile
 * shape, because the sums stay in registers only when both numbers are constants and every loop over them is unrolled.
 * No include guard, for that reason. */
#include <string.h>
#include "common/vecmath.h"
#include "worker/nn/real.h"

#define TILE_COLUMNS (TILE_VECTORS * VECTOR)

INLINE void TILE_NAME(load)(const real *from, size_t stride, vector sum[TILE_ROWS][TILE_VECTORS])
{
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; m++)
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[m][v] = VECTOR_AT(from + (size_t)m * stride + v * VECTOR);
}

/* sum[m] += left[m] * right */
INLINE void TILE_NAME(multiply_add)(const real left[TILE_ROWS], const real *right, vector sum[TILE_ROWS][TILE_VECTORS])
{
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; m++)
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[m][v] += left[m] * VECTOR_AT(right + v * VECTOR);
}

INLINE void TILE_NAME(store)(vector sum[TILE_ROWS][TILE_VECTORS], real *to[TILE_ROWS])
{
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; m++)
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++)
            *(vector *)(to[m] + v * VECTOR) = sum[m][v];
}

/* out[m] (TILE_COLUMNS) = bias row + row[m] . b */
INLINE void TILE_NAME(product)(const struct gather *g, const real *row[TILE_ROWS], const real *b, real *out[TILE_ROWS])
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    TILE_NAME(load)(b, 0, sum);
    b += TILE_COLUMNS;
    for (uint32_t run = 0; run < g->runs; run++) {
        for (size_t k = 0; k < g->run; k++, b += TILE_COLUMNS) {
            real left[TILE_ROWS];
#pragma GCC unroll 8
            for (int m = 0; m < TILE_ROWS; m++)
                left[m] = row[m][k];
            TILE_NAME(multiply_add)(left, b, sum);
        }
#pragma GCC unroll 8
        for (int m = 0; m < TILE_ROWS; m++)
            row[m] += g->stride;
    }
    TILE_NAME(store)(sum, out);
}

/* All row tiles against one panel with `columns` columns of its own; sums that have no place in C go to a spill. */
INLINE void TILE_NAME(panel_product)(const struct gather *g, size_t rows, const real *a, const real *b, size_t columns,
                                     real *c)
{
    real spill[TILE_ROWS * TILE_COLUMNS];
    bool whole = columns == TILE_COLUMNS;
    for (size_t r = 0; r < rows; r += TILE_ROWS) {
        const real *row[TILE_ROWS];
        real *out[TILE_ROWS];
        size_t here = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
#pragma GCC unroll 8
        for (size_t m = 0; m < TILE_ROWS; m++) {
            row[m] = a + g->in[r + (m < here ? m : 0)];
            /* cppcheck-suppress legacyUninitvar ; an address, written by the store */
            out[m] = whole && m < here ? c + g->out[r + m] : spill + m * TILE_COLUMNS;
        }
        TILE_NAME(product)(g, row, b, out);
        for (size_t m = 0; !whole && m < here; m++)
            memcpy(c + g->out[r + m], spill + m * TILE_COLUMNS, columns * sizeof(real));
    }
}

KERNEL static void TILE_NAME(gather_product)(const struct gather *g, size_t rows, const real *a, const real *packed,
                                             real *c)
{
    size_t K = g->runs * g->run;
    for (size_t j = 0; j < g->columns; j += TILE_COLUMNS) {
        size_t columns = g->columns - j < TILE_COLUMNS ? g->columns - j : TILE_COLUMNS;
        TILE_NAME(panel_product)(g, rows, a, packed, columns, c + j);
        packed += (K + 1) * TILE_COLUMNS;
    }
}

/* gradient (TILE_ROWS, TILE_COLUMNS) += sum over points of A's TILE_ROWS values times right's row (TILE_COLUMNS) */
INLINE void TILE_NAME(outer)(const uint32_t *offset, const uint32_t *point, size_t points, const real *a,
                             const real *right, real *gradient)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    real *to[TILE_ROWS];
    TILE_NAME(load)(gradient, TILE_COLUMNS, sum);
    for (size_t p = 0; p < points; p++, right += TILE_COLUMNS) {
        const real *from = a + point[p];
        real left[TILE_ROWS];
#pragma GCC unroll 8
        for (int m = 0; m < TILE_ROWS; m++)
            left[m] = from[offset[m]];
        TILE_NAME(multiply_add)(left, right, sum);
    }
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; m++)
        to[m] = gradient + m * TILE_COLUMNS;
    TILE_NAME(store)(sum, to);
}

/* One panel's columns of D at the given points, side by side; columns beyond N stay zero. */
INLINE void TILE_NAME(gather_panel)(const uint32_t *point, size_t points, const real *d, size_t columns, real *right)
{
    if (columns < TILE_COLUMNS)
        memset(right, 0, points * TILE_COLUMNS * sizeof(real));
    for (size_t p = 0; p < points; p++)
        memcpy(right + p * TILE_COLUMNS, d + point[p], columns * sizeof(real));
}

/* All tiles of the gradient, for at most POINTS points. */
INLINE void TILE_NAME(outer_points)(const struct outer *o, size_t first, size_t points, const real *a, const real *d,
                                    real *gradient)
{
    real right[POINTS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (size_t j = 0; j < o->columns; j += TILE_COLUMNS) {
        if (o->columns - j < TILE_COLUMNS)
            TILE_NAME(gather_panel)(o->d + first, points, d + j, o->columns - j, right);
        else
            TILE_NAME(gather_panel)(o->d + first, points, d + j, TILE_COLUMNS, right);
        for (size_t k = 0; k < o->left_padded; k += TILE_ROWS, gradient += TILE_ROWS * TILE_COLUMNS)
            TILE_NAME(outer)(o->left + k, o->a + first, points, a, right, gradient);
    }
}

KERNEL static void TILE_NAME(gather_outer)(const struct outer *o, size_t points, const real *a, const real *d,
                                           real *gradient)
{
    for (size_t p = 0; p < points; p += POINTS)
        TILE_NAME(outer_points)(o, p, points - p < POINTS ? points - p : POINTS, a, d, gradient);
}

#undef TILE_COLUMNS
#undef TILE_NAME
#undef TILE_ROWS
#undef TILE_VECTORS
