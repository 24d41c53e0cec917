/* Packing, and the choice between the two tile shapes.  */
#include "worker/nn/tiles.h"

#include <stdbool.h>
#include <string.h>
#include "worker/nn/vector.h"

enum {
    NARROW = 2 * VECTOR,
    WIDE = 3 * VECTOR,
    LEFT_MULTIPLE = 12, /* of both tile heights */
    PACK_ROWS = 64,     /* of a panel, packed at a time */
    POINTS = 64,        /* of gather_outer at a time: their D panel is packed to stay in the first-level cache */
};

#define TILE_ROWS 6
#define TILE_VECTORS 2
#define TILE_NAME(f) narrow_##f
#include "worker/nn/tiles_template.h"

#define TILE_ROWS 4
#define TILE_VECTORS 3
#define TILE_NAME(f) wide_##f
#include "worker/nn/tiles_template.h"

static size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

uint32_t tile_panel(size_t columns)
{
    return round_up(columns, WIDE) < round_up(columns, NARROW) ? WIDE : NARROW;
}

uint32_t tile_padded(uint32_t columns)
{
    return (uint32_t)round_up(columns, tile_panel(columns));
}

uint32_t tile_left_padded(uint32_t left)
{
    return (left + LEFT_MULTIPLE - 1) / LEFT_MULTIPLE * LEFT_MULTIPLE;
}

size_t tile_packed_size(size_t K, size_t columns)
{
    return (K + 1) * round_up(columns, tile_panel(columns));
}

size_t tile_gradient_size(uint32_t K, size_t columns)
{
    return tile_left_padded(K) * round_up(columns, tile_panel(columns));
}

/* Sources contiguous along k are read along k, a few at a time, so that the panel's part stays in cache. */
static void pack_along_k(const struct pack *p, const real *source, size_t columns, size_t panel, real *packed)
{
    for (size_t first = 0; first < p->n; first += PACK_ROWS) {
        size_t last = first + PACK_ROWS < p->n ? first + PACK_ROWS : p->n;
        for (size_t j = 0; j < columns; j++)
            for (size_t i = first; i < last; i++)
                packed[i * panel + j] = source[i + j * p->column_stride];
    }
}

static void pack_panel(const struct pack *p, const real *source, size_t columns, size_t panel, real *packed)
{
    if (columns < panel)
        for (size_t i = 0; i < p->n; i++)
            memset(packed + i * panel + columns, 0, (panel - columns) * sizeof(real));
    if (p->row_stride == 1) {
        pack_along_k(p, source, columns, panel, packed);
        return;
    }
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < columns; j++)
            packed[i * panel + j] = source[i * p->row_stride + j * p->column_stride];
}

void tile_pack(const struct pack *p, const real *source, real *packed)
{
    size_t panel = tile_panel(p->columns);
    for (size_t j = 0; j < p->columns; j += panel) {
        size_t columns = p->columns - j < panel ? p->columns - j : panel;
        pack_panel(p, source + j * p->column_stride, columns, panel, packed + (1 + p->k0) * panel);
        packed += (p->K + 1) * panel;
    }
}

void tile_pack_bias(size_t K, size_t columns, const real *bias, real *packed)
{
    size_t panel = tile_panel(columns);
    for (size_t j = 0; j < columns; j += panel, packed += (K + 1) * panel)
        for (size_t i = 0; i < panel; i++)
            packed[i] = bias && j + i < columns ? bias[j + i] : 0;
}

void tile_unpack_gradient(const struct pack *p, const real *gradient, real *target)
{
    size_t panel = tile_panel(p->columns), rows = tile_left_padded(p->K);
    for (size_t j = 0; j < p->columns; j++) {
        const real *from = gradient + (j / panel) * rows * panel + j % panel;
        real *to = target + j * p->column_stride;
        for (size_t k = 0; k < p->K; k++)
            to[k * p->row_stride] = from[k * panel];
    }
}

void gather_product(const struct gather *g, size_t rows, const real *a, const real *packed, real *c)
{
    if (g->panel == WIDE)
        wide_gather_product(g, rows, a, packed, c);
    else
        narrow_gather_product(g, rows, a, packed, c);
}

void gather_outer(const struct outer *o, size_t points, const real *a, const real *d, real *gradient)
{
    if (o->panel == WIDE)
        wide_gather_outer(o, points, a, d, gradient);
    else
        narrow_gather_outer(o, points, a, d, gradient);
}
