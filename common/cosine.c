/* Cosines come in tiles of one GEMM each (ROWS x COLUMNS floats, half a megabyte, which stays in the second-level
 * cache) and are reduced while they are there; the K x K matrix never exists. */
#include "common/cosine.h"

#include <cblas.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "common/kernels.h"
#include "common/vecmath.h"

enum { ROWS = 128, COLUMNS = 1024, LANES = 32 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* tile (m,n; row stride COLUMNS) = a (m,D) times b (n,D) transposed */
static void cosines(const float *a, size_t m, const float *b, size_t n, size_t D, float *tile)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)D, 1, a, (int)D, b, (int)D, 0, tile,
                COLUMNS);
}

/* The cover of every eps is found in one pass. A row that represents for any eps is kept in `rows`; for the eps that it
 * does not represent, a penalty pushes its cosine under every other, so that one branch-free maximum per eps tells
 * whether a later row joins. */
struct cover {
    size_t D, eps_count, size, capacity; /* size: rows kept */
    const double *eps;
    float *rows;      /* (capacity,D) */
    float *penalties; /* (eps_count,capacity): 0 where the row represents, else PENALTY */
    float *best;      /* (eps_count,ROWS): largest cosine of a row of the tile to a representative */
    float *tile;      /* (ROWS,COLUMNS) */
    uint32_t *counts; /* (eps_count) */
};

static const float PENALTY = -4.0f; /* cosines lie within 1 of zero */

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

static void cover_fini(struct cover *c)
{
    free(c->rows);
    free(c->penalties);
    free(c->best);
    free(c->tile);
}

static int cover_init(struct cover *c, size_t K, size_t D, const double *eps, size_t n, uint32_t *counts)
{
    *c = (struct cover){.D = D, .eps_count = n, .capacity = K, .eps = eps, .counts = counts};
    size_t cells;
    if (__builtin_mul_overflow(K, D, &cells))
        return ERR_MEMORY;
    c->rows = calloc(cells, sizeof *c->rows);
    c->penalties = calloc(K, n * sizeof *c->penalties);
    c->best = calloc(n, ROWS * sizeof *c->best);
    c->tile = calloc(ROWS, COLUMNS * sizeof *c->tile);
    if (c->rows != NULL && c->penalties != NULL && c->best != NULL && c->tile != NULL)
        return 0;
    cover_fini(c);
    return ERR_MEMORY;
}

/* best = the m rows at x against all representatives of earlier tiles */
static void meet_earlier(struct cover *c, const float *x, size_t m)
{
    for (size_t i = 0; i < c->eps_count * ROWS; i++)
        c->best[i] = PENALTY;
    for (size_t first = 0; first < c->size; first += COLUMNS) {
        size_t n = smaller(COLUMNS, c->size - first);
        cosines(x, m, c->rows + first * c->D, n, c->D, c->tile);
        for (size_t k = 0; k < c->eps_count; k++)
            for (size_t i = 0; i < m; i++) {
                float *best = &c->best[k * ROWS + i];
                *best = max_penalised(c->tile + i * COLUMNS, c->penalties + k * c->capacity + first, n, *best);
            }
    }
}

/* Keeps row x if it joins nobody for some eps; represents (eps_count) tells for which. */
static void settle_row(struct cover *c, const float *x, size_t i, bool *represents)
{
    bool any = false;
    for (size_t k = 0; k < c->eps_count; k++) {
        represents[k] = !(1.0 - (double)c->best[k * ROWS + i] < c->eps[k]);
        any = any || represents[k];
        c->counts[k] += represents[k];
    }
    if (!any)
        return;
    memcpy(c->rows + c->size * c->D, x, c->D * sizeof *x);
    for (size_t k = 0; k < c->eps_count; k++)
        c->penalties[k * c->capacity + c->size] = represents[k] ? 0 : PENALTY;
    c->size++;
}

/* Rows of one tile in index order: each settles, then the later ones meet it. */
static void settle_tile(struct cover *c, const float *x, size_t m, bool *represents)
{
    cosines(x, m, x, m, c->D, c->tile);
    for (size_t i = 0; i < m; i++) {
        settle_row(c, x + i * c->D, i, represents);
        for (size_t k = 0; k < c->eps_count; k++)
            for (size_t j = i + 1; represents[k] && j < m; j++) {
                float cosine = c->tile[j * COLUMNS + i], *best = &c->best[k * ROWS + j];
                *best = cosine > *best ? cosine : *best;
            }
    }
}

int cosine_cover(const float *x, size_t K, size_t D, const double *eps, size_t n, uint32_t *counts)
{
    ASSERT(D > 0 && D <= INT_MAX && K <= UINT32_MAX);
    for (size_t k = 0; k < n; k++)
        counts[k] = 0;
    if (K == 0 || n == 0)
        return 0;
    struct cover c;
    bool *represents = calloc(n, sizeof *represents);
    if (represents == NULL || cover_init(&c, K, D, eps, n, counts) != 0) {
        free(represents);
        return ERR_MEMORY;
    }
    for (size_t first = 0; first < K; first += ROWS) {
        size_t m = smaller(ROWS, K - first);
        meet_earlier(&c, x + first * D, m);
        settle_tile(&c, x + first * D, m, represents);
    }
    cover_fini(&c);
    free(represents);
    return 0;
}

/* Columns at once: each of the n later rows meets row i. */
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

/* Row i meets the n rows from `first` on; among equals the smallest index stays. */
static void meet_row(const float *cosines_of_i, size_t first, size_t n, float *cosine, uint32_t *nearest)
{
    float max = vec_max(cosines_of_i, n);
    if (!(max > *cosine))
        return;
    size_t j = 0;
    while (cosines_of_i[j] != max)
        j++;
    *cosine = max;
    *nearest = (uint32_t)(first + j);
}

/* Rows [first, first+m) against [from, from+n), n columns that begin at or after the rows. */
static void nearest_tile(float *tile, size_t first, size_t m, size_t from, size_t n, uint32_t *nearest, float *cosine)
{
    for (size_t i = first; i < first + m; i++) {
        float *row = tile + (i - first) * COLUMNS;
        size_t past = i >= from ? smaller(i + 1 - from, n) : 0; /* itself, and pairs that have met */
        if (past == n)
            continue;
        meet_row(row + past, from + past, n - past, &cosine[i], &nearest[i]);
        meet_column(row + past, (uint32_t)i, n - past, cosine + from + past, nearest + from + past);
    }
}

int cosine_nearest(const float *x, size_t K, size_t D, uint32_t *nearest, float *cosine)
{
    ASSERT(K >= 2 && K <= UINT32_MAX && D > 0 && D <= INT_MAX);
    float *tile = calloc(ROWS, COLUMNS * sizeof *tile);
    if (tile == NULL)
        return ERR_MEMORY;
    for (size_t i = 0; i < K; i++) {
        cosine[i] = PENALTY;
        nearest[i] = i == 0;
    }
    for (size_t first = 0; first < K; first += ROWS) {
        size_t m = smaller(ROWS, K - first);
        for (size_t from = first; from < K; from += COLUMNS) {
            size_t n = smaller(COLUMNS, K - from);
            cosines(x + first * D, m, x + from * D, n, D, tile);
            nearest_tile(tile, first, m, from, n, nearest, cosine);
        }
    }
    free(tile);
    return 0;
}
