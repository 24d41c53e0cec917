/* The two inner kernels for tiles of M rows x V vectors of sums. Included by tiles.c once per choice of kernels, with
 *
 *   TILE_NAME(f)          the function's name in this choice
 *   TILE_TARGET           the instructions that it may use
 *   TILE_BYTES            of a vector
 *   TILE_PANEL            vectors in a whole panel at most; the last panel of a matrix may have fewer
 *   TILE_ROWS(V)          M for a panel of V vectors: as many sums as registers hold beside operands, at most 8
 *   TILE_MASKED           1 when a store can leave lanes out
 *
 * M and V are constants wherever these functions are inlined, so that every loop over them is unrolled and the sums
 * stay in registers. Rows beyond the last whole tile get a tile of their own height. No include guard. */

#include <string.h>

#define TILE_VECTOR TILE_NAME(vector)
#define TILE_AT(x) (*(const TILE_VECTOR *)(x))
#define TILE_INLINE static inline __attribute__((always_inline)) TILE_TARGET

typedef real TILE_VECTOR __attribute__((vector_size(TILE_BYTES), aligned(sizeof(real)), may_alias));
enum { TILE_NAME(LANES) = TILE_BYTES / sizeof(real) };

/* Stores the first `columns` reals of M rows, which begin at to[m]. */
TILE_INLINE void TILE_NAME(store)(TILE_VECTOR sum[TILE_HEIGHT_MAX][TILE_PANEL], real *const to[TILE_HEIGHT_MAX],
                                  size_t columns, const int M, const int V)
{
    size_t left = columns - (size_t)(V - 1) * TILE_NAME(LANES);
    bool whole = left == TILE_NAME(LANES);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            real *at = to[m] + (size_t)v * TILE_NAME(LANES);
            if (v + 1 < V || whole)
                *(TILE_VECTOR *)at = sum[m][v];
            else
#if TILE_MASKED
                tile_store_masked(at, left, sum[m][v]);
#else
                memcpy(at, &sum[m][v], left * sizeof(real));
#endif
        }
}

/* sum[m] += left[m] * right */
TILE_INLINE void TILE_NAME(multiply_add)(const real left[TILE_HEIGHT_MAX], const real *right,
                                         TILE_VECTOR sum[TILE_HEIGHT_MAX][TILE_PANEL], const int M, const int V)
{
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            sum[m][v] += left[m] * TILE_AT(right + (size_t)v * TILE_NAME(LANES));
}

/* M rows of C from row r on, against one panel: bias row + row . b. A panel in place has no bias row, and the next row
 * `step` on. */
TILE_INLINE void TILE_NAME(product)(const struct gather *g, size_t r, const struct tile_panel *p, const bool packed,
                                    const int M, const int V)
{
    TILE_VECTOR sum[TILE_HEIGHT_MAX][TILE_PANEL];
    const real *row[TILE_HEIGHT_MAX], *b = p->b;
    real *out[TILE_HEIGHT_MAX];
    const size_t step = packed ? (size_t)V * TILE_NAME(LANES) : p->step;
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
        row[m] = p->a + g->in[r + (size_t)m];
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            sum[m][v] = packed ? TILE_AT(b + (size_t)v * TILE_NAME(LANES)) : (TILE_VECTOR){0};
    }
    b += packed ? step : 0;
    for (uint32_t run = 0; run < g->runs; run++) {
        for (size_t k = 0, end; k < g->run; k = end) {
            end = k + fetch_ahead(p->ahead, g->run - k);
            for (size_t i = k; i < end; i++, b += step) {
                real left[TILE_HEIGHT_MAX];
#pragma GCC unroll 8
                for (int m = 0; m < M; m++)
                    left[m] = row[m][i];
                TILE_NAME(multiply_add)(left, b, sum, M, V);
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
            row[m] += g->stride;
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
        out[m] = p->c + g->out[r + (size_t)m];
    TILE_NAME(store)(sum, out, p->columns, M, V);
}

/* All rows against one panel, in tiles that are equally high or differ by one row: a last one of few rows would wait
 * for its own sums. */
TILE_INLINE void TILE_NAME(panel_product)(const struct gather *g, size_t rows, const struct tile_panel *p,
                                          const bool packed, const int V)
{
    size_t tiles = (rows + TILE_ROWS(V) - 1) / TILE_ROWS(V), r = 0;
    for (size_t t = tiles; t > 0; t--) {
        size_t height = (rows - r + t - 1) / t;
        /* NOLINTBEGIN(bugprone-macro-parentheses, bugprone-branch-clone): M is a number, and V decides which cases
         * differ */
        switch (height) {
#define TILE_CASE(M)                                                                                                   \
    case M:                                                                                                            \
        TILE_NAME(product)(g, r, p, packed, M < TILE_ROWS(V) ? M : TILE_ROWS(V), V);                                   \
        break;
            TILE_CASES
#undef TILE_CASE
        default:
            break;
        }
        /* NOLINTEND(bugprone-macro-parentheses, bugprone-branch-clone) */
        r += height;
    }
}

/* `columns` columns of D at the given points, side by side, up to V whole vectors with zeros. */
TILE_INLINE void TILE_NAME(gather_columns)(const uint32_t *point, size_t points, const real *d, size_t columns,
                                           real *right, const int V)
{
    const size_t width = (size_t)V * TILE_NAME(LANES);
    if (columns < width) {
        memset(right, 0, points * width * sizeof(real));
        for (size_t p = 0; p < points; p++)
            memcpy(right + p * width, d + point[p], columns * sizeof(real));
        return;
    }
    for (size_t p = 0; p < points; p++, right += width)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            *(TILE_VECTOR *)(right + (size_t)v * TILE_NAME(LANES)) =
                TILE_AT(d + point[p] + (size_t)v * TILE_NAME(LANES));
}

/* gradient (M, V vectors) += sum over points of A's M values times right's row. `together` says that the M offsets
 * follow each other: then they need no registers. In place the rows of D are where they stand, those of the gradient
 * p->step apart, and it is overwritten. */
TILE_INLINE void TILE_NAME(outer)(const struct outer *o, uint32_t k, size_t first, size_t points, const real *a,
                                  const real *right, real *gradient, size_t step, struct ahead *ahead,
                                  const bool together, const bool packed, const int M, const int V)
{
    TILE_VECTOR sum[TILE_HEIGHT_MAX][TILE_PANEL];
    const uint32_t *offset = o->left + k;
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            sum[m][v] = packed ? TILE_AT(gradient + (size_t)(m * V + v) * TILE_NAME(LANES)) : (TILE_VECTOR){0};
    for (size_t p = first, end; p < first + points; p = end) {
        end = p + fetch_ahead(ahead, first + points - p);
        for (size_t i = p; i < end; i++) {
            const real *from = a + o->a[i] + (together ? offset[0] : 0);
            real left[TILE_HEIGHT_MAX];
#pragma GCC unroll 8
            for (int m = 0; m < M; m++)
                left[m] = together ? from[m] : from[offset[m]];
            TILE_NAME(multiply_add)(left, packed ? right : right + o->d[i], sum, M, V);
            right += packed ? (size_t)V * TILE_NAME(LANES) : 0;
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            *(TILE_VECTOR *)(gradient + (size_t)m * step + (size_t)v * TILE_NAME(LANES)) = sum[m][v];
}

/* One panel of the gradient, for `points` points from `first` on. */
TILE_INLINE void TILE_NAME(panel_outer)(const struct outer *o, size_t first, size_t points, const real *a,
                                        const real *right, real *gradient, size_t step, struct ahead *ahead,
                                        const bool packed, const int V)
{
    uint32_t tiles = (o->left_count + TILE_ROWS(V) - 1) / TILE_ROWS(V), k = 0;
    for (uint32_t t = tiles; t > 0; t--) {
        uint32_t height = (o->left_count - k + t - 1) / t;
        bool together = !packed || o->left[k + height - 1] - o->left[k] == height - 1;
        /* NOLINTBEGIN(bugprone-macro-parentheses, bugprone-branch-clone): as above */
        switch (height) {
#define TILE_CASE(M)                                                                                                   \
    case M:                                                                                                            \
        if (together)                                                                                                  \
            TILE_NAME(outer)                                                                                           \
        (o, k, first, points, a, right, gradient, step, ahead, true, packed, M < TILE_ROWS(V) ? M : TILE_ROWS(V), V);  \
        else TILE_NAME(outer)(o, k, first, points, a, right, gradient, step, ahead, false, packed,                     \
                              M < TILE_ROWS(V) ? M : TILE_ROWS(V), V);                                                 \
        break;
            TILE_CASES
#undef TILE_CASE
        default:
            break;
        }
        /* NOLINTEND(bugprone-macro-parentheses, bugprone-branch-clone) */
        k += height;
        gradient += height * step;
    }
}

#define TILE_PANELS(V)                                                                                                 \
    TILE_TARGET static void TILE_NAME(product_##V)(const struct gather *g, size_t rows, const struct tile_panel *p)    \
    {                                                                                                                  \
        TILE_NAME(panel_product)(g, rows, p, true, V);                                                                 \
    }                                                                                                                  \
    TILE_TARGET static void TILE_NAME(product_in_place_##V)(const struct gather *g, size_t rows,                       \
                                                            const struct tile_panel *p)                                \
    {                                                                                                                  \
        TILE_NAME(panel_product)(g, rows, p, false, V);                                                                \
    }                                                                                                                  \
    TILE_TARGET static void TILE_NAME(columns_##V)(const uint32_t *point, size_t points, const real *d,                \
                                                   size_t columns, real *right)                                        \
    {                                                                                                                  \
        TILE_NAME(gather_columns)(point, points, d, columns, right, V);                                                \
    }                                                                                                                  \
    TILE_TARGET static void TILE_NAME(outer_##V)(const struct outer *o, size_t first, size_t points, const real *a,    \
                                                 const real *right, real *gradient, struct ahead *ahead)               \
    {                                                                                                                  \
        TILE_NAME(panel_outer)(o, first, points, a, right, gradient, (size_t)(V)*TILE_NAME(LANES), ahead, true, V);    \
    }                                                                                                                  \
    TILE_TARGET static void TILE_NAME(outer_in_place_##V)(const struct outer *o, size_t points, const real *a,         \
                                                          const real *d, real *gradient, size_t step)                  \
    {                                                                                                                  \
        TILE_NAME(panel_outer)(o, 0, points, a, d, gradient, step, NULL, false, V);                                    \
    }
TILE_EACH_PANEL(TILE_PANELS)
#undef TILE_PANELS

#undef TILE_AT
#undef TILE_EACH_PANEL
#undef TILE_BYTES
#undef TILE_INLINE
#undef TILE_MASKED
#undef TILE_NAME
#undef TILE_PANEL
#undef TILE_ROWS
#undef TILE_TARGET
#undef TILE_VECTOR
