/* Rows are taken in blocks whose logits (block,K) stay in a scratch of bounded size. The mixture is held as tile operands
 * (worker/nn/tiles.h), TILE_COMPONENTS components each, so that a tile stays in the second-level cache while a block's
 * rows go by; logits and cosines of a tile are computed together. After that only one pass over the block's rows
 * remains. */
#include "worker/estep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/heap.h"
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/nn/tiles.h"
#include "worker/whitened.h"

enum {
    BLOCK_ROWS_MAX = 256,
    BLOCK_ROWS_MIN = 16,        /* with fewer rows a block reads the operand too often for its work */
    BLOCK_BYTES_MAX = 64 << 20, /* of logits, when K is large */
    TILE_COMPONENTS = 1024,
    SPAN = 32, /* values that are looked at together where few are wanted */
};

struct kept {
    uint32_t index;
    float value;
};

struct estep {
    struct estep_options options;
    uint32_t rows_max, K, D, block_rows;
    uint32_t
        width; /* of the product that gives logits: 2D, [h^2 | h]; von Mises-Fisher D, h; tied D, W h; full 0, none */
    struct whitened *whitened; /* gives logits when width is 0 */
    float *shared_operand;     /* W^T, packed, when components share it */
    double log_det;            /* of that W */
    bool loaded;               /* a mixture is in use */
    uint64_t version;
    double beta;
    float *logit_operand;  /* of each tile: [log_const + price; [-1/2 1/v | mu/v]^T], packed, logit_size apart */
    float *cosine_operand; /* of each tile: prototypes^T, packed, cosine_size apart; only for the novelty search */
    size_t logit_size, cosine_size;
    float *rows;         /* (tile,width) one tile's [-1/2 1/v | mu/v] before it is packed; or mu/v alone */
    float *bias;         /* (tile) its log_const + price */
    float *prototypes;   /* (K,D) */
    float *squares;      /* (block,2D) [h^2 | h]; tied: (block,D) W h; else nothing */
    float *logits;       /* (block,K) */
    float *cosines;      /* (block,tile) */
    float *nearest;      /* (block) largest cosine so far */
    float *row;          /* (K) exp(beta l) */
    uint32_t *square_at; /* (block) where a row of squares, of h, of logits, of cosines starts */
    uint32_t *h_at, *logit_at, *cosine_at;
    struct kept *top; /* (top) heap of one row's largest */
    size_t nonzero_max;
    uint32_t *start, *index;       /* (rows_max+1), (nonzero_max) */
    float *gamma;                  /* (nonzero_max) */
    uint32_t *assigned;            /* (rows_max) */
    struct kept *far;              /* (rows_max) row and distance of candidates */
    float *novel, *novel_distance; /* (novel_max,D), (novel_max) */
};

static uint32_t block_rows_for(uint32_t rows_max, uint32_t K)
{
    size_t rows = BLOCK_BYTES_MAX / (K * sizeof(float));
    rows = rows < BLOCK_ROWS_MIN ? BLOCK_ROWS_MIN : rows > BLOCK_ROWS_MAX ? BLOCK_ROWS_MAX : rows;
    return rows < rows_max ? (uint32_t)rows : rows_max;
}

/* Responsibilities sum to 1, so that at most 1/drop of them are as large as drop; a little more for rounding. */
static size_t kept_per_row(uint32_t K, const struct estep_options *o)
{
    size_t kept = K;
    if (o->drop > 0 && ceil(1.001 / o->drop) + 1 < kept)
        kept = (size_t)ceil(1.001 / o->drop) + 1;
    return o->top > 0 && o->top < kept ? o->top : kept;
}

/* Room for n floats or indices. */
static void *words(size_t n)
{
    void *p = NULL;
    return posix_memalign(&p, 64, (n > 0 ? n : 1) * sizeof(float)) == 0 ? p : NULL;
}

static size_t tile_at(const struct estep *s, size_t k)
{
    return s->K - k < TILE_COMPONENTS ? s->K - k : TILE_COMPONENTS;
}

static bool is_tied(const struct estep *s)
{
    return s->options.covariance == COVARIANCE_TIED;
}

static bool allocate_operands(struct estep *s)
{
    size_t K = s->K, D = s->D, tile = tile_at(s, 0), tiles = (K + TILE_COMPONENTS - 1) / TILE_COMPONENTS;
    s->logit_size = s->width > 0 ? tile_packed_size(s->width, tile) : 0;
    s->cosine_size = s->options.novel_max > 0 ? tile_packed_size(D, tile) : 0;
    s->shared_operand = words(is_tied(s) ? tile_packed_size(D, D) : 0);
    s->logit_operand = words(tiles * s->logit_size);
    s->cosine_operand = words(tiles * s->cosine_size);
    s->rows = words(s->width * tile);
    s->bias = words(tile);
    s->prototypes = words(K * D);
    return s->shared_operand && s->logit_operand && s->cosine_operand && s->rows && s->bias && s->prototypes;
}

/* 0, stride, 2 stride ... */
static uint32_t *starts(size_t n, size_t stride)
{
    uint32_t *at = words(n);
    for (size_t i = 0; at && i < n; i++)
        at[i] = (uint32_t)(i * stride);
    return at;
}

static bool allocate_block(struct estep *s)
{
    size_t D = s->D, block = s->block_rows, tile = s->options.novel_max > 0 ? tile_at(s, 0) : 0;
    s->squares = words(s->width == 2 * D ? 2 * block * D : is_tied(s) ? block * D : 0);
    s->logits = words(block * s->K);
    s->cosines = words(block * tile);
    s->nearest = words(block);
    s->row = words(s->K);
    s->square_at = starts(block, 2 * D);
    s->h_at = starts(block, D);
    s->logit_at = starts(block, s->K);
    s->cosine_at = starts(block, tile);
    return s->squares && s->logits && s->cosines && s->nearest && s->row && s->square_at && s->h_at && s->logit_at &&
           s->cosine_at;
}

static bool allocate_results(struct estep *s)
{
    size_t D = s->D, novel = s->options.novel_max;
    s->top = calloc(s->options.top + 1u, sizeof *s->top);
    s->start = calloc(s->rows_max + 1u, sizeof *s->start);
    s->index = words(s->nonzero_max);
    s->gamma = words(s->nonzero_max);
    s->assigned = calloc(s->rows_max, sizeof *s->assigned);
    s->far = calloc(s->rows_max, sizeof *s->far);
    s->novel = words(novel * D);
    s->novel_distance = words(novel);
    return s->top && s->start && s->index && s->gamma && s->assigned && s->far && s->novel && s->novel_distance;
}

static uint32_t operand_width(enum covariance c, uint32_t D)
{
    return c == COVARIANCE_FULL ? 0 : c == COVARIANCE_VMF || c == COVARIANCE_TIED ? D : 2 * D;
}

int estep_new(uint32_t rows_max, uint32_t K, uint32_t D, struct estep_options o, struct estep **out)
{
    ASSERT(rows_max > 0 && K > 0 && D > 0 && o.drop >= 0 && o.drop <= 0.5f);
    struct estep *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL)
        return ERR_MEMORY;
    s->options = o;
    s->options.novel_max = o.novel_max < rows_max ? o.novel_max : rows_max;
    s->options.top = o.top < K ? o.top : 0;
    s->rows_max = rows_max;
    s->K = K;
    s->D = D;
    s->width = operand_width(o.covariance, D);
    s->block_rows = block_rows_for(rows_max, K);
    s->nonzero_max = rows_max * kept_per_row(K, &s->options);
    bool whitens = s->width == 0;
    if (!allocate_operands(s) || !allocate_block(s) || !allocate_results(s) ||
        (whitens && whitened_new(s->block_rows, K, D, &s->whitened) != 0)) {
        estep_free(&s);
        return ERR_MEMORY;
    }
    *out = s;
    return 0;
}

void estep_free(struct estep **s)
{
    if (*s == NULL)
        return;
    void *const owned[] = {
        (*s)->logit_operand,  (*s)->cosine_operand, (*s)->rows,          (*s)->prototypes, (*s)->squares,
        (*s)->logits,         (*s)->cosines,        (*s)->nearest,       (*s)->row,        (*s)->square_at,
        (*s)->h_at,           (*s)->logit_at,       (*s)->cosine_at,     (*s)->top,        (*s)->start,
        (*s)->index,          (*s)->gamma,          (*s)->assigned,      (*s)->far,        (*s)->novel,
        (*s)->novel_distance, (*s)->bias,           (*s)->shared_operand};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    whitened_free(&(*s)->whitened);
    free(*s);
    *s = NULL;
}

/* One row [-1/2 1/v | mu/v]; variance (D), or (1) when spherical. */
STATIC_KERNEL(void, operand_row,
              (const float *restrict mean, const float *restrict variance, bool spherical, size_t D,
               float *restrict out),
              (mean, variance, spherical, D, out))
{
    for (size_t d = 0; d < D; d++) {
        float precision = 1 / (spherical ? variance[0] : variance[d]);
        out[d] = -0.5f * precision;
        out[D + d] = mean[d] * precision;
    }
}

/* mu/v, of one v. */
STATIC_KERNEL(void, direction_row, (const float *restrict mean, float variance, size_t D, float *restrict out),
              (mean, variance, D, out))
{
    float precision = 1 / variance;
    for (size_t d = 0; d < D; d++)
        out[d] = mean[d] * precision;
}

/* The row of component k in the operand. */
static void component_row(const struct mixture_view *v, size_t k, float *out)
{
    size_t D = v->D;
    if (v->covariance == COVARIANCE_VMF)
        direction_row(v->mean + k * D, v->variance[k], D, out);
    else if (v->covariance == COVARIANCE_SPHERICAL)
        operand_row(v->mean + k * D, v->variance + k, true, D, out);
    else
        operand_row(v->mean + k * D, v->variance + k * D, false, D, out);
}

/* packed = [bias; rows^T] for rows (n,width) of components. */
static void pack_rows(const float *rows, size_t n, size_t width, const float *bias, float *packed)
{
    struct pack p = {.K = (uint32_t)width, .columns = n, .n = width, .row_stride = 1, .column_stride = width};
    tile_pack(&p, rows, packed);
    tile_pack_bias(width, n, bias, packed);
}

/* c = a (rows,width) times one tile's packed operand, plus its bias row; `in` and `out` say where rows start. */
static void tile_product(const float *a, uint32_t *in, size_t rows, size_t width, size_t components,
                         const float *operand, float *c, uint32_t *out)
{
    struct gather g = {.runs = 1, .run = width, .stride = width, .columns = (uint32_t)components, .in = in, .out = out};
    gather_product(&g, rows, a, operand, c);
}

/* The shared W, and the rows W mu of a tile of components. */
static void pack_shared(struct estep *s, const float *whitening)
{
    s->log_det = 0;
    for (size_t d = 0; d < s->D; d++)
        s->log_det += log((double)whitening[d * (s->D + 1)]);
    pack_rows(whitening, s->D, s->D, NULL, s->shared_operand);
}

static void whiten_means(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i += s->block_rows) {
        size_t rows = n - i < s->block_rows ? n - i : s->block_rows;
        tile_product(v->mean + (k + i) * s->D, s->h_at, rows, s->D, s->D, s->shared_operand, s->rows + i * s->D,
                     s->h_at);
    }
    for (size_t i = 0; i < n; i++)
        s->bias[i] -= 0.5f * vec_dot(s->rows + i * s->D, s->rows + i * s->D, s->D);
}

/* The operand of logits of the tile of n components from k on. */
static void pack_logits(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->bias[i] = v->log_const[k + i] + v->price[k + i];
    if (is_tied(s))
        whiten_means(s, v, k, n);
    for (size_t i = 0; i < n && !is_tied(s); i++)
        component_row(v, k + i, s->rows + i * s->width);
    pack_rows(s->rows, n, s->width, s->bias, s->logit_operand + k / TILE_COMPONENTS * s->logit_size);
}

static void pack_components(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    if (s->width > 0)
        pack_logits(s, v, k, n);
    if (s->options.novel_max > 0)
        pack_rows(s->prototypes + k * s->D, n, s->D, NULL, s->cosine_operand + k / TILE_COMPONENTS * s->cosine_size);
}

void estep_use(struct estep *s, const struct mixture_view *v)
{
    ASSERT(v->K == s->K && v->D == s->D && operand_width(v->covariance, v->D) == s->width &&
           is_tied(s) == (v->covariance == COVARIANCE_TIED));
    if (s->loaded && s->version == v->version)
        return;
    memcpy(s->prototypes, v->mean, (size_t)s->K * s->D * sizeof *s->prototypes);
    vec_normalise_rows(s->prototypes, s->K, s->D, NULL);
    if (is_tied(s))
        pack_shared(s, v->variance);
    for (size_t k = 0; k < s->K; k += TILE_COMPONENTS)
        pack_components(s, v, k, tile_at(s, k));
    if (s->whitened)
        whitened_use(s->whitened, v);
    s->loaded = true;
    s->version = v->version;
    s->beta = v->beta;
}

const float *estep_prototypes(const struct estep *s)
{
    ASSERT(s->loaded);
    return s->prototypes;
}

STATIC_KERNEL(void, square_row, (const float *restrict h, size_t D, float *restrict out), (h, D, out))
{
    for (size_t d = 0; d < D; d++) {
        out[d] = h[d] * h[d];
        out[D + d] = h[d];
    }
}

static void tile_cosines(struct estep *s, const float *h, size_t rows, size_t k)
{
    size_t n = tile_at(s, k), stride = tile_at(s, 0);
    const float *operand = s->cosine_operand + k / TILE_COMPONENTS * s->cosine_size;
    tile_product(h, s->h_at, rows, s->D, n, operand, s->cosines, s->cosine_at);
    for (size_t i = 0; i < rows; i++) {
        float nearest = vec_max(s->cosines + i * stride, n);
        s->nearest[i] = k == 0 || nearest > s->nearest[i] ? nearest : s->nearest[i];
    }
}

/* What the product that gives logits takes of the block's rows, and where they start. */
static const float *operand_input(struct estep *s, const float *h, size_t rows, uint32_t **at)
{
    *at = s->width == s->D ? s->h_at : s->square_at;
    if (is_tied(s))
        tile_product(h, s->h_at, rows, s->D, s->D, s->shared_operand, s->squares, s->h_at);
    for (size_t i = 0; i < rows && s->width == 2 * s->D; i++)
        square_row(h + i * s->D, s->D, s->squares + 2 * i * s->D);
    return s->width == s->D && !is_tied(s) ? h : s->squares;
}

/* Logits of the block's rows into s->logits and, when novelty is looked for, their largest cosines into s->nearest. */
static void block_products(struct estep *s, const float *h, size_t rows)
{
    uint32_t *at;
    const float *input = operand_input(s, h, rows, &at);
    if (s->whitened)
        whitened_logits(s->whitened, h, rows, s->logits);
    for (size_t k = 0; k < s->K; k += TILE_COMPONENTS) {
        const float *operand = s->logit_operand + k / TILE_COMPONENTS * s->logit_size;
        if (s->width > 0)
            tile_product(input, at, rows, s->width, tile_at(s, k), operand, s->logits + k, s->logit_at);
        if (s->options.novel_max > 0)
            tile_cosines(s, h, rows, k);
    }
}

/* What the logits of the block's rows lack, the same for all components of a row, and so of the log-likelihood only:
 * tied, log det W - 1/2 |W h|^2. */
static double block_shift(const struct estep *s, size_t rows)
{
    double shift = 0;
    for (size_t i = 0; i < rows && is_tied(s); i++)
        shift += s->log_det - 0.5 * (double)vec_dot(s->squares + i * s->D, s->squares + i * s->D, s->D);
    return shift;
}

STATIC_KERNEL(void, scale_into, (const float *restrict x, float factor, size_t n, float *restrict out),
              (x, factor, n, out))
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * factor;
}

/* The first multiple of SPAN from `from` on whose span of x has a value of at least `limit`; n when there is none, but
 * the last, incomplete span is never passed over. */
STATIC_KERNEL(size_t, next_span, (const float *x, size_t from, size_t n, float limit), (x, from, n, limit))
{
    for (size_t i = from; i + SPAN <= n; i += SPAN) {
        int found = 0;
        for (size_t lane = 0; lane < SPAN; lane++)
            found |= x[i + lane] >= limit;
        if (found)
            return i;
    }
    return n % SPAN > 0 && from < n ? n / SPAN * SPAN : n;
}

/* Where x (n) is `value`, its maximum; the last place when it is nowhere, should the network have diverged. */
static uint32_t first_of(const float *x, uint32_t n, float value)
{
    size_t i = next_span(x, 0, n, value);
    while (i + 1 < n && x[i] != value)
        i++;
    return i < n ? (uint32_t)i : n - 1;
}

/* Whether a is given up before b: it is smaller, or equal and of higher index. The index makes the order total, so that
 * which responsibilities are kept does not depend on the heap's history. */
static bool weaker(struct kept a, struct kept b)
{
    return a.value < b.value || (a.value == b.value && a.index > b.index);
}

HEAP_DEFINE(kept_heap, struct kept, weaker) /* the weakest at the root */

/* The weakest of the `top` largest values of row (K); the caller drops everything weaker. */
static struct kept top_threshold(struct estep *s)
{
    size_t m = s->options.top;
    for (uint32_t k = 0; k < m; k++)
        s->top[k] = (struct kept){k, s->row[k]};
    for (size_t i = m / 2; i-- > 0;)
        kept_heap_sink(s->top, m, i);
    for (uint32_t k = (uint32_t)m; k < s->K; k++) {
        struct kept candidate = {k, s->row[k]};
        if (weaker(s->top[0], candidate)) {
            s->top[0] = candidate;
            kept_heap_sink(s->top, m, 0);
        }
    }
    return s->top[0];
}

/* Appends the row's responsibilities from s->row (K), which sums to `total`; returns the share that was dropped. */
static double keep_row(struct estep *s, uint32_t i, double total)
{
    struct kept limit = {s->K, (float)(s->options.drop * total)};
    if (s->options.top > 0) {
        struct kept top = top_threshold(s);
        limit = weaker(limit, top) ? top : limit;
    }
    uint32_t begin = s->start[i], end = begin;
    double sum = 0;
    for (size_t span = next_span(s->row, 0, s->K, limit.value); span < s->K;
         span = next_span(s->row, span + SPAN, s->K, limit.value))
        for (uint32_t k = (uint32_t)span; k < s->K && k < span + SPAN; k++) {
            struct kept candidate = {k, s->row[k]};
            if (!(s->row[k] > 0) || weaker(candidate, limit)) /* also skips NaN, should the network have diverged */
                continue;
            ASSERT(end < s->nonzero_max);
            s->index[end] = k;
            s->gamma[end++] = s->row[k];
            sum += s->row[k];
        }
    vec_scale(s->gamma + begin, (float)(1 / sum), end - begin);
    s->start[i + 1] = end;
    return total > sum ? 1 - sum / total : 0;
}

/* Softmax of one row of logits, which are overwritten. The largest term is exp(0) = 1, so that nothing overflows. */
static void finish_row(struct estep *s, float *logits, uint32_t i, struct stats_extra *extra)
{
    float max = vec_max(logits, s->K), beta = (float)s->beta;
    s->assigned[i] = first_of(logits, s->K, max);
    scale_into(logits, beta, s->K, s->row);
    double total = vec_exp_shifted(s->row, beta * max, s->K);
    double evidence = beta == 1 ? total : vec_exp_shifted(logits, max, s->K);
    extra->loglik += max + log(evidence);
    extra->dropped += keep_row(s, i, total);
}

/* Adds the block's rows that are far from every prototype to s->far. */
static uint32_t block_candidates(struct estep *s, uint32_t first, uint32_t rows, uint32_t found)
{
    for (uint32_t i = 0; i < rows; i++) {
        float distance = 1 - s->nearest[i];
        if (distance >= s->options.novel_distance)
            s->far[found++] = (struct kept){first + i, distance};
    }
    return found;
}

static int farthest_first(const void *a, const void *b)
{
    return weaker(*(const struct kept *)a, *(const struct kept *)b) ? 1 : -1;
}

static void pick_candidates(struct estep *s, const float *h, uint32_t found, struct stats_extra *extra)
{
    if (s->options.choice == RESEED_FARTHEST)
        qsort(s->far, found, sizeof *s->far, farthest_first);
    extra->V = found < s->options.novel_max ? found : s->options.novel_max;
    extra->novel = s->novel;
    extra->novel_distance = s->novel_distance;
    for (uint32_t i = 0; i < extra->V; i++) {
        memcpy(s->novel + (size_t)i * s->D, h + (size_t)s->far[i].index * s->D, s->D * sizeof *s->novel);
        s->novel_distance[i] = s->far[i].value;
    }
}

void estep_run(struct estep *s, const float *h, uint32_t N, struct estep_result *out)
{
    ASSERT(s->loaded && N <= s->rows_max);
    uint32_t found = 0;
    memset(out, 0, sizeof *out);
    s->start[0] = 0;
    for (uint32_t first = 0; first < N; first += s->block_rows) {
        uint32_t rows = N - first < s->block_rows ? N - first : s->block_rows;
        block_products(s, h + (size_t)first * s->D, rows);
        for (uint32_t i = 0; i < rows; i++)
            finish_row(s, s->logits + (size_t)i * s->K, first + i, &out->extra);
        out->extra.loglik += block_shift(s, rows);
        if (s->options.novel_max > 0)
            found = block_candidates(s, first, rows, found);
    }
    pick_candidates(s, h, found, &out->extra);
    if (s->options.covariance != COVARIANCE_VMF) /* whose log_const has all of it */
        out->extra.loglik -= N * (s->D / 2.0) * log(2 * M_PI);
    out->extra.assigned = s->assigned;
    out->gamma = (struct responsibilities){N, s->start, s->index, s->gamma};
}
