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

/* M rows of C from row r on, against one panel: bias row + row . b */
TILE_INLINE void TILE_NAME(product)(const struct gather *g, size_t r, const real *a, const real *b, size_t columns,
                                    real *c, const int M, const int V)
{
    TILE_VECTOR sum[TILE_HEIGHT_MAX][TILE_PANEL];
    const real *row[TILE_HEIGHT_MAX];
    real *out[TILE_HEIGHT_MAX];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
        row[m] = a + g->in[r + (size_t)m];
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            sum[m][v] = TILE_AT(b + (size_t)v * TILE_NAME(LANES));
    }
    b += (size_t)V * TILE_NAME(LANES);
    for (uint32_t run = 0; run < g->runs; run++) {
        for (size_t k = 0; k < g->run; k++, b += (size_t)V * TILE_NAME(LANES)) {
            real left[TILE_HEIGHT_MAX];
#pragma GCC unroll 8
            for (int m = 0; m < M; m++)
                left[m] = row[m][k];
            TILE_NAME(multiply_add)(left, b, sum, M, V);
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
            row[m] += g->stride;
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
        out[m] = c + g->out[r + (size_t)m];
    TILE_NAME(store)(sum, out, columns, M, V);
}

/* All rows against one panel, of whose columns the first `columns` have a place in C. */
TILE_INLINE void TILE_NAME(panel_product)(const struct gather *g, size_t rows, const real *a, const real *b,
                                          size_t columns, real *c, const int V)
{
    size_t r = 0;
    for (; r + TILE_ROWS(V) <= rows; r += TILE_ROWS(V))
        TILE_NAME(product)(g, r, a, b, columns, c, TILE_ROWS(V), V);
    /* NOLINTBEGIN(bugprone-macro-parentheses, bugprone-branch-clone): M is a number, and V decides which cases differ */
    switch (rows - r) {
#define TILE_CASE(M)                                                                                                   \
    case M:                                                                                                            \
        TILE_NAME(product)(g, r, a, b, columns, c, M < TILE_ROWS(V) ? M : 1, V);                                       \
        break;
        TILE_CASES
#undef TILE_CASE
    default:
        break;
    }
    /* NOLINTEND(bugprone-macro-parentheses, bugprone-branch-clone) */
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
 * follow each other: then they need no registers. */
TILE_INLINE void TILE_NAME(outer)(const uint32_t *offset, const uint32_t *point, size_t points, const real *a,
                                  const real *right, real *gradient, const bool together, const int M, const int V)
{
    TILE_VECTOR sum[TILE_HEIGHT_MAX][TILE_PANEL];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            sum[m][v] = TILE_AT(gradient + (size_t)(m * V + v) * TILE_NAME(LANES));
    for (size_t p = 0; p < points; p++, right += (size_t)V * TILE_NAME(LANES)) {
        const real *from = a + point[p] + (together ? offset[0] : 0);
        real left[TILE_HEIGHT_MAX];
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
            left[m] = together ? from[m] : from[offset[m]];
        TILE_NAME(multiply_add)(left, right, sum, M, V);
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            *(TILE_VECTOR *)(gradient + (size_t)(m * V + v) * TILE_NAME(LANES)) = sum[m][v];
}

/* One panel of the gradient, for the points whose columns of D are in `right`. */
TILE_INLINE void TILE_NAME(panel_outer)(const struct outer *o, const uint32_t *point, size_t points, const real *a,
                                        const real *right, real *gradient, const int V)
{
    uint32_t k = 0;
    for (; k + TILE_ROWS(V) <= o->left_count; k += TILE_ROWS(V), gradient += TILE_ROWS(V) * V * TILE_NAME(LANES))
        if (o->left[k + TILE_ROWS(V) - 1] - o->left[k] == TILE_ROWS(V) - 1)
            TILE_NAME(outer)(o->left + k, point, points, a, right, gradient, true, TILE_ROWS(V), V);
        else
            TILE_NAME(outer)(o->left + k, point, points, a, right, gradient, false, TILE_ROWS(V), V);
    /* NOLINTBEGIN(bugprone-macro-parentheses, bugprone-branch-clone): as above */
    switch (o->left_count - k) {
#define TILE_CASE(M)                                                                                                   \
    case M:                                                                                                            \
        TILE_NAME(outer)(o->left + k, point, points, a, right, gradient, false, M < TILE_ROWS(V) ? M : 1, V);          \
        break;
        TILE_CASES
#undef TILE_CASE
    default:
        break;
    }
    /* NOLINTEND(bugprone-macro-parentheses, bugprone-branch-clone) */
}

#define TILE_PANELS(V)                                                                                                 \
    TILE_TARGET static void TILE_NAME(product_##V)(const struct gather *g, size_t rows, const real *a, const real *b,  \
                                                   size_t columns, real *c)                                            \
    {                                                                                                                  \
        TILE_NAME(panel_product)(g, rows, a, b, columns, c, V);                                                        \
    }                                                                                                                  \
    TILE_TARGET static void TILE_NAME(columns_##V)(const uint32_t *point, size_t points, const real *d,                \
                                                   size_t columns, real *right)                                        \
    {                                                                                                                  \
        TILE_NAME(gather_columns)(point, points, d, columns, right, V);                                                \
    }                                                                                                                  \
    TILE_TARGET static void TILE_NAME(outer_##V)(const struct outer *o, const uint32_t *point, size_t points,          \
                                                 const real *a, const real *right, real *gradient)                     \
    {                                                                                                                  \
        TILE_NAME(panel_outer)(o, point, points, a, right, gradient, V);                                               \
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
