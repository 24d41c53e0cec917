/* Packing, the loops over panels, and the tiles of each choice of kernels. */
#include "worker/nn/tiles.h"

#include <stdbool.h>
#include "common/at_most.h"
#include "common/kernels.h"
#include "worker/nn/bf16.h"
#include "worker/nn/transpose.h"
#if KERNELS_X86
#include <immintrin.h>
#endif

enum {
    POINTS = 128, /* of gather_outer at a time: their D panel is packed to stay in the first-level cache */
    TILE_HEIGHT_MAX = 8,
    PANEL_MAX = 4, /* vectors of a panel */
    PANEL_BYTES_MAX = PANEL_MAX * 64,
};

/* A statement for operands in bf16; nothing where no such kernels are built. */
#if BF16_KERNELS
#define IN_BF16(precision, statement)                                                                                  \
    if ((precision) == PRECISION_BF16)                                                                                 \
    statement
#else
#define IN_BF16(precision, statement)
#endif

/* Rows that a tile may have. */
#define TILE_CASES                                                                                                     \
    TILE_CASE(1) TILE_CASE(2) TILE_CASE(3) TILE_CASE(4) TILE_CASE(5) TILE_CASE(6) TILE_CASE(7) TILE_CASE(8)

/* What a product's rows meet: a panel of B, packed, or in place with rows `step` apart. */
struct tile_panel {
    const real *a, *b;
    size_t step, columns; /* of which the first `columns` have a place in C */
    real *c;
    struct ahead *ahead;
};

/* Fetches a few lines, so that the tile's own operands need not wait behind them. Returns how many of the `left` k or
 * points to go on for until the next few. */
static inline __attribute__((always_inline)) size_t fetch_ahead(struct ahead *ahead, size_t left)
{
    enum { LINE = 64 / sizeof(real), LINES = 8, STRETCH = 32 };
    if (ahead == NULL || ahead->at >= ahead->end)
        return left;
#pragma GCC unroll 8
    for (int i = 0; i < LINES; i++)
        __builtin_prefetch(ahead->at + i * LINE, 0, 2);
    ahead->at += LINES * LINE;
    return at_most(left, STRETCH);
}

#define TILE_NAME(f) portable_##f
#define TILE_TARGET
#define TILE_BYTES 16
#define TILE_PANEL 3
#define TILE_ROWS(V) ((V) < 3 ? 6 : 4)
#define TILE_MASKED 0
#define TILE_EACH_PANEL(DO) DO(1) DO(2) DO(3)
#include "worker/nn/tiles_template.h"

#if KERNELS_X86

#define TILE_NAME(f) avx2_##f
#define TILE_TARGET KERNELS_TARGET_AVX2
#define TILE_BYTES 32
#define TILE_PANEL 3
#define TILE_ROWS(V) ((V) < 3 ? 6 : 4)
#define TILE_MASKED 0
#define TILE_EACH_PANEL(DO) DO(1) DO(2) DO(3)
#include "worker/nn/tiles_template.h"

#ifdef NN_DOUBLE
#define tile_store_masked(to, n, v) _mm512_mask_storeu_pd(to, (__mmask8)((1u << (n)) - 1), (__m512d)(v))
#else
#define tile_store_masked(to, n, v) _mm512_mask_storeu_ps(to, (__mmask16)((1u << (n)) - 1), (__m512)(v))
#endif
#define TILE_NAME(f) avx512_##f
#define TILE_TARGET KERNELS_TARGET_AVX512
#define TILE_BYTES 64
#define TILE_PANEL 4
#define TILE_ROWS(V) ((V) < 4 ? 8 : 6)
#define TILE_MASKED 1
#define TILE_EACH_PANEL(DO) DO(1) DO(2) DO(3) DO(4)
#include "worker/nn/tiles_template.h"

#endif

/* The tiles of one choice. Functions are indexed by the vectors of a panel, less one. */
struct tile_set {
    size_t lanes;             /* reals in a vector */
    uint32_t widest;          /* vectors of a panel at most */
    uint32_t cost[PANEL_MAX]; /* time of a panel of so many vectors, relative to other panels of this set */
    void (*product[PANEL_MAX])(const struct gather *g, size_t rows, const struct tile_panel *p);
    void (*product_in_place[PANEL_MAX])(const struct gather *g, size_t rows, const struct tile_panel *p);
    void (*columns[PANEL_MAX])(const uint32_t *point, size_t points, const real *d, size_t columns, real *right);
    void (*outer[PANEL_MAX])(const struct outer *o, size_t first, size_t points, const real *a, const real *right,
                             real *gradient, struct ahead *ahead);
    void (*outer_in_place[PANEL_MAX])(const struct outer *o, size_t points, const real *a, const real *d,
                                      real *gradient, size_t step);
};

static const struct tile_set sets[KERNELS_AMX] = {
    [KERNELS_PORTABLE] = {.lanes = portable_LANES,
                          .widest = 3,
                          .cost = {15, 20, 30},
                          .product = {portable_product_1, portable_product_2, portable_product_3},
                          .product_in_place = {portable_product_in_place_1, portable_product_in_place_2,
                                               portable_product_in_place_3},
                          .columns = {portable_columns_1, portable_columns_2, portable_columns_3},
                          .outer = {portable_outer_1, portable_outer_2, portable_outer_3},
                          .outer_in_place = {portable_outer_in_place_1, portable_outer_in_place_2,
                                             portable_outer_in_place_3}},
#if KERNELS_X86
    [KERNELS_AVX2] = {.lanes = avx2_LANES,
                      .widest = 3,
                      .cost = {15, 20, 30},
                      .product = {avx2_product_1, avx2_product_2, avx2_product_3},
                      .product_in_place = {avx2_product_in_place_1, avx2_product_in_place_2, avx2_product_in_place_3},
                      .columns = {avx2_columns_1, avx2_columns_2, avx2_columns_3},
                      .outer = {avx2_outer_1, avx2_outer_2, avx2_outer_3},
                      .outer_in_place = {avx2_outer_in_place_1, avx2_outer_in_place_2, avx2_outer_in_place_3}},
    [KERNELS_AVX512] = {.lanes = avx512_LANES,
                        .widest = 4,
                        .cost = {15, 21, 30, 41},
                        .product = {avx512_product_1, avx512_product_2, avx512_product_3, avx512_product_4},
                        .product_in_place = {avx512_product_in_place_1, avx512_product_in_place_2,
                                             avx512_product_in_place_3, avx512_product_in_place_4},
                        .columns = {avx512_columns_1, avx512_columns_2, avx512_columns_3, avx512_columns_4},
                        .outer = {avx512_outer_1, avx512_outer_2, avx512_outer_3, avx512_outer_4},
                        .outer_in_place = {avx512_outer_in_place_1, avx512_outer_in_place_2, avx512_outer_in_place_3,
                                           avx512_outer_in_place_4}},
#endif
};

/* In float32 amx is avx512. */
static const struct tile_set *tiles_chosen(void)
{
    enum kernels chosen = kernels_chosen();
    return &sets[chosen == KERNELS_AMX ? KERNELS_AVX512 : chosen];
}

static size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static uint32_t panels_cost(const struct tile_set *t, uint32_t vectors, uint32_t panel)
{
    uint32_t rest = vectors % panel;
    return vectors / panel * t->cost[panel - 1] + (rest > 0 ? t->cost[rest - 1] : 0);
}

/* Columns of a whole panel: the division that should take least time. */
static size_t panel_width(const struct tile_set *t, size_t columns)
{
    uint32_t vectors = (uint32_t)((columns + t->lanes - 1) / t->lanes), best = t->widest;
    for (uint32_t panel = t->widest - 1; panel > 0; panel--)
        if (panels_cost(t, vectors, panel) < panels_cost(t, vectors, best))
            best = panel;
    return best * t->lanes;
}

size_t tile_packed_size(size_t K, size_t columns)
{
    return (K + 1) * round_up(columns, tiles_chosen()->lanes);
}

size_t tile_gradient_size(size_t K, size_t columns)
{
    return K * round_up(columns, tiles_chosen()->lanes);
}

size_t tile_packed_size_in(enum encoder_precision precision, size_t K, size_t columns)
{
    IN_BF16(precision, return bf16_packed_size(K, columns);)
    (void)precision;
    return tile_packed_size(K, columns);
}

size_t tile_gradient_size_in(enum encoder_precision precision, size_t K, size_t columns)
{
    IN_BF16(precision, return bf16_gradient_size(K, columns);)
    (void)precision;
    return tile_gradient_size(K, columns);
}

static void pack_panel(const struct pack *p, const real *source, size_t columns, size_t panel, size_t lanes,
                       real *packed)
{
    if (columns < panel)
        clear_rows(packed + panel - lanes, panel, p->n, lanes);
    if (p->row_stride == 1) {
        transpose(source, p->column_stride, columns, p->n, packed, panel);
        return;
    }
    if (p->column_stride == 1) {
        copy_rows(source, p->row_stride, p->n, columns, packed, panel);
        return;
    }
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < columns; j++)
            packed[i * panel + j] = source[i * p->row_stride + j * p->column_stride];
}

void tile_pack(const struct pack *p, const real *source, real *packed)
{
    IN_BF16(p->precision, {
        bf16_pack(p, source, packed);
        return;
    })
    const struct tile_set *t = tiles_chosen();
    size_t panel = panel_width(t, p->columns);
    for (size_t j = 0; j < p->columns; j += panel) {
        size_t columns = at_most(p->columns - j, panel), width = round_up(columns, t->lanes);
        pack_panel(p, source + j * p->column_stride, columns, width, t->lanes, packed + (1 + p->k0) * width);
        packed += (p->K + 1) * width;
    }
}

void tile_pack_bias(size_t K, size_t columns, const real *bias, real *packed)
{
    const struct tile_set *t = tiles_chosen();
    size_t panel = panel_width(t, columns);
    for (size_t j = 0; j < columns; j += panel) {
        size_t width = round_up(at_most(columns - j, panel), t->lanes);
        for (size_t i = 0; i < width; i++)
            packed[i] = bias && j + i < columns ? bias[j + i] : 0;
        packed += (K + 1) * width;
    }
}

void tile_pack_column(size_t K, size_t columns, size_t j, const real *source, real *packed)
{
    const struct tile_set *t = tiles_chosen();
    size_t panel = panel_width(t, columns), first = j / panel * panel;
    size_t width = round_up(at_most(columns - first, panel), t->lanes);
    packed += (K + 1) * first + width + (j - first);
    for (size_t k = 0; k < K; k++)
        packed[k * width] = source[k];
}

void tile_pack_column_in(enum encoder_precision precision, size_t K, size_t columns, size_t j, const real *source,
                         real *packed)
{
    IN_BF16(precision, {
        bf16_pack_column(K, columns, j, source, packed);
        return;
    })
    (void)precision;
    tile_pack_column(K, columns, j, source, packed);
}

void tile_pack_bias_in(enum encoder_precision precision, size_t K, size_t columns, const real *bias, real *packed)
{
    IN_BF16(precision, {
        bf16_pack_bias(columns, bias, packed);
        return;
    })
    (void)precision;
    tile_pack_bias(K, columns, bias, packed);
}

static void unpack_panel(const struct pack *p, const real *gradient, size_t columns, size_t width, real *target)
{
    if (p->row_stride == 1) {
        transpose(gradient, width, p->K, columns, target, p->column_stride);
        return;
    }
    if (p->column_stride == 1) {
        copy_rows(gradient, width, p->K, columns, target, p->row_stride);
        return;
    }
    for (size_t k = 0; k < p->K; k++)
        for (size_t j = 0; j < columns; j++)
            target[k * p->row_stride + j * p->column_stride] = gradient[k * width + j];
}

void tile_unpack_gradient(const struct pack *p, const real *gradient, real *target)
{
    IN_BF16(p->precision, {
        bf16_unpack_gradient(p, gradient, target);
        return;
    })
    const struct tile_set *t = tiles_chosen();
    size_t panel = panel_width(t, p->columns);
    for (size_t j = 0; j < p->columns; j += panel) {
        size_t columns = at_most(p->columns - j, panel), width = round_up(columns, t->lanes);
        unpack_panel(p, gradient, columns, width, target + j * p->column_stride);
        gradient += p->K * width;
    }
}

void gather_product_ahead(const struct gather *g, size_t rows, const real *a, const real *packed, real *c,
                          struct ahead *ahead)
{
    IN_BF16(g->precision, {
        bf16_gather_product(g, rows, a, packed, c);
        return;
    })
    const struct tile_set *t = tiles_chosen();
    size_t panel = panel_width(t, g->columns), K = g->runs * g->run;
    for (size_t j = 0; j < g->columns; j += panel) {
        size_t columns = at_most(g->columns - j, panel), vectors = (columns + t->lanes - 1) / t->lanes;
        struct tile_panel p = {.a = a, .b = packed, .columns = columns, .c = c + j, .ahead = ahead};
        t->product[vectors - 1](g, rows, &p);
        packed += (K + 1) * vectors * t->lanes;
    }
}

void gather_product(const struct gather *g, size_t rows, const real *a, const real *packed, real *c)
{
    gather_product_ahead(g, rows, a, packed, c, NULL);
}

/* All panels of the gradient, for at most POINTS points. */
static void outer_points(const struct tile_set *t, const struct outer *o, size_t first, size_t points, const real *a,
                         const real *d, real *gradient, struct ahead *ahead)
{
    real right[POINTS * PANEL_BYTES_MAX / sizeof(real)] __attribute__((aligned(64)));
    size_t panel = panel_width(t, o->columns);
    for (size_t j = 0; j < o->columns; j += panel) {
        size_t columns = at_most(o->columns - j, panel), vectors = (columns + t->lanes - 1) / t->lanes;
        t->columns[vectors - 1](o->d + first, points, d + j, columns, right);
        t->outer[vectors - 1](o, first, points, a, right, gradient, ahead);
        gradient += o->left_count * vectors * t->lanes;
    }
}

void gather_outer_ahead(const struct outer *o, size_t points, const real *a, const real *d, real *gradient,
                        struct ahead *ahead)
{
    IN_BF16(o->precision, {
        bf16_gather_outer(o, points, a, d, gradient);
        return;
    })
    const struct tile_set *t = tiles_chosen();
    for (size_t p = 0; p < points; p += POINTS)
        outer_points(t, o, p, at_most(points - p, POINTS), a, d, gradient, ahead);
}

void gather_outer(const struct outer *o, size_t points, const real *a, const real *d, real *gradient)
{
    gather_outer_ahead(o, points, a, d, gradient, NULL);
}

/* ---- operands in place ---- */

bool tile_in_place(enum encoder_precision precision, size_t columns)
{
    return precision == PRECISION_FLOAT32 && columns % tiles_chosen()->lanes == 0;
}

void gather_product_in_place(const struct gather *g, size_t rows, const real *a, const real *b, size_t stride, real *c)
{
    const struct tile_set *t = tiles_chosen();
    size_t panel = panel_width(t, g->columns);
    for (size_t j = 0; j < g->columns; j += panel) {
        size_t columns = at_most(g->columns - j, panel);
        struct tile_panel p = {.a = a, .b = b + j, .step = stride, .columns = columns, .c = c + j};
        t->product_in_place[columns / t->lanes - 1](g, rows, &p);
    }
}

void gather_outer_in_place(const struct outer *o, size_t points, const real *a, const real *d, real *gradient,
                           size_t stride)
{
    const struct tile_set *t = tiles_chosen();
    size_t panel = panel_width(t, o->columns);
    for (size_t j = 0; j < o->columns; j += panel)
        t->outer_in_place[at_most(o->columns - j, panel) / t->lanes - 1](o, points, a, d + j, gradient + j, stride);
}
