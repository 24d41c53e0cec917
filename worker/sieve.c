/* Bounds are looked at 32 at a time: while a tile's are in cache each span's largest is noted, and later only the spans
 * that reach a threshold are looked into. */
#include "worker/sieve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/nn/tiles.h"

enum {
    SPAN = 32,
    COMPONENTS_MIN = 8192, /* arbitrary: below, the exact product is soon done */
    WIDTH_MAX = 2048,      /* for which SUMS is enough */
};
static const float ROUNDINGS = 0x1p-7f + 0x1p-12f, SUMS = 0x1p-12f, TINY = 1e-3f;

struct sieve {
    uint32_t rows, K, width, D, spans;
    size_t tile_size;
    float *operand;   /* tiles, packed in bf16, tile_size apart */
    float *error;     /* (K) e_k, */
    float *row_error; /* (K) and the part of it that does not depend on the bias */
    float *bias;      /* (SIEVE_TILE) */
    float *largest;   /* (rows,spans) bound of each span */
    const float *bounds;
    const uint32_t *at; /* where a row of bounds starts */
    uint32_t *picked;   /* (spans) bits */
};

bool sieve_pays(uint32_t K, uint32_t width)
{
    return K >= COMPONENTS_MIN && width > 0 && width <= WIDTH_MAX && kernels_chosen() == KERNELS_AMX &&
           kernels_multiply_bf16(KERNELS_AMX);
}

static void *words(size_t n)
{
    void *p = NULL;
    return posix_memalign(&p, 64, n * sizeof(float)) == 0 ? p : NULL;
}

int sieve_new(uint32_t rows, uint32_t K, uint32_t width, uint32_t D, struct sieve **out)
{
    size_t tiles = (K + SIEVE_TILE - 1u) / SIEVE_TILE, tile = K < SIEVE_TILE ? K : SIEVE_TILE;
    struct sieve *s = *out = calloc(1, sizeof *s);
    ASSERT(rows > 0 && K > 0 && (width == D || width == 2 * D));
    if (s == NULL)
        return ERR_MEMORY;
    *s = (struct sieve){.rows = rows, .K = K, .width = width, .D = D, .spans = (K + SPAN - 1) / SPAN};
    s->tile_size = tile_packed_size_in(PRECISION_BF16, width, tile);
    s->operand = words(tiles * s->tile_size);
    s->error = words(K);
    s->row_error = words(K);
    s->bias = words(SIEVE_TILE);
    s->largest = words((size_t)rows * s->spans);
    s->picked = calloc(s->spans, sizeof *s->picked);
    if (s->operand && s->error && s->row_error && s->bias && s->largest && s->picked)
        return 0;
    sieve_free(out);
    return ERR_MEMORY;
}

void sieve_free(struct sieve **s)
{
    if (*s == NULL)
        return;
    free((*s)->operand);
    free((*s)->error);
    free((*s)->row_error);
    free((*s)->bias);
    free((*s)->largest);
    free((*s)->picked);
    free(*s);
    *s = NULL;
}

static float *tile_of(const struct sieve *s, size_t k)
{
    return s->operand + k / SIEVE_TILE * s->tile_size;
}

static size_t tile_components(const struct sieve *s, size_t k)
{
    size_t first = k / SIEVE_TILE * SIEVE_TILE;
    return s->K - first < SIEVE_TILE ? s->K - first : SIEVE_TILE;
}

STATIC_KERNEL(float, largest_magnitude, (const float *x, size_t n), (x, n))
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static float error_of_row(const struct sieve *s, const float *row)
{
    size_t D = s->D;
    float magnitude = s->width == D ? 0 : largest_magnitude(row, D);
    double norm = sqrt(vec_sum_squares(row + s->width - D, D));
    return ROUNDINGS * (magnitude + (float)norm);
}

void sieve_set_tile(struct sieve *s, size_t k, size_t n, const float *rows)
{
    struct pack p = {.K = s->width,
                     .columns = n,
                     .n = s->width,
                     .row_stride = 1,
                     .column_stride = s->width,
                     .precision = PRECISION_BF16};
    ASSERT(k % SIEVE_TILE == 0 && n == tile_components(s, k));
    tile_pack(&p, rows, tile_of(s, k));
    for (size_t i = 0; i < n; i++)
        s->row_error[k + i] = error_of_row(s, rows + i * s->width);
}

void sieve_set_row(struct sieve *s, size_t k, const float *row)
{
    tile_pack_column_in(PRECISION_BF16, s->width, tile_components(s, k), k % SIEVE_TILE, row, tile_of(s, k));
    s->row_error[k] = error_of_row(s, row);
}

void sieve_set_biases(struct sieve *s, size_t k, size_t n, const float *bias)
{
    for (size_t i = 0; i < n; i++) {
        s->error[k + i] = s->row_error[k + i] + SUMS * fabsf(bias[i]) + TINY;
        s->bias[i] = bias[i] + s->error[k + i];
    }
    tile_pack_bias_in(PRECISION_BF16, s->width, n, s->bias, tile_of(s, k));
}

/* The largest of each whole span of x (n), then that of the rest. */
STATIC_KERNEL(void, span_maxima, (const float *restrict x, size_t n, float *restrict out), (x, n, out))
{
    size_t k = 0;
    for (; k + SPAN <= n; k += SPAN) {
        float most[SPAN];
        memcpy(most, x + k, sizeof most);
        for (size_t half = SPAN / 2; half > 0; half /= 2)
            for (size_t lane = 0; lane < half; lane++)
                most[lane] = most[half + lane] > most[lane] ? most[half + lane] : most[lane];
        out[k / SPAN] = most[0];
    }
    for (size_t i = k; i < n; i++)
        out[k / SPAN] = i == k || x[i] > out[k / SPAN] ? x[i] : out[k / SPAN];
}

void sieve_bound(struct sieve *s, const float *x, uint32_t *in, uint32_t n, float *c, uint32_t *out)
{
    struct gather g = {
        .runs = 1, .run = s->width, .stride = s->width, .in = in, .out = out, .precision = PRECISION_BF16};
    ASSERT(n <= s->rows);
    s->bounds = c;
    s->at = out;
    for (size_t k = 0; k < s->K; k += SIEVE_TILE) {
        size_t components = tile_components(s, k);
        g.columns = (uint32_t)components;
        gather_product(&g, n, x, tile_of(s, k), c + k);
        for (uint32_t i = 0; i < n; i++)
            span_maxima(c + out[i] + k, components, s->largest + (size_t)i * s->spans + k / SPAN);
    }
}

uint32_t sieve_best(const struct sieve *s, uint32_t i)
{
    const float *largest = s->largest + (size_t)i * s->spans, *bounds = s->bounds + s->at[i];
    uint32_t span = 0;
    for (uint32_t j = 1; j < s->spans; j++)
        span = largest[j] > largest[span] ? j : span;
    for (uint32_t k = span * SPAN; k < s->K && k < (span + 1) * SPAN; k++)
        if (bounds[k] == largest[span])
            return k;
    return span * SPAN; /* where they are no numbers */
}

float sieve_error(const struct sieve *s, uint32_t k)
{
    return s->error[k];
}

void sieve_pick(struct sieve *s, uint32_t i, float threshold)
{
    const float *largest = s->largest + (size_t)i * s->spans, *bounds = s->bounds + s->at[i];
    for (uint32_t span = 0; span < s->spans; span++)
        for (uint32_t k = span * SPAN; largest[span] >= threshold && k < s->K && k < (span + 1) * SPAN; k++)
            if (bounds[k] >= threshold)
                s->picked[span] |= 1u << k % SPAN;
}

uint32_t sieve_take(struct sieve *s, uint32_t max, uint32_t *index)
{
    uint32_t count = 0;
    for (uint32_t span = 0; span < s->spans; span++) {
        for (uint32_t bits = s->picked[span]; bits != 0; bits &= bits - 1, count++)
            if (count < max)
                index[count] = span * SPAN + (uint32_t)__builtin_ctz(bits);
        s->picked[span] = 0;
    }
    return count;
}
