/* Rows are taken in blocks whose logits (block,K) stay in a scratch of bounded size; the operand (K,2D) is streamed
 * once per block, in tiles of components that stay in the second-level cache. After the two GEMMs of a block (logits,
 * cosines) only one pass over its rows remains. */
#include "worker/estep.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/kernels.h"
#include "common/vecmath.h"

enum {
    BLOCK_ROWS_MAX = 256,
    BLOCK_ROWS_MIN = 16,        /* below this the operand is read too often */
    BLOCK_BYTES_MAX = 64 << 20, /* of logits, when K is large */
    TILE_COMPONENTS = 1024,
};

struct kept {
    uint32_t index;
    float value;
};

struct estep {
    struct estep_options options;
    uint32_t rows_max, K, D, block_rows;
    bool loaded; /* a mixture is in use */
    uint64_t version;
    double beta;
    float *operand;    /* (K,2D) [-1/2 1/v | mu/v] */
    float *log_const;  /* (K) */
    float *prototypes; /* (K,D) */
    float *squares;    /* (block,2D) [h^2 | h] */
    float *logits;     /* (block,K), then cosines */
    float *row;        /* (K) exp(beta l) */
    struct kept *top;  /* (top) heap of one row's largest */
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

static bool allocate(struct estep *s)
{
    size_t K = s->K, D = s->D, block = s->block_rows, novel = s->options.novel_max;
    s->operand = words(2 * K * D);
    s->log_const = words(K);
    s->prototypes = words(K * D);
    s->squares = words(2 * block * D);
    s->logits = words(block * K);
    s->row = words(K);
    s->top = calloc(s->options.top + 1u, sizeof *s->top);
    s->start = calloc(s->rows_max + 1u, sizeof *s->start);
    s->index = words(s->nonzero_max);
    s->gamma = words(s->nonzero_max);
    s->assigned = calloc(s->rows_max, sizeof *s->assigned);
    s->far = calloc(s->rows_max, sizeof *s->far);
    s->novel = words(novel * D);
    s->novel_distance = words(novel);
    return s->operand && s->log_const && s->prototypes && s->squares && s->logits && s->row && s->top && s->start &&
           s->index && s->gamma && s->assigned && s->far && s->novel && s->novel_distance;
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
    s->block_rows = block_rows_for(rows_max, K);
    s->nonzero_max = rows_max * kept_per_row(K, &s->options);
    if (!allocate(s)) {
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
    void *const owned[] = {(*s)->operand,  (*s)->log_const, (*s)->prototypes, (*s)->squares,       (*s)->logits,
                           (*s)->row,      (*s)->top,       (*s)->start,      (*s)->index,         (*s)->gamma,
                           (*s)->assigned, (*s)->far,       (*s)->novel,      (*s)->novel_distance};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
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

void estep_use(struct estep *s, const struct mixture_view *v)
{
    ASSERT(v->K == s->K && v->D == s->D);
    if (s->loaded && s->version == v->version)
        return;
    bool spherical = v->covariance == COVARIANCE_SPHERICAL;
    for (size_t k = 0; k < s->K; k++)
        operand_row(v->mean + k * s->D, v->variance + (spherical ? k : k * s->D), spherical, s->D,
                    s->operand + 2 * k * s->D);
    memcpy(s->log_const, v->log_const, s->K * sizeof *s->log_const);
    memcpy(s->prototypes, v->mean, (size_t)s->K * s->D * sizeof *s->prototypes);
    vec_normalise_rows(s->prototypes, s->K, s->D, NULL);
    s->loaded = true;
    s->version = v->version;
    s->beta = v->beta;
}

const float *estep_prototypes(const struct estep *s)
{
    ASSERT(s->loaded);
    return s->prototypes;
}

/* out (rows,K) = x (rows,width) * operand (K,width)^T + out * keep, in tiles of components. */
static void tiled_gemm(const struct estep *s, const float *x, const float *operand, size_t rows, size_t width,
                       float keep, float *out)
{
    for (size_t k = 0; k < s->K; k += TILE_COMPONENTS) {
        size_t tile = s->K - k < TILE_COMPONENTS ? s->K - k : TILE_COMPONENTS;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)tile, (int)width, 1, x, (int)width,
                    operand + k * width, (int)width, keep, out + k, (int)s->K);
    }
}

STATIC_KERNEL(void, square_row, (const float *restrict h, size_t D, float *restrict out), (h, D, out))
{
    for (size_t d = 0; d < D; d++) {
        out[d] = h[d] * h[d];
        out[D + d] = h[d];
    }
}

static void block_logits(struct estep *s, const float *h, size_t rows)
{
    for (size_t i = 0; i < rows; i++) {
        square_row(h + i * s->D, s->D, s->squares + 2 * i * s->D);
        memcpy(s->logits + i * s->K, s->log_const, s->K * sizeof *s->logits);
    }
    tiled_gemm(s, s->squares, s->operand, rows, 2 * (size_t)s->D, 1, s->logits);
}

STATIC_KERNEL(void, scale_into, (const float *restrict x, float factor, size_t n, float *restrict out),
              (x, factor, n, out))
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * factor;
}

static uint32_t first_of(const float *x, uint32_t n, float value)
{
    uint32_t i = 0;
    while (i + 1 < n && x[i] != value)
        i++;
    return i;
}

/* Whether a gives way before b: smaller, or equal and of higher index. */
static bool weaker(struct kept a, struct kept b)
{
    return a.value < b.value || (a.value == b.value && a.index > b.index);
}

/* Restores the heap (weakest at the root) from position i downward. */
static void sift_down(struct kept *heap, size_t n, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < n && weaker(heap[child + 1], heap[child]))
            child++;
        if (child >= n || !weaker(heap[child], heap[i]))
            return;
        struct kept swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

/* The weakest of the `top` largest values of row (K): everything weaker goes. */
static struct kept top_threshold(struct estep *s)
{
    size_t m = s->options.top;
    for (uint32_t k = 0; k < m; k++)
        s->top[k] = (struct kept){k, s->row[k]};
    for (size_t i = m / 2; i-- > 0;)
        sift_down(s->top, m, i);
    for (uint32_t k = (uint32_t)m; k < s->K; k++) {
        struct kept candidate = {k, s->row[k]};
        if (weaker(s->top[0], candidate)) {
            s->top[0] = candidate;
            sift_down(s->top, m, 0);
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
    for (uint32_t k = 0; k < s->K; k++) {
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

static uint32_t block_candidates(struct estep *s, const float *h, uint32_t first, uint32_t rows, uint32_t found)
{
    tiled_gemm(s, h, s->prototypes, rows, s->D, 0, s->logits);
    for (uint32_t i = 0; i < rows; i++) {
        float distance = 1 - vec_max(s->logits + (size_t)i * s->K, s->K);
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
        const float *block = h + (size_t)first * s->D;
        block_logits(s, block, rows);
        for (uint32_t i = 0; i < rows; i++)
            finish_row(s, s->logits + (size_t)i * s->K, first + i, &out->extra);
        if (s->options.novel_max > 0)
            found = block_candidates(s, block, first, rows, found);
    }
    pick_candidates(s, h, found, &out->extra);
    out->extra.loglik -= N * (s->D / 2.0) * log(2 * M_PI);
    out->extra.assigned = s->assigned;
    out->gamma = (struct responsibilities){N, s->start, s->index, s->gamma};
}
