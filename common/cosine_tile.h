/* The inner kernel of cosine.c: 8 or 4 rows times one panel of 3 vectors of columns. Included by cosine.c once per
 * choice of kernels, with TILE_NAME(f), TILE_TARGET, TILE_BYTES of a vector, and TILE_ROWS. Every sum runs over D in
 * order and alone, as in worker/nn/tiles_template.h, which common/ cannot see. No include guard. */

#define TILE_VECTOR TILE_NAME(vector)
#define TILE_AT(x) (*(const TILE_VECTOR *)(x))

typedef float TILE_VECTOR __attribute__((vector_size(TILE_BYTES), aligned(sizeof(float)), may_alias));
enum { TILE_NAME(PANEL) = 3 * TILE_BYTES / sizeof(float) };

/* out (rows, TILE_COLUMNS apart) = a (rows,D) times all panels, each (D,PANEL). Rows beyond the last whole group of
 * TILE_ROWS are computed from the last row again, into rows of out that must be there. */
TILE_TARGET static void TILE_NAME(cosines)(const float *a, size_t rows, size_t D, const float *panels, size_t columns,
                                           float *out)
{
    for (size_t j = 0; j < columns; j += TILE_NAME(PANEL), panels += D * TILE_NAME(PANEL))
        for (size_t r = 0; r < rows; r += TILE_ROWS) {
            TILE_VECTOR sum[TILE_ROWS][3] = {{{0}}};
            const float *row[TILE_ROWS], *b = panels;
#pragma GCC unroll 8
            for (size_t m = 0; m < TILE_ROWS; m++)
                row[m] = a + (r + m < rows ? r + m : rows - 1) * D;
            for (size_t d = 0; d < D; d++, b += TILE_NAME(PANEL)) {
#pragma GCC unroll 8
                for (size_t m = 0; m < TILE_ROWS; m++) {
#pragma GCC unroll 3
                    for (size_t v = 0; v < 3; v++)
                        sum[m][v] += row[m][d] * TILE_AT(b + v * TILE_NAME(PANEL) / 3);
                }
            }
#pragma GCC unroll 8
            for (size_t m = 0; m < TILE_ROWS; m++) {
#pragma GCC unroll 3
                for (size_t v = 0; v < 3; v++)
                    *(TILE_VECTOR *)(out + (r + m) * COLUMNS + j + v * TILE_NAME(PANEL) / 3) = sum[m][v];
            }
        }
}

#undef TILE_AT
#undef TILE_BYTES
#undef TILE_NAME
#undef TILE_ROWS
#undef TILE_TARGET
#undef TILE_VECTOR
