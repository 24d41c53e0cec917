/* Sums of EM statistics: of one slot from its responsibilities, and of two neighbours in slot order.
 *
 * The responsibilities come by embedding (CSR) and are turned by component (CSC) first: then the two sums of a
 * component stay in registers while its embeddings stream by, and only touched rows are ever written. Within a
 * component the additions run in ascending i whatever the block size, so the result is one particular float, and
 * because products and sums are never fused into one rounding it is the same float on every CPU. */
#include "proto/stats.h"

#include <stdlib.h>
#include <string.h>
#include "common/kernels.h"
#include "common/vecmath.h"
#include "proto/covariance.h"
#include "proto/stats_wire.h"
#if KERNELS_X86
#include <immintrin.h>
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

/* Eight floats; an AVX register, or two of SSE. Written out because compilers leave arrays of sums in memory. */
typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
enum { LANES = 8, BLOCK = 4 * LANES }; /* floats of s1 and of s2 in registers at once */

struct entry { /* one embedding of a component's column */
    uint32_t row;
    float gamma;
};

void stats_rows_init(struct stats_rows *s)
{
    *s = (struct stats_rows){0};
}

void stats_rows_fini(struct stats_rows *s)
{
    free(s->index);
    free(s->n);
    free(s->s1);
    free(s->s2);
    free(s->moment);
    free(s->novel);
    free(s->novel_distance);
    free(s->assigned);
    free(s->sample);
    stats_rows_init(s);
}

/* Never asks for zero bytes, for which malloc may say NULL. */
static void *array(size_t count, size_t width)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, width, &bytes))
        return NULL;
    return malloc(bytes ? bytes : 1);
}

static int complete(struct stats_rows *s, bool have_all)
{
    if (have_all)
        return 0;
    stats_rows_fini(s);
    return ERR_MEMORY;
}

int stats_reserve_rows(struct stats_rows *s, uint32_t R)
{
    s->R = R;
    s->index = array(R, sizeof *s->index);
    s->n = array(R, sizeof *s->n);
    s->s1 = array(R, s->D * sizeof *s->s1);
    s->s2 = array(R, s->squares * sizeof *s->s2);
    s->moment = s->shared > 0 ? array(s->shared, sizeof *s->moment) : NULL;
    return complete(s, s->index && s->n && s->s1 && s->s2 && (s->moment || s->shared == 0));
}

int stats_reserve_extra(struct stats_rows *s, uint32_t V, uint32_t A, uint32_t S)
{
    s->V = V;
    s->A = A;
    s->S = S;
    s->novel = array(V, s->D * sizeof *s->novel);
    s->novel_distance = array(V, sizeof *s->novel_distance);
    s->assigned = array(A, sizeof *s->assigned);
    s->sample = array(S, s->D * sizeof *s->sample);
    return complete(s, s->novel && s->novel_distance && s->assigned && s->sample);
}

/* ---- from responsibilities ---- */

/* s1, s2 (BLOCK) over a column; h points at the block's first dimension of embedding 0. */
static inline __attribute__((always_inline)) void sum_block(const float *restrict h, size_t D,
                                                            const struct entry *column, size_t count,
                                                            float *restrict s1, float *restrict s2)
{
    lanes sum1[BLOCK / LANES] = {{0}}, sum2[BLOCK / LANES] = {{0}};
    for (size_t j = 0; j < count; j++) {
        const lanes *x = (const lanes *)(const void *)(h + column[j].row * D);
#pragma GCC unroll 4
        for (size_t l = 0; l < BLOCK / LANES; l++) {
            lanes weighted = column[j].gamma * x[l];
            sum1[l] += weighted;
            sum2[l] += weighted * x[l];
        }
    }
    memcpy(s1, sum1, sizeof sum1);
    memcpy(s2, sum2, sizeof sum2);
}

/* The same for the last D % BLOCK dimensions, one after the other. */
static inline __attribute__((always_inline)) void sum_rest(const float *restrict h, size_t D,
                                                           const struct entry *column, size_t count, size_t width,
                                                           float *restrict s1, float *restrict s2)
{
    for (size_t d = 0; d < width; d++) {
        float sum1 = 0, sum2 = 0;
        for (size_t j = 0; j < count; j++) {
            float x = h[column[j].row * D + d], weighted = column[j].gamma * x;
            sum1 += weighted;
            sum2 += weighted * x;
        }
        s1[d] = sum1;
        s2[d] = sum2;
    }
}

/* s1_d = sum_j gamma_j h_jd, s2_d = sum_j gamma_j h_jd^2 over a column's entries in order, from dimension d on; h
 * (N,D), s1 and s2 (D). */
STATIC_KERNEL(void, sum_column,
              (const float *restrict h, size_t D, size_t d, const struct entry *column, size_t count,
               float *restrict s1, float *restrict s2),
              (h, D, d, column, count, s1, s2))
{
    for (; d + BLOCK <= D; d += BLOCK)
        sum_block(h + d, D, column, count, s1 + d, s2 + d);
    sum_rest(h + d, D, column, count, D - d, s1 + d, s2 + d);
}

#if KERNELS_X86

enum { WIDE = 16, WIDE_BLOCK = 4 * WIDE };

/* sum_block of WIDE_BLOCK dimensions, which has the registers of AVX-512 for it: an embedding's row is read once
 * where D is 64. */
KERNELS_TARGET_AVX512 static void sum_wide_block(const float *restrict h, size_t D, const struct entry *column,
                                                 size_t count, float *restrict s1, float *restrict s2)
{
    __m512 sum1[4] = {0}, sum2[4] = {0};
    for (size_t j = 0; j < count; j++) {
        const float *x = h + column[j].row * D;
        const __m512 gamma = _mm512_set1_ps(column[j].gamma);
#pragma GCC unroll 4
        for (size_t l = 0; l < 4; l++) {
            __m512 value = _mm512_loadu_ps(x + l * WIDE), weighted = _mm512_mul_ps(gamma, value);
            sum1[l] = _mm512_add_ps(sum1[l], weighted);
            sum2[l] = _mm512_add_ps(sum2[l], _mm512_mul_ps(weighted, value));
        }
    }
#pragma GCC unroll 4
    for (size_t l = 0; l < 4; l++) {
        _mm512_storeu_ps(s1 + l * WIDE, sum1[l]);
        _mm512_storeu_ps(s2 + l * WIDE, sum2[l]);
    }
}

/* The whole blocks of a column; returns the dimensions that are done. */
static size_t sum_wide(const float *h, size_t D, const struct entry *column, size_t count, float *s1, float *s2)
{
    size_t d = 0;
    for (; d + WIDE_BLOCK <= D && kernels_chosen() >= KERNELS_AVX512; d += WIDE_BLOCK)
        sum_wide_block(h + d, D, column, count, s1 + d, s2 + d);
    return d;
}

#else

static size_t sum_wide(const float *h, size_t D, const struct entry *column, size_t count, float *s1, float *s2)
{
    (void)h, (void)D, (void)column, (void)count, (void)s1, (void)s2;
    return 0;
}

#endif

/* s1 alone. */
STATIC_KERNEL(void, sum_column_once,
              (const float *restrict h, size_t D, const struct entry *column, size_t count, float *restrict s1),
              (h, D, column, count, s1))
{
    for (size_t d = 0; d < D; d++)
        s1[d] = 0;
    for (size_t j = 0; j < count; j++)
        for (size_t d = 0; d < D; d++)
            s1[d] += column[j].gamma * h[column[j].row * D + d];
}

/* s2 (D,D) = sum_j gamma_j h_j h_j^T: the lower triangle, and its mirror image, so that it is symmetric to the bit. */
STATIC_KERNEL(void, sum_outer,
              (const float *restrict h, size_t D, const struct entry *column, size_t count, float *restrict s2),
              (h, D, column, count, s2))
{
    memset(s2, 0, D * D * sizeof *s2);
    for (size_t j = 0; j < count; j++) {
        const float *x = h + column[j].row * D;
        for (size_t a = 0; a < D; a++) {
            float weighted = column[j].gamma * x[a];
            for (size_t b = 0; b <= a; b++)
                s2[a * D + b] += weighted * x[b];
        }
    }
    for (size_t a = 0; a < D; a++)
        for (size_t b = 0; b < a; b++)
            s2[b * D + a] = s2[a * D + b];
}

/* Row R of out from its column. */
static void sum_row(const float *h, const struct entry *column, uint32_t count, struct stats_rows *out, uint32_t R)
{
    size_t D = out->D;
    float *s1 = out->s1 + R * D, *s2 = out->s2 + (size_t)R * out->squares;
    if (out->squares == D) {
        sum_column(h, D, sum_wide(h, D, column, count, s1, s2), column, count, s1, s2);
        return;
    }
    sum_column_once(h, D, column, count, s1);
    if (out->squares > 0)
        sum_outer(h, D, column, count, s2);
}

/* end (K): where each component's column ends; entries (Z) ordered by component, then by embedding. Counting sort. */
static void turn_by_component(const struct responsibilities *g, uint32_t K, uint32_t *end, struct entry *entries)
{
    uint32_t Z = g->start[g->N], before = 0;
    for (uint32_t z = 0; z < Z; z++)
        end[g->index[z]]++;
    for (uint32_t k = 0; k < K; k++) {
        uint32_t count = end[k];
        end[k] = before; /* for now where it begins; each entry moves it on */
        before += count;
    }
    for (uint32_t z = 0, i = 0; z < Z; z++) {
        i += g->start[i + 1] <= z; /* mostly enough, and no branch whose way nobody can tell */
        while (g->start[i + 1] <= z)
            i++;
        entries[end[g->index[z]]++] = (struct entry){i, g->gamma[z]};
    }
}

static uint32_t count_columns(const uint32_t *end, uint32_t K)
{
    uint32_t columns = 0;
    for (uint32_t k = 0; k < K; k++)
        columns += end[k] > (k ? end[k - 1] : 0);
    return columns;
}

static float sum_mass(const struct entry *column, uint32_t count)
{
    float n = 0;
    for (uint32_t j = 0; j < count; j++)
        n += column[j].gamma;
    return n;
}

static void sum_columns(const float *h, const uint32_t *end, const struct entry *entries, struct stats_rows *out)
{
    uint32_t R = 0;
    for (uint32_t k = 0; k < out->K; k++) {
        uint32_t begin = k ? end[k - 1] : 0, count = end[k] - begin;
        float n = sum_mass(entries + begin, count);
        if (n == 0)
            continue; /* untouched, or touched by zeros only */
        out->index[R] = k;
        out->n[R] = n;
        sum_row(h, entries + begin, count, out, R);
        R++;
    }
    out->R = R;
}

/* The shared moment: of all embeddings as one column. entries: room for one each, when the columns are done. */
static void sum_moment(const float *h, const struct responsibilities *g, struct entry *entries, struct stats_rows *out)
{
    for (uint32_t i = 0; i < g->N; i++) {
        entries[i] = (struct entry){i, 0};
        for (uint32_t z = g->start[i]; z < g->start[i + 1]; z++)
            entries[i].gamma += g->gamma[z];
    }
    sum_outer(h, out->D, entries, g->N, out->moment);
}

int stats_accumulate(const float *h, const struct responsibilities *g, uint32_t K, uint32_t D, enum covariance c,
                     struct stats_rows *out)
{
    uint32_t *end = calloc(K, sizeof *end);
    struct entry *entries = array(g->start[g->N] > g->N ? g->start[g->N] : g->N, sizeof *entries);
    int rc = end && entries ? 0 : ERR_MEMORY;
    stats_rows_init(out);
    out->K = K;
    out->D = D;
    out->squares = (uint32_t)covariance_square_width(c, D);
    out->shared = (uint32_t)covariance_shared_width(c, D);
    if (rc == 0) {
        turn_by_component(g, K, end, entries);
        rc = stats_reserve_rows(out, count_columns(end, K));
    }
    if (rc == 0)
        sum_columns(h, end, entries, out);
    if (rc == 0 && out->shared > 0)
        sum_moment(h, g, entries, out);
    out->count = rc ? 0 : g->N;
    free(end);
    free(entries);
    return rc;
}

/* ---- sums of neighbours ---- */

static uint32_t count_union(const struct stats_rows *a, const struct stats_rows *b)
{
    uint32_t i = 0, j = 0, count = 0;
    while (i < a->R && j < b->R) {
        uint32_t ka = a->index[i], kb = b->index[j];
        i += ka <= kb;
        j += kb <= ka;
        count++;
    }
    return count + (a->R - i) + (b->R - j);
}

static void put_row(struct stats_rows *to, uint32_t r, const struct stats_rows *from, uint32_t row)
{
    size_t D = to->D, S = to->squares;
    to->index[r] = from->index[row];
    to->n[r] = from->n[row];
    memcpy(to->s1 + r * D, from->s1 + row * D, D * sizeof(float));
    if (S > 0)
        memcpy(to->s2 + r * S, from->s2 + row * S, S * sizeof(float));
}

static void add_row(struct stats_rows *to, uint32_t r, const struct stats_rows *from, uint32_t row)
{
    size_t D = to->D, S = to->squares;
    to->n[r] += from->n[row];
    vec_add(to->s1 + r * D, from->s1 + row * D, D);
    if (S > 0)
        vec_add(to->s2 + r * S, from->s2 + row * S, S);
}

static void merge_rows(struct stats_rows *to, const struct stats_rows *a, const struct stats_rows *b)
{
    uint32_t i = 0, j = 0;
    for (uint32_t r = 0; r < to->R; r++) {
        bool from_a = i < a->R && (j == b->R || a->index[i] <= b->index[j]);
        bool from_b = j < b->R && (i == a->R || b->index[j] <= a->index[i]);
        if (from_a)
            put_row(to, r, a, i++);
        if (from_a && from_b)
            add_row(to, r, b, j++);
        else if (from_b)
            put_row(to, r, b, j++);
    }
}

/* `count` elements of `width` bytes of a, then those of b. */
static void concatenate(void *to, const void *a, size_t count_a, const void *b, size_t count_b, size_t width)
{
    if (count_a)
        memcpy(to, a, count_a * width);
    if (count_b)
        memcpy((uint8_t *)to + count_a * width, b, count_b * width);
}

int stats_rows_add(struct stats_rows *a, struct stats_rows *b)
{
    ASSERT(a->K == b->K && a->D == b->D && a->squares == b->squares && a->shared == b->shared);
    struct stats_rows sum = {.K = a->K, .D = a->D, .squares = a->squares, .shared = a->shared};
    int rc = stats_reserve_rows(&sum, count_union(a, b));
    rc = rc ? rc : stats_reserve_extra(&sum, a->V + b->V, a->A + b->A, a->S + b->S);
    if (rc == 0) {
        merge_rows(&sum, a, b);
        if (sum.shared > 0) {
            memcpy(sum.moment, a->moment, sum.shared * sizeof *sum.moment);
            vec_add(sum.moment, b->moment, sum.shared);
        }
        concatenate(sum.novel, a->novel, a->V, b->novel, b->V, a->D * sizeof(float));
        concatenate(sum.novel_distance, a->novel_distance, a->V, b->novel_distance, b->V, sizeof(float));
        concatenate(sum.assigned, a->assigned, a->A, b->assigned, b->A, sizeof *a->assigned);
        concatenate(sum.sample, a->sample, a->S, b->sample, b->S, a->D * sizeof(float));
        sum.count = a->count + b->count;
        sum.loglik = a->loglik + b->loglik;
        sum.dropped = a->dropped + b->dropped;
        stats_rows_fini(a);
        *a = sum;
    }
    stats_rows_fini(b);
    return rc;
}
