/* The two inner kernels for one tile of TILE_ROWS x (TILE_VECTORS vectors) sums. Included by tiles.c once per tile
 * shape, because the sums stay in registers only when both numbers are constants. No include guard, for that reason. */

#define TILE_COLUMNS (TILE_VECTORS * VECTOR)

/* out[m] (TILE_COLUMNS) = bias row + row[m] . b */
INLINE void TILE_NAME(product)(const struct gather *g, const real *row[TILE_ROWS], const real *b, real *out[TILE_ROWS])
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    UNROLL for (int m = 0; m < TILE_ROWS; m++) UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[m][v] =
        *(const vector *)(b + v * VECTOR);
    b += TILE_COLUMNS;
    for (uint32_t run = 0; run < g->runs; run++) {
        for (size_t k = 0; k < g->run; k++, b += TILE_COLUMNS) {
            vector right[TILE_VECTORS];
            UNROLL for (int v = 0; v < TILE_VECTORS; v++) right[v] = *(const vector *)(b + v * VECTOR);
            UNROLL for (int m = 0; m < TILE_ROWS; m++)
            {
                real left = row[m][k];
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[m][v] += left * right[v];
            }
        }
        UNROLL for (int m = 0; m < TILE_ROWS; m++) row[m] += g->stride;
    }
    UNROLL for (int m = 0; m < TILE_ROWS; m++) UNROLL for (int v = 0; v < TILE_VECTORS; v++) *
        (vector *)(out[m] + v * VECTOR) = sum[m][v];
}

/* All row tiles against one panel with `columns` columns of its own; sums that have no place in C go to a spill. */
INLINE void TILE_NAME(panel_product)(const struct gather *g, size_t rows, const real *a, const real *b, size_t columns,
                                     real *c)
{
    real spill[TILE_ROWS * TILE_COLUMNS];
    for (size_t r = 0; r < rows; r += TILE_ROWS) {
        const real *row[TILE_ROWS];
        real *out[TILE_ROWS];
        size_t here = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
        bool whole = columns == TILE_COLUMNS;
        UNROLL for (size_t m = 0; m < TILE_ROWS; m++)
        {
            row[m] = a + g->in[r + (m < here ? m : 0)];
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

/* gradient (TILE_ROWS, TILE_COLUMNS) += sum over points of A's TILE_ROWS values times D's `columns` values */
INLINE void TILE_NAME(outer)(const struct outer *o, const uint32_t *left, size_t points, const real *a, const real *d,
                             size_t columns, real *gradient)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    real edge[TILE_COLUMNS] = {0};
    UNROLL for (int m = 0; m < TILE_ROWS; m++) UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[m][v] =
        *(vector *)(gradient + m * TILE_COLUMNS + v * VECTOR);
    for (size_t p = 0; p < points; p++) {
        const real *from = a + o->a[p], *right = d + o->d[p];
        if (columns < TILE_COLUMNS) {
            memcpy(edge, right, columns * sizeof(real));
            right = edge;
        }
        UNROLL for (int m = 0; m < TILE_ROWS; m++)
        {
            real value = from[left[m]];
            UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[m][v] += value * *(const vector *)(right + v * VECTOR);
        }
    }
    UNROLL for (int m = 0; m < TILE_ROWS; m++) UNROLL for (int v = 0; v < TILE_VECTORS; v++) *
        (vector *)(gradient + m * TILE_COLUMNS + v * VECTOR) = sum[m][v];
}

KERNEL static void TILE_NAME(gather_outer)(const struct outer *o, size_t points, const real *a, const real *d,
                                           real *gradient)
{
    for (size_t j = 0; j < o->columns; j += TILE_COLUMNS) {
        size_t columns = o->columns - j < TILE_COLUMNS ? o->columns - j : TILE_COLUMNS;
        for (size_t k = 0; k < o->left_padded; k += TILE_ROWS, gradient += TILE_ROWS * TILE_COLUMNS)
            if (columns == TILE_COLUMNS)
                TILE_NAME(outer)(o, o->left + k, points, a, d + j, TILE_COLUMNS, gradient);
            else
                TILE_NAME(outer)(o, o->left + k, points, a, d + j, columns, gradient);
    }
}

#undef TILE_COLUMNS
#undef TILE_NAME
#undef TILE_ROWS
#undef TILE_VECTORS
