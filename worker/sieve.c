/* While a tile's bounds are in cache the largest of each row is noted, and later only the tiles that reach a
 * threshold are looked into. */
#include "worker/sieve.h"

#include <math.h>
#include <string.h>
#include "common/error.h"
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/nn/tiles.h"
#include "worker/words.h"
#if KERNELS_X86
#include <immintrin.h>
#endif

enum {
    COMPONENTS_MIN = 128, /* below, and with less work than this, */
    WORK_MIN = 1 << 15,   /* K * width, the exact product is soon done */
    WIDTH_MAX = 2048,     /* for which SUMS is enough */
};
static const float ROUNDINGS = 0x1p-7f + 0x1p-12f, SUMS = 0x1p-12f, TINY = 1e-3f;

struct largest {
    float bound;
    uint32_t component;
};

struct sieve {
    uint32_t rows, K, width, D, tiles;
    size_t tile_size;
    float *operand;          /* tiles, packed in bf16, tile_size apart */
    float *error;            /* (K) e_k, */
    float *row_error;        /* (K) and the part of it that does not depend on the bias */
    float *bias;             /* (SIEVE_TILE) */
    struct largest *largest; /* (rows,tiles) bound in each tile */
    const float *bounds;
    const uint32_t *at; /* where a row of bounds starts */
};

bool sieve_pays(uint32_t K, uint32_t width)
{
    return K >= COMPONENTS_MIN && (uint64_t)K * width >= WORK_MIN && width > 0 && width <= WIDTH_MAX &&
           kernels_chosen() == KERNELS_AMX && kernels_multiply_bf16(KERNELS_AMX);
}

int sieve_new(uint32_t rows, uint32_t K, uint32_t width, uint32_t D, struct sieve **out)
{
    size_t tiles = (K + SIEVE_TILE - 1u) / SIEVE_TILE, tile = K < SIEVE_TILE ? K : SIEVE_TILE;
    struct sieve *s = *out = calloc(1, sizeof *s);
    ASSERT(rows > 0 && K > 0 && (width == D || width == 2 * D));
    if (s == NULL)
        return ERR_MEMORY;
    *s = (struct sieve){.rows = rows, .K = K, .width = width, .D = D, .tiles = (uint32_t)tiles};
    s->tile_size = tile_packed_size_in(PRECISION_BF16, width, tile);
    s->operand = words(tiles * s->tile_size);
    s->error = words(K);
    s->row_error = words(K);
    s->bias = words(SIEVE_TILE);
    s->largest = calloc((size_t)rows * tiles, sizeof *s->largest);
    if (s->operand && s->error && s->row_error && s->bias && s->largest)
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

#if KERNELS_X86

/* Which lanes of a vector belong to the last n of a row. */
KERNELS_TARGET_AVX512 static inline __mmask16 lanes_of(uint32_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu);
}

/* The larger of each lane, and where it is. */
KERNELS_TARGET_AVX512 static inline void keep_larger(__m512 *most, __m512i *at, __m512 v, __m512i from)
{
    __mmask16 more = _mm512_cmp_ps_mask(v, *most, _CMP_GT_OQ);
    *most = _mm512_mask_mov_ps(*most, more, v);
    *at = _mm512_mask_mov_epi32(*at, more, from);
}

/* Which of x (n) is the largest, any one of equals, and its value. Where there are no numbers: one of them. Four at a
 * time, since each waits for the one before. */
KERNELS_TARGET_AVX512 static struct largest largest_of(const float *x, uint32_t n)
{
    const __m512i counted = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 most[4] = {none, none, none, none};
    __m512i at[4] = {counted, counted, counted, counted};
    uint32_t k = 0;
    for (; k + 64 <= n; k += 64)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            keep_larger(most + j, at + j, _mm512_loadu_ps(x + k + 16 * j),
                        _mm512_add_epi32(counted, _mm512_set1_epi32((int)(k + 16 * j))));
    for (; k < n; k += 16)
        keep_larger(most, at, _mm512_mask_loadu_ps(none, lanes_of(n - k), x + k),
                    _mm512_add_epi32(counted, _mm512_set1_epi32((int)k)));
    keep_larger(most, at, most[1], at[1]);
    keep_larger(most + 2, at + 2, most[3], at[3]);
    keep_larger(most, at, most[2], at[2]);
    float bound = _mm512_reduce_max_ps(most[0]);
    __mmask16 equal = _mm512_cmp_ps_mask(most[0], _mm512_set1_ps(bound), _CMP_EQ_OQ);
    return (struct largest){
        bound, (uint32_t)_mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_maskz_compress_epi32(equal, at[0])))};
}

/* Bit j tells whether x[j] is not below limit, of n <= 64. */
KERNELS_TARGET_AVX512 static inline uint64_t reaching(const float *x, uint32_t n, __m512 limit)
{
    uint64_t mask = 0;
    if (n < 64) {
        for (uint32_t j = 0; j < n; j += 16)
            mask |= (uint64_t)_mm512_mask_cmp_ps_mask(lanes_of(n - j), _mm512_maskz_loadu_ps(lanes_of(n - j), x + j),
                                                      limit, _CMP_NLT_UQ)
                    << j;
        return mask;
    }
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 64; j += 16)
        mask |= (uint64_t)_mm512_cmp_ps_mask(_mm512_loadu_ps(x + j), limit, _CMP_NLT_UQ) << j;
    return mask;
}

/* Where the lowest bit of mask is; anything where there is none. */
static inline uint32_t lowest(uint64_t mask)
{
    return (uint32_t)__builtin_ctzll(mask | 1ull << 63);
}

/* The bits of 64 components, listed; writes up to two numbers more. Mostly there are none, one or two, which are
 * written without a branch, since one that is now taken and now not costs as much as all the rest. */
static inline uint32_t list_bits(uint64_t mask, uint32_t first, uint32_t *index)
{
    uint64_t rest = mask & (mask - 1);
    uint32_t count = (uint32_t)__builtin_popcountll(mask);
    index[0] = first + lowest(mask);
    index[1] = first + lowest(rest);
    if (count > 2)
        for (uint32_t j = 2; j < count; j++)
            index[j] = first + lowest(rest &= rest - 1);
    return count;
}

/* Lists first + j for all j < n <= SIEVE_TILE with x[j] not below limit, if they are no more than max. Returns how
 * many they are. */
KERNELS_TARGET_AVX512 static uint32_t list_reaching(const float *x, uint32_t n, float limit, uint32_t max,
                                                    uint32_t first, uint32_t *index)
{
    const __m512 least = _mm512_set1_ps(limit);
    uint64_t masks[SIEVE_TILE / 64];
    uint32_t found = 0, count = 0;
    for (uint32_t k = 0; k < n; k += 64) {
        masks[k / 64] = reaching(x + k, n - k, least);
        found += (uint32_t)__builtin_popcountll(masks[k / 64]);
    }
    for (uint32_t k = 0; k < n && found <= max; k += 64)
        count += list_bits(masks[k / 64], first + k, index + count);
    return found;
}

#else

static struct largest largest_of(const float *x, uint32_t n)
{
    struct largest found = {x[0], 0};
    for (uint32_t k = 1; k < n; k++)
        if (x[k] > found.bound)
            found = (struct largest){x[k], k};
    return found;
}

static uint32_t list_reaching(const float *x, uint32_t n, float limit, uint32_t max, uint32_t first, uint32_t *index)
{
    uint32_t found = 0;
    for (uint32_t k = 0; k < n; k++)
        if (!(x[k] < limit) && found++ < max)
            index[found - 1] = first + k;
    return found;
}

#endif

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
        for (uint32_t i = 0; i < n; i++) {
            struct largest found = largest_of(c + out[i] + k, (uint32_t)components);
            found.component += (uint32_t)k;
            s->largest[(size_t)i * s->tiles + k / SIEVE_TILE] = found;
        }
    }
}

static struct largest largest_in_row(const struct sieve *s, uint32_t i)
{
    const struct largest *largest = s->largest + (size_t)i * s->tiles;
    uint32_t tile = 0;
    for (uint32_t j = 1; j < s->tiles; j++)
        tile = largest[j].bound > largest[tile].bound ? j : tile;
    return largest[tile];
}

uint32_t sieve_best(const struct sieve *s, uint32_t i)
{
    return largest_in_row(s, i).component;
}

float sieve_largest(const struct sieve *s, uint32_t i)
{
    return largest_in_row(s, i).bound;
}

float sieve_error(const struct sieve *s, uint32_t k)
{
    return s->error[k];
}

uint32_t sieve_list(struct sieve *s, uint32_t i, float threshold, uint32_t max, uint32_t *index)
{
    const struct largest *largest = s->largest + (size_t)i * s->tiles;
    const float *bounds = s->bounds + s->at[i];
    uint32_t count = 0;
    for (uint32_t tile = 0; tile < s->tiles && count <= max; tile++) {
        uint32_t k = tile * SIEVE_TILE;
        if (largest[tile].bound < threshold)
            continue;
        count += list_reaching(bounds + k, (uint32_t)tile_components(s, k), threshold, max - count, k, index + count);
    }
    return count;
}
