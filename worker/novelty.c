/* Prototypes pass by in chunks, whose cosines to all rows are reduced while they are in cache. */
#include "worker/novelty.h"

#include <math.h>
#include <stdbool.h>
#include "common/error.h"
#include "common/kernels.h"
#include "worker/nn/tiles.h"
#include "worker/sieve.h"
#include "worker/words.h"

enum {
    SIEVED_MIN = 8192, /* prototypes, arbitrary: below, the exact product is soon done */
    CHUNK = 256,       /* prototypes that meet the rows at a time: a quarter of a megabyte at D = 256 */
    SPAN = 32,         /* of which the largest rounded cosine is kept */
    AGAIN_SHARE = 8,   /* when more than one span in so many would be multiplied again, all are, at once */
};
static const float ERROR = 0x1p-7f + 0x1p-11f;

struct novelty {
    uint32_t rows_max, K, D, spans;
    bool sieves;
    float *operand; /* the rows, transposed and packed; or one of them, the rest of its vector zeros */
    float *rounded; /* in bf16 */
    float *cosines; /* (CHUNK,rows_max) */
    float *largest; /* (spans,rows_max) rounded cosine of each span; nothing when it does not sieve */
    uint32_t *prototype_at, *cosine_at, *one_at; /* (CHUNK) where a prototype starts, its cosines, the only one */
};

static void fill_starts(struct novelty *s)
{
    for (uint32_t k = 0; k < CHUNK; k++) {
        s->prototype_at[k] = k * s->D;
        s->cosine_at[k] = k * s->rows_max;
        s->one_at[k] = k;
    }
}

int novelty_new(uint32_t rows_max, uint32_t K, uint32_t D, struct novelty **out)
{
    struct novelty *s = *out = calloc(1, sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    *s = (struct novelty){.rows_max = rows_max, .K = K, .D = D, .spans = (K + SPAN - 1) / SPAN};
    s->sieves = K >= SIEVED_MIN && sieve_pays(K, D);
    s->operand = words(tile_packed_size(D, rows_max));
    s->rounded = words(s->sieves ? tile_packed_size_in(PRECISION_BF16, D, rows_max) : 0);
    s->cosines = words((size_t)CHUNK * rows_max);
    s->largest = words(s->sieves ? (size_t)s->spans * rows_max : 0);
    s->prototype_at = words(CHUNK);
    s->cosine_at = words(CHUNK);
    s->one_at = words(CHUNK);
    if (!s->operand || !s->rounded || !s->cosines || !s->largest || !s->prototype_at || !s->cosine_at || !s->one_at) {
        novelty_free(out);
        return ERR_MEMORY;
    }
    fill_starts(s);
    return 0;
}

void novelty_free(struct novelty **s)
{
    if (*s == NULL)
        return;
    free((*s)->operand);
    free((*s)->rounded);
    free((*s)->cosines);
    free((*s)->largest);
    free((*s)->prototype_at);
    free((*s)->cosine_at);
    free((*s)->one_at);
    free(*s);
    *s = NULL;
}

/* packed = the n rows of x, transposed. */
static void pack(const struct novelty *s, const float *x, uint32_t n, enum encoder_precision precision, float *packed)
{
    struct pack p = {
        .K = s->D, .columns = n, .n = s->D, .row_stride = 1, .column_stride = s->D, .precision = precision};
    tile_pack(&p, x, packed);
    tile_pack_bias_in(precision, s->D, n, NULL, packed);
}

/* Cosines of `prototypes` of them to what is packed. */
static void multiply(const struct novelty *s, const float *c, uint32_t prototypes, uint32_t n,
                     enum encoder_precision precision, const float *packed)
{
    struct gather g = {.runs = 1,
                       .run = s->D,
                       .stride = s->D,
                       .columns = n,
                       .in = s->prototype_at,
                       .out = n == 1 ? s->one_at : s->cosine_at,
                       .precision = precision};
    gather_product(&g, prototypes, c, packed, s->cosines);
}

/* nearest (n) = max(nearest, cosines of each of `prototypes`), whose rows are `stride` apart. */
STATIC_KERNEL(void, keep_nearest,
              (const float *restrict cosines, size_t prototypes, size_t stride, size_t n, float *restrict nearest),
              (cosines, prototypes, stride, n, nearest))
{
    for (size_t k = 0; k < prototypes; k++)
        for (size_t i = 0; i < n; i++) {
            float cosine = cosines[k * stride + i];
            nearest[i] = cosine > nearest[i] ? cosine : nearest[i];
        }
}

static void start(float *nearest, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        nearest[i] = -INFINITY;
}

static void search_all(struct novelty *s, const float *x, uint32_t n, const float *c, float *nearest)
{
    start(nearest, n);
    pack(s, x, n, PRECISION_FLOAT32, s->operand);
    for (uint32_t k = 0; k < s->K; k += CHUNK) {
        uint32_t prototypes = s->K - k < CHUNK ? s->K - k : CHUNK;
        multiply(s, c + (size_t)k * s->D, prototypes, n, PRECISION_FLOAT32, s->operand);
        keep_nearest(s->cosines, prototypes, n == 1 ? 1 : s->rows_max, n, nearest);
    }
}

/* Rounded: nearest, and each span's part of it in s->largest. */
static void search_rounded(struct novelty *s, const float *x, uint32_t n, const float *c, float *nearest)
{
    start(nearest, n);
    pack(s, x, n, PRECISION_BF16, s->rounded);
    for (uint32_t k = 0; k < s->K; k += CHUNK) {
        uint32_t prototypes = s->K - k < CHUNK ? s->K - k : CHUNK, stride = n == 1 ? 1 : s->rows_max;
        multiply(s, c + (size_t)k * s->D, prototypes, n, PRECISION_BF16, s->rounded);
        for (uint32_t j = 0; j < prototypes; j += SPAN) {
            float *largest = s->largest + (size_t)(k + j) / SPAN * s->rows_max;
            start(largest, n);
            keep_nearest(s->cosines + (size_t)j * stride, prototypes - j < SPAN ? prototypes - j : SPAN, stride, n,
                         largest);
            keep_nearest(largest, 1, 0, n, nearest);
        }
    }
}

/* Whether a span may hold the largest cosine of row i, whose rounded one is `largest`; not when that settles it. NaN
 * does not. */
static bool is_wanted(const struct novelty *s, uint32_t span, uint32_t i, float largest, float near)
{
    return !(largest - ERROR > near) && s->largest[(size_t)span * s->rows_max + i] >= largest - 2 * ERROR;
}

static uint64_t wanted_spans(const struct novelty *s, uint32_t n, const float *nearest, float near)
{
    uint64_t wanted = 0;
    for (uint32_t span = 0; span < s->spans; span++)
        for (uint32_t i = 0; i < n; i++)
            wanted += is_wanted(s, span, i, nearest[i], near);
    return wanted;
}

/* The exact largest cosine of row i, from the spans that may hold it. */
static float settle(struct novelty *s, const float *x, uint32_t i, const float *c, float rounded, float near)
{
    float nearest = -INFINITY;
    pack(s, x, 1, PRECISION_FLOAT32, s->operand);
    for (uint32_t span = 0; span < s->spans; span++) {
        uint32_t k = span * SPAN, prototypes = s->K - k < SPAN ? s->K - k : SPAN;
        if (!is_wanted(s, span, i, rounded, near))
            continue;
        multiply(s, c + (size_t)k * s->D, prototypes, 1, PRECISION_FLOAT32, s->operand);
        keep_nearest(s->cosines, prototypes, 1, 1, &nearest);
    }
    return nearest;
}

void novelty_search(struct novelty *s, const float *x, uint32_t n, const float *c, float near, float *nearest)
{
    ASSERT(n <= s->rows_max);
    if (s->sieves) {
        search_rounded(s, x, n, c, nearest);
        if (wanted_spans(s, n, nearest, near) * AGAIN_SHARE <= (uint64_t)n * s->spans) {
            for (uint32_t i = 0; i < n; i++)
                if (!(nearest[i] - ERROR > near))
                    nearest[i] = settle(s, x + (size_t)i * s->D, i, c, nearest[i], near);
            return;
        }
    }
    search_all(s, x, n, c, nearest);
}
