/* The rows of x are columns in chunks, in order. When a chunk's turn comes its rows have met all rows before it, so
 * they settle: who represents is known from then on. Then all later rows meet the chunk. Cosines come in tiles of
 * ROWS x COLUMNS floats and are reduced while they are in the second-level cache, where the chunk, transposed into
 * panels, stays too; the K x K matrix never exists. The products are ours, because OpenBLAS falls back to SSE on
 * processors that it does not know. */
#include "common/cosine.h"

#include <stdlib.h>
#include <string.h>
#include "common/at_most.h"
#include "common/error.h"
#include "common/kernels.h"
#include "common/vecmath.h"

enum {
    ROWS = 128,
    COLUMNS = 480, /* whole panels of each choice of kernels: 48, 24 and 12 columns */
    LANES = 32,
};

#define TILE_NAME(f) portable_##f
#define TILE_TARGET
#define TILE_BYTES 16
#define TILE_ROWS 4
#include "common/cosine_tile.h"

#if KERNELS_X86
#define TILE_NAME(f) avx2_##f
#define TILE_TARGET KERNELS_TARGET_AVX2
#define TILE_BYTES 32
#define TILE_ROWS 4
#include "common/cosine_tile.h"

#define TILE_NAME(f) avx512_##f
#define TILE_TARGET KERNELS_TARGET_AVX512
#define TILE_BYTES 64
#define TILE_ROWS 8
#include "common/cosine_tile.h"
#endif

struct tiling {
    size_t panel; /* columns of one */
    void (*cosines)(const float *a, size_t rows, size_t D, const float *panels, size_t columns, float *out);
};

static struct tiling tiling_chosen(void)
{
#if KERNELS_X86
    enum kernels chosen = kernels_chosen();
    if (chosen >= KERNELS_AVX512) /* amx is avx512 in float32 */
        return (struct tiling){avx512_PANEL, avx512_cosines};
    if (chosen == KERNELS_AVX2)
        return (struct tiling){avx2_PANEL, avx2_cosines};
#endif
    return (struct tiling){portable_PANEL, portable_cosines};
}

static const float PENALTY = -4.0f; /* cosines lie within 1 of zero */

/* The cover of every eps is found in one pass. For the eps that a row does not represent, a penalty pushes its cosine
 * under every other, so that one branch-free maximum per eps tells whether a later row joins. */
struct survey {
    const struct cosine_survey *o;
    struct tiling tiling;
    uint32_t index[COLUMNS]; /* the chunk's columns: which row each is */
    size_t columns;
    float *panels;    /* (COLUMNS,D) the chunk */
    float *penalties; /* (n,COLUMNS): 0 where the column represents, else PENALTY */
    float *best;      /* (n,K): largest cosine of a row to a representative before it */
    float *tile;      /* (ROWS,COLUMNS) */
    bool *represents; /* (n) scratch */
};

static void survey_fini(struct survey *s)
{
    free(s->panels);
    free(s->penalties);
    free(s->best);
    free(s->tile);
    free(s->represents);
}

static int survey_init(struct survey *s, const struct cosine_survey *o)
{
    *s = (struct survey){.o = o, .tiling = tiling_chosen()};
    s->panels = calloc(o->D, COLUMNS * sizeof *s->panels);
    s->penalties = calloc(o->n + 1, COLUMNS * sizeof *s->penalties);
    s->best = calloc(o->n * o->K + 1, sizeof *s->best);
    s->tile = calloc(ROWS, COLUMNS * sizeof *s->tile);
    s->represents = calloc(o->n + 1, sizeof *s->represents);
    if (s->panels && s->penalties && s->best && s->tile && s->represents)
        return 0;
    survey_fini(s);
    return ERR_MEMORY;
}

/* The columns listed in s->index, zeros up to a whole panel. */
static void pack(struct survey *s)
{
    size_t D = s->o->D, panel = s->tiling.panel, whole = (s->columns + panel - 1) / panel * panel;
    for (size_t j = 0; j < whole; j++) {
        float *to = s->panels + j / panel * panel * D + j % panel;
        const float *from = s->o->x + s->index[j < s->columns ? j : 0] * D;
        for (size_t d = 0; d < D; d++)
            to[d * panel] = j < s->columns ? from[d] : 0;
    }
}

STATIC_KERNEL(float, max_penalised, (const float *restrict x, const float *restrict penalty, size_t n, float max),
              (x, penalty, n, max))
{
    float maxima[LANES];
    for (size_t lane = 0; lane < LANES; lane++)
        maxima[lane] = max;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) {
            float v = x[i + lane] + penalty[i + lane];
            maxima[lane] = v > maxima[lane] ? v : maxima[lane];
        }
    for (size_t lane = 0; i + lane < n; lane++) {
        float v = x[i + lane] + penalty[i + lane];
        maxima[lane] = v > maxima[lane] ? v : maxima[lane];
    }
    for (size_t lane = 0; lane < LANES; lane++)
        max = maxima[lane] > max ? maxima[lane] : max;
    return max;
}

/* Row i meets the first n columns of the chunk, whose largest cosine is max. */
static void meet_representatives(struct survey *s, size_t i, const float *cosines, size_t n, float max)
{
    for (size_t k = 0; k < s->o->n; k++) {
        float *best = &s->best[k * s->o->K + i];
        if (max > *best)
            *best = max_penalised(cosines, s->penalties + k * COLUMNS, n, *best);
    }
}

/* Columns at once: each of the n earlier rows meets row i. */
STATIC_KERNEL(void, meet_column,
              (const float *restrict cosines_of_i, uint32_t i, size_t n, float *restrict cosine,
               uint32_t *restrict nearest),
              (cosines_of_i, i, n, cosine, nearest))
{
    for (size_t j = 0; j < n; j++) {
        bool closer = cosines_of_i[j] > cosine[j];
        cosine[j] = closer ? cosines_of_i[j] : cosine[j];
        nearest[j] = closer ? i : nearest[j];
    }
}

/* Row i and the n rows from `first` on, all before it, meet; among equals the smallest index stays. */
static void meet_neighbours(const struct cosine_survey *o, size_t i, const float *cosines, size_t first, size_t n,
                            float max)
{
    if (max > o->cosine[i]) {
        size_t j = 0;
        while (cosines[j] != max)
            j++;
        o->cosine[i] = max;
        o->nearest[i] = (uint32_t)(first + j);
    }
    meet_column(cosines, (uint32_t)i, n, o->cosine + first, o->nearest + first);
}

/* Row i meets the first n columns of the chunk. */
static void meet_row(struct survey *s, size_t i, const float *cosines, size_t n)
{
    if (n == 0)
        return;
    float max = vec_max(cosines, n);
    meet_representatives(s, i, cosines, n, max);
    if (s->o->nearest)
        meet_neighbours(s->o, i, cosines, s->index[0], n, max);
}

/* Row i, which has met all before it, joins or represents; column c of the chunk is to say so. */
static void settle_row(struct survey *s, size_t i, size_t c)
{
    for (size_t k = 0; k < s->o->n; k++) {
        bool represents = !(1.0 - (double)s->best[k * s->o->K + i] < s->o->eps[k]);
        s->o->counts[k] += represents;
        s->penalties[k * COLUMNS + c] = represents ? 0 : PENALTY;
    }
}

/* The chunk's own rows, in order: each meets those of the chunk before it, and settles. */
static void settle_chunk(struct survey *s, size_t first, size_t n)
{
    for (size_t r = 0; r < n; r += ROWS) {
        size_t rows = at_most(n - r, ROWS);
        s->tiling.cosines(s->o->x + (first + r) * s->o->D, rows, s->o->D, s->panels, at_most(r + rows, n), s->tile);
        for (size_t i = 0; i < rows; i++) {
            meet_row(s, first + r + i, s->tile + i * COLUMNS, r + i);
            settle_row(s, first + r + i, r + i);
        }
    }
}

/* Without neighbours to find, columns that represent for no eps are of no use to later rows. */
static void keep_representatives(struct survey *s)
{
    size_t kept = 0;
    for (size_t c = 0; c < s->columns; c++) {
        bool any = false;
        for (size_t k = 0; k < s->o->n; k++)
            any = any || s->penalties[k * COLUMNS + c] == 0;
        for (size_t k = 0; any && k < s->o->n; k++)
            s->penalties[k * COLUMNS + kept] = s->penalties[k * COLUMNS + c];
        s->index[kept] = s->index[c];
        kept += any;
    }
    if (kept == s->columns)
        return;
    s->columns = kept;
    pack(s);
}

/* All rows from `from` on meet the chunk. */
static void meet_chunk(struct survey *s, size_t from)
{
    for (size_t r = from; r < s->o->K && s->columns > 0; r += ROWS) {
        size_t rows = at_most(s->o->K - r, ROWS);
        s->tiling.cosines(s->o->x + r * s->o->D, rows, s->o->D, s->panels, s->columns, s->tile);
        for (size_t i = 0; i < rows; i++)
            meet_row(s, r + i, s->tile + i * COLUMNS, s->columns);
    }
}

static void begin(const struct survey *s)
{
    const struct cosine_survey *o = s->o;
    for (size_t k = 0; k < o->n; k++)
        o->counts[k] = 0;
    for (size_t i = 0; i < o->n * o->K; i++)
        s->best[i] = PENALTY;
    for (size_t i = 0; o->nearest && i < o->K; i++) {
        o->cosine[i] = PENALTY;
        o->nearest[i] = i == 0;
    }
}

int cosine_survey(const struct cosine_survey *o)
{
    struct survey s;
    ASSERT(o->D > 0 && o->K <= UINT32_MAX && (o->nearest == NULL || o->K >= 2));
    if (survey_init(&s, o) != 0)
        return ERR_MEMORY;
    begin(&s);
    bool stopped = false;
    for (size_t first = 0; first < o->K && !stopped; first += COLUMNS) {
        s.columns = at_most(o->K - first, COLUMNS);
        for (size_t c = 0; c < s.columns; c++)
            s.index[c] = (uint32_t)(first + c);
        pack(&s);
        settle_chunk(&s, first, s.columns);
        if (o->nearest == NULL)
            keep_representatives(&s);
        meet_chunk(&s, first + at_most(o->K - first, COLUMNS));
        stopped = o->stop && o->stop(o->stop_arg);
    }
    survey_fini(&s);
    return stopped ? ERR_CLOSED : 0;
}

int cosine_cover(const float *x, size_t K, size_t D, const double *eps, size_t n, uint32_t *counts)
{
    const struct cosine_survey o = {.x = x, .K = K, .D = D, .eps = eps, .n = n, .counts = counts};
    return cosine_survey(&o);
}

int cosine_nearest(const float *x, size_t K, size_t D, uint32_t *nearest, float *cosine)
{
    const struct cosine_survey o = {.x = x, .K = K, .D = D, .nearest = nearest, .cosine = cosine};
    return cosine_survey(&o);
}
