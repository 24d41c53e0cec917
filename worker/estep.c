/* Rows are taken in blocks whose logits (block,K) stay in a scratch of bounded size. The mixture is held as tile operands
 * (worker/nn/tiles.h), TILE_COMPONENTS components each, so that a tile stays in the second-level cache while a block's
 * rows go by. A new version changes the columns of the components that moved. Of each row of logits those that matter are
 * listed, and all else works on the list: a logit that is further below the row's largest than ln K + 10 (and than what
 * `drop` removes) counts as none. All of these together are less than e^-10 of the sum, which can be seen in the
 * log-likelihood and in the dropped share only, by as much: what is kept is divided by its own sum. With drop = 0 it is 87,
 * where the exponential is 0 in float.
 *
 * Where a sieve pays (worker/sieve.h) only what passes it for a row gets its logit, pair by pair (worker/refine.h), and a row
 * for which too much passes all of them, as without. What the sieve holds back is further below than that, so the lists are
 * the same as without it, and so is every bit after them.
 *
 * Novelty needs the largest cosine of those rows only that are far from every prototype. The prototype that a row was
 * assigned to is near most of them, which settles those for good; the rest, few or none after the first steps, meet all
 * prototypes (worker/novelty.h). */
#include "worker/estep.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/heap.h"
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/nn/tiles.h"
#include "worker/novelty.h"
#include "worker/refine.h"
#include "worker/sieve.h"
#include "worker/whitened.h"
#if KERNELS_X86
#include <immintrin.h>
#endif

enum {
    BLOCK_ROWS_MAX = 256,
    BLOCK_ROWS_MIN = 16,        /* with fewer rows a block reads the operand too often for its work */
    BLOCK_BYTES_MAX = 64 << 20, /* of logits, when K is large */
    TILE_COMPONENTS = SIEVE_TILE,
    SPAN = 32, /* exponentials are computed so many at a time */
    GAP = 272, /* floats after each row of logits: K is often a power of two, and all rows would share few lines of
                         the cache */
    PASSING_SHARE = 8, /* when more than one component in so many passes the sieve, a row is computed as a whole, */
    PAIRS_SHARE = 16,  /* and when those that pass would be more than that of a block's */
    SKIPPED = 7, /* blocks after one whose rows were mostly computed as a whole, for which the sieve is not asked */
    KEPT_FLOATS_MAX = 1 << 22, /* of rows of the operand beside a sieve; more are computed when they are wanted */
    REPACK_SHARE = 4,          /* a tile of which more than one component in four moved is packed as a whole */
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
    struct whitened *whitened;       /* gives logits when width is 0 */
    size_t logit_stride;             /* floats from a row of logits to the next */
    struct sieve *sieve;             /* NULL where there is none; otherwise logit_operand has one tile */
    const struct mixture_view *view; /* in use: components that pass the sieve are read there */
    float *component_rows;           /* (K,width) of the operand, beside a sieve if they are few; else NULL */
    uint32_t *passing;               /* (passing_max) components that pass, row by row, whole quads each, */
    float *passing_logits;           /* (passing_max) and their logits */
    uint32_t *quad_row;              /* (passing_max / QUAD) whose row it is */
    uint32_t passing_max;
    struct span_of {
        uint32_t first, count;
    } * passing_of;                      /* (block) of each row; count 0: all components */
    uint32_t *whole_at, *whole_logit_at; /* (block) rows that are computed as a whole */
    uint32_t skip;                       /* blocks for which the sieve is not asked */
    float cutoff;          /* nats below the largest logit, times beta, from which on one counts as none */
    float *shared_operand; /* W^T, packed, when components share it */
    double log_det;        /* of that W */
    bool loaded;           /* a mixture is in use */
    uint64_t version;
    double beta;
    float *logit_operand; /* of each tile: [log_const + price; [-1/2 1/v | mu/v]^T], packed, logit_size apart */
    size_t logit_size;
    float *rows;         /* (tile,width) one tile's [-1/2 1/v | mu/v] before it is packed; or mu/v alone */
    float *bias;         /* (tile) its log_const + price */
    float *prototypes;   /* (K,D) */
    float *squares;      /* (block,2D) [h^2 | h]; tied: (block,D) W h; else nothing */
    float *logits;       /* (block,logit_stride) */
    uint32_t *near;      /* (K) a row's components that matter, */
    uint32_t *found;     /* (K) scratch */
    float *near_logit;   /* (K and a span) their logits; like the next, filled up to whole spans */
    float *row;          /* (K and a span) and exp(beta l), or exp(l) */
    uint32_t *square_at; /* (block) where a row of squares, of h, of logits starts */
    uint32_t *h_at, *logit_at;
    uint32_t *searched;      /* (block) rows that meet all prototypes, */
    float *search_rows;      /* (block,D) together, */
    float *nearest;          /* (block) and how near they come */
    struct novelty *novelty; /* NULL when nothing is searched for */
    struct kept *top;        /* (top) heap of one row's largest */
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
    s->shared_operand = words(is_tied(s) ? tile_packed_size(D, D) : 0);
    bool kept = s->sieve == NULL || K * s->width <= KEPT_FLOATS_MAX;
    s->component_rows = s->sieve && kept ? words(K * s->width) : NULL;
    s->logit_operand = words((kept ? tiles : 1) * s->logit_size);
    if (s->sieve && kept && s->component_rows == NULL)
        return false;
    s->rows = words(s->width * tile);
    s->bias = words(tile);
    s->prototypes = words(K * D);
    return s->shared_operand && s->logit_operand && s->rows && s->bias && s->prototypes;
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
    size_t D = s->D, block = s->block_rows;
    s->squares = words(s->width == 2 * D ? 2 * block * D : is_tied(s) ? block * D : 0);
    s->logits = words(block * s->logit_stride);
    s->near = words(s->K + SPAN);
    s->found = words(s->K + SPAN);
    s->near_logit = words(s->K + SPAN);
    s->row = words(s->K + SPAN);
    s->square_at = starts(block, 2 * D);
    s->h_at = starts(block, D);
    s->logit_at = starts(block, s->logit_stride);
    return s->squares && s->logits && s->near && s->found && s->near_logit && s->row && s->square_at && s->h_at &&
           s->logit_at;
}

static bool allocate_sieve(struct estep *s)
{
    if (is_tied(s) || !sieve_pays(s->K, s->width))
        return true;
    s->passing_max = (s->block_rows * (s->K / PAIRS_SHARE) + PAIRS - 1) / PAIRS * PAIRS;
    s->passing = words(s->passing_max + SIEVE_ROOM);
    s->passing_logits = words(s->passing_max);
    s->quad_row = words(s->passing_max / QUAD);
    s->passing_of = calloc(s->block_rows, sizeof *s->passing_of);
    s->whole_at = words(s->block_rows);
    s->whole_logit_at = words(s->block_rows);
    return s->passing && s->passing_logits && s->quad_row && s->passing_of && s->whole_at && s->whole_logit_at &&
           sieve_new(s->block_rows, s->K, s->width, s->D, &s->sieve) == 0;
}

static bool allocate_search(struct estep *s)
{
    if (s->options.novel_max == 0)
        return true;
    s->searched = words(s->block_rows);
    s->search_rows = words((size_t)s->block_rows * s->D);
    s->nearest = words(s->block_rows);
    return s->searched && s->search_rows && s->nearest && novelty_new(s->block_rows, s->K, s->D, &s->novelty) == 0;
}

static bool allocate_results(struct estep *s)
{
    size_t D = s->D, novel = s->options.novel_max;
    s->top = calloc(s->options.top + 1u, sizeof *s->top);
    s->start = calloc(s->rows_max + 1u, sizeof *s->start);
    s->index = words(s->nonzero_max + VEC_LIST_SLACK);
    s->gamma = words(s->nonzero_max + VEC_LIST_SLACK);
    s->assigned = calloc(s->rows_max, sizeof *s->assigned);
    s->far = calloc(s->rows_max, sizeof *s->far);
    s->novel = words(novel * D);
    s->novel_distance = words(novel);
    return s->top && s->start && s->index && s->gamma && s->assigned && s->far && s->novel && s->novel_distance;
}

static float cutoff_of(uint32_t K, float drop)
{
    float all = 87, sum = logf((float)K) + 10;
    if (!(drop > 0))
        return all;
    float cutoff = fmaxf(sum, 1 - logf(drop));
    return cutoff < all ? cutoff : all;
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
    s->cutoff = cutoff_of(K, o.drop);
    bool whitens = s->width == 0;
    s->logit_stride = whitens ? K : K + (size_t)GAP;
    if (!allocate_sieve(s) || !allocate_operands(s) || !allocate_block(s) || !allocate_search(s) ||
        !allocate_results(s) || (whitens && whitened_new(s->block_rows, K, D, &s->whitened) != 0)) {
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
    void *const owned[] = {(*s)->logit_operand,
                           (*s)->rows,
                           (*s)->bias,
                           (*s)->prototypes,
                           (*s)->squares,
                           (*s)->logits,
                           (*s)->near,
                           (*s)->found,
                           (*s)->near_logit,
                           (*s)->row,
                           (*s)->square_at,
                           (*s)->h_at,
                           (*s)->logit_at,
                           (*s)->searched,
                           (*s)->search_rows,
                           (*s)->nearest,
                           (*s)->top,
                           (*s)->start,
                           (*s)->index,
                           (*s)->gamma,
                           (*s)->assigned,
                           (*s)->far,
                           (*s)->novel,
                           (*s)->novel_distance,
                           (*s)->shared_operand,
                           (*s)->passing,
                           (*s)->passing_logits,
                           (*s)->component_rows,
                           (*s)->quad_row,
                           (*s)->passing_of,
                           (*s)->whole_at,
                           (*s)->whole_logit_at};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    whitened_free(&(*s)->whitened);
    sieve_free(&(*s)->sieve);
    novelty_free(&(*s)->novelty);
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

/* Whether what is held of component k is not what it is in v. */
static bool has_moved(const struct estep *s, const struct mixture_view *v, size_t k)
{
    return !s->loaded || v->moved == NULL || v->version < s->version || v->moved[k] > s->version;
}

static void read_biases(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->bias[i] = v->log_const[k + i] + v->price[k + i];
}

/* Where rows of the tile from component k on are, or are put while they are packed. */
static float *rows_from(const struct estep *s, size_t k)
{
    return s->component_rows ? s->component_rows + k * s->width : s->rows;
}

static void read_rows(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    float *rows = rows_from(s, k);
    if (is_tied(s))
        whiten_means(s, v, k, n);
    for (size_t i = 0; i < n && !is_tied(s); i++)
        component_row(v, k + i, rows + i * s->width);
}

static bool keeps_operand(const struct estep *s)
{
    return s->sieve == NULL || s->component_rows != NULL;
}

/* The tile of n components from k on, of which all rows are read. */
static void pack_whole(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    read_rows(s, v, k, n);
    if (keeps_operand(s))
        pack_rows(rows_from(s, k), n, s->width, s->bias, s->logit_operand + k / TILE_COMPONENTS * s->logit_size);
    if (s->sieve)
        sieve_set_tile(s->sieve, k, n, rows_from(s, k));
}

/* The same when few of its components moved. */
static void pack_moved(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    float *packed = s->logit_operand + k / TILE_COMPONENTS * s->logit_size;
    if (keeps_operand(s))
        tile_pack_bias(s->width, n, s->bias, packed);
    for (size_t i = 0; i < n; i++)
        if (has_moved(s, v, k + i)) {
            float *row = s->component_rows ? rows_from(s, k + i) : s->rows;
            component_row(v, k + i, row);
            if (keeps_operand(s))
                tile_pack_column(s->width, n, i, row, packed);
            if (s->sieve)
                sieve_set_row(s->sieve, k + i, row);
        }
}

static void pack_components(struct estep *s, const struct mixture_view *v, size_t k, size_t n)
{
    size_t moved = 0;
    if (s->width == 0)
        return;
    read_biases(s, v, k, n);
    for (size_t i = 0; i < n; i++)
        moved += has_moved(s, v, k + i);
    if (is_tied(s) || REPACK_SHARE * moved > n) /* a shared W moves all */
        pack_whole(s, v, k, n);
    else
        pack_moved(s, v, k, n);
    if (s->sieve)
        sieve_set_biases(s->sieve, k, n, s->bias);
}

static void normalise_moved(struct estep *s, const struct mixture_view *v)
{
    size_t D = s->D;
    for (size_t k = 0; k < s->K; k++)
        if (has_moved(s, v, k)) {
            memcpy(s->prototypes + k * D, v->mean + k * D, D * sizeof *s->prototypes);
            vec_normalise_rows(s->prototypes + k * D, 1, D, NULL);
        }
}

void estep_use(struct estep *s, const struct mixture_view *v)
{
    ASSERT(v->K == s->K && v->D == s->D && operand_width(v->covariance, v->D) == s->width &&
           is_tied(s) == (v->covariance == COVARIANCE_TIED));
    s->view = v;
    if (s->loaded && s->version == v->version)
        return;
    normalise_moved(s, v);
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

/* The packed operand of the tile of components from k on; when it is not kept it is packed when it is wanted. */
static const float *tile_operand(struct estep *s, size_t k)
{
    if (keeps_operand(s))
        return s->logit_operand + k / TILE_COMPONENTS * s->logit_size;
    read_biases(s, s->view, k, tile_at(s, k));
    read_rows(s, s->view, k, tile_at(s, k));
    pack_rows(s->rows, tile_at(s, k), s->width, s->bias, s->logit_operand);
    return s->logit_operand;
}

/* Logits into s->logits of rows that start at in[i] and whose logits start at out[i]. */
static void rows_logits(struct estep *s, const float *input, uint32_t *in, uint32_t *out, size_t rows)
{
    for (size_t k = 0; k < s->K && rows > 0; k += TILE_COMPONENTS)
        tile_product(input, in, rows, s->width, tile_at(s, k), tile_operand(s, k), s->logits + k, out);
}

/* The operand's row of component k; `scratch` (width) has it when none is kept. */
static const float *row_of(const struct estep *s, size_t k, float *scratch)
{
    if (s->component_rows)
        return s->component_rows + k * s->width;
    component_row(s->view, k, scratch);
    return scratch;
}

static float bias_of(const struct estep *s, size_t k)
{
    return s->view->log_const[k] + s->view->price[k];
}

/* A lower limit of row i's largest logit: by how much the largest bound may be too large; or the logit of its component,
 * where the product costs little beside the other ones of the row. */
static float largest_logit(struct estep *s, uint32_t i, const float *x)
{
    uint32_t k = sieve_best(s->sieve, i);
    if (s->component_rows)
        return sieve_largest(s->sieve, i) - 2 * sieve_error(s->sieve, k);
    float largest = bias_of(s, k) + vec_dot(x, row_of(s, k, s->rows), s->width);
    return largest - 0.25f * sieve_error(s->sieve, k) - 1e-5f * fabsf(largest);
}

/* Below which bound a component is further from row i's largest logit than s->cutoff; NaN when the row is no number. */
static float sieve_threshold(struct estep *s, uint32_t i, const float *x)
{
    return largest_logit(s, i, x) - (1.001f * s->cutoff + 0.01f) / (float)s->beta;
}

/* Logits of the pairs that pass, PAIRS at a time; `pairs` of them, whole quads. */
static void refine_passing(struct estep *s, const float *input, const uint32_t *at, uint32_t pairs)
{
    struct quads q;
    for (uint32_t first = 0; first < pairs; first += PAIRS) {
        for (uint32_t j = 0; j < PAIRS; j++) {
            uint32_t pair = first + j < pairs ? first + j : pairs - 1, k = s->passing[pair];
            q.x[j / QUAD] = input + at[s->quad_row[pair / QUAD]];
            q.r[j] = row_of(s, k, s->rows + (size_t)j * s->width);
            q.logit[j] = bias_of(s, k);
        }
        refine_quads(&q, s->width);
        memcpy(s->passing_logits + first, q.logit, (pairs - first < PAIRS ? pairs - first : PAIRS) * sizeof *q.logit);
    }
}

/* Lists what may matter to row i from pair `first` on, whole quads; returns how many pairs, 0 when there are too many. */
static uint32_t list_passing(struct estep *s, uint32_t i, const float *x, uint32_t first)
{
    float threshold = sieve_threshold(s, i, x);
    uint32_t most = s->passing_max - first, limit = s->K / PASSING_SHARE < most ? s->K / PASSING_SHARE : most;
    uint32_t n = isfinite(threshold) ? sieve_list(s->sieve, i, threshold, limit, s->passing + first) : 0;
    if (n == 0 || n > limit)
        return 0;
    s->passing_of[i] = (struct span_of){first, n};
    for (uint32_t j = 0; j < QUAD - 1; j++) /* up to a whole quad; there is room for all */
        s->passing[first + n + j] = s->passing[first + n - 1];
    n = (n + QUAD - 1) / QUAD * QUAD;
    for (uint32_t j = 0; j < n; j += QUAD)
        s->quad_row[(first + j) / QUAD] = i;
    return n;
}

/* What passes the sieve for each of the block's rows, and its logits; of rows for which too much does, all. */
static void sift(struct estep *s, const float *input, uint32_t *at, uint32_t rows)
{
    uint32_t pairs = 0, whole = 0;
    sieve_bound(s->sieve, input, at, rows, s->logits, s->logit_at);
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t listed = list_passing(s, i, input + at[i], pairs);
        pairs += listed;
        if (listed > 0)
            continue;
        s->passing_of[i] = (struct span_of){0, 0};
        s->whole_at[whole] = at[i];
        s->whole_logit_at[whole++] = s->logit_at[i];
    }
    refine_passing(s, input, at, pairs);
    rows_logits(s, input, s->whole_at, s->whole_logit_at, whole);
    s->skip = 2 * whole > rows ? SKIPPED : 0;
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

/* Those of the n values in s->row that are above 0 and no less than `limit`, in order; of those that are just as large only components up
 * to `last`. Writes and counts them. */
static uint32_t collect(struct estep *s, uint32_t n, struct kept limit, uint32_t *index, float *value)
{
    float least = limit.value > FLT_MIN ? limit.value : FLT_MIN; /* denormals are flushed */
    float *found = s->near_logit;                                /* the logits have done their part */
    uint32_t listed = vec_list(s->row, n, s->near, 1, least, s->found, found), kept = 0;
    for (uint32_t j = 0; j < listed; j++) {
        if (!(found[j] > 0) || (found[j] == limit.value && s->found[j] > limit.index))
            continue;
        index[kept] = s->found[j];
        value[kept++] = found[j];
    }
    return kept;
}

/* Whether a is given up before b: it is smaller, or equal and of higher index. The index makes the order total, so that
 * which responsibilities are kept does not depend on the heap's history. */
static bool weaker(struct kept a, struct kept b)
{
    return a.value < b.value || (a.value == b.value && a.index > b.index);
}

HEAP_DEFINE(kept_heap, struct kept, weaker) /* the weakest at the root */

/* The weakest of the `top` largest of the n values in s->row; the caller drops everything weaker. */
static struct kept top_threshold(struct estep *s, uint32_t n)
{
    size_t m = s->options.top, count = 0;
    for (uint32_t j = 0; j < n; j++) {
        struct kept candidate = {s->near[j], s->row[j]};
        if (count < m) {
            s->top[count] = candidate;
            kept_heap_rise(s->top, count++);
        } else if (weaker(s->top[0], candidate)) {
            s->top[0] = candidate;
            kept_heap_sink(s->top, m, 0);
        }
    }
    return count < m ? (struct kept){s->K, 0} : s->top[0];
}

/* Appends the row's responsibilities from the n values in s->row, which sum to `total`; returns the share that was
 * dropped. */
static double keep_row(struct estep *s, uint32_t i, uint32_t n, double total)
{
    struct kept limit = {s->K, (float)(s->options.drop * total)};
    if (s->options.top > 0) {
        struct kept top = top_threshold(s, n);
        limit = weaker(limit, top) ? top : limit;
    }
    uint32_t begin = s->start[i];
    uint32_t count = collect(s, n, limit, s->index + begin, s->gamma + begin);
    ASSERT(begin + count <= s->nonzero_max);
    double sum = 0;
    for (uint32_t z = begin; z < begin + count; z++)
        sum += s->gamma[z];
    vec_scale(s->gamma + begin, (float)(1 / sum), count);
    s->start[i + 1] = begin + count;
    return total > sum ? 1 - sum / total : 0;
}

/* s->row = exp(beta (l - max)) of the n logits in s->near_logit; returns the sum. Whole spans, so that every element is
 * computed by the same instructions wherever it stands. */
static double exponentials(struct estep *s, uint32_t n, float beta, float max)
{
    uint32_t whole = (n + SPAN - 1) / SPAN * SPAN;
    for (uint32_t j = n; j < whole; j++)
        s->near_logit[j] = -INFINITY;
    scale_into(s->near_logit, beta, whole, s->row);
    return vec_exp_shifted(s->row, beta * max, whole);
}

/* The first of n components in s->near whose logit is the largest; the last of all when there is none, should the network
 * have diverged. */
static uint32_t first_near(const struct estep *s, uint32_t n, float max)
{
    for (uint32_t j = 0; j < n; j++)
        if (s->near_logit[j] >= max)
            return s->near[j];
    return s->K - 1;
}

#if KERNELS_X86

enum { SHORT = 16 };
static const float SHORT_DROP_MIN = 1e-7f;

/* Lists what counts of n <= SHORT logits, as finish_row does, and fills s->near and s->row up to a SPAN. Returns how many. */
KERNELS_TARGET_AVX512 static uint32_t list_short(struct estep *s, const float *logits, uint32_t n,
                                                 const uint32_t *component, uint32_t i, float *max)
{
    const __mmask16 there = (__mmask16)(n < SHORT ? (1u << n) - 1 : 0xffffu);
    const __m512 none = _mm512_set1_ps(-INFINITY), l = _mm512_mask_loadu_ps(none, there, logits);
    const __m512i name = _mm512_maskz_loadu_epi32(there, component);
    *max = _mm512_reduce_max_ps(l);
    __mmask16 counts = _mm512_mask_cmp_ps_mask(there, l, _mm512_set1_ps(*max - s->cutoff), _CMP_NLT_UQ);
    __mmask16 largest = _mm512_mask_cmp_ps_mask(counts, l, _mm512_set1_ps(*max), _CMP_GE_OQ);
    s->assigned[i] = component[__builtin_ctz(largest)];
    _mm512_storeu_si512(s->near, _mm512_maskz_compress_epi32(counts, name));
    _mm512_storeu_ps(s->row, _mm512_mask_compress_ps(none, counts, l));
    _mm512_storeu_ps(s->row + SHORT, none);
    return (uint32_t)__builtin_popcount(counts);
}

/* keep_row of the n <= SHORT values in s->row. The sum is exact in double, and so in any order: of 16 floats none of which
 * is smaller than SHORT_DROP_MIN of their sum. */
KERNELS_TARGET_AVX512 static double keep_short(struct estep *s, uint32_t i, uint32_t n, double total)
{
    const uint32_t begin = s->start[i];
    const float limit = (float)(s->options.drop * total), least = limit > FLT_MIN ? limit : FLT_MIN;
    const __m512 e = _mm512_loadu_ps(s->row);
    const __mmask16 first = (__mmask16)(n < SHORT ? (1u << n) - 1 : 0xffffu);
    const __mmask16 kept = _mm512_mask_cmp_ps_mask(first, e, _mm512_set1_ps(least), _CMP_NLT_UQ);
    const __m512 g = _mm512_maskz_compress_ps(kept, e);
    const double sum = _mm512_reduce_add_pd(
        _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(g)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(g, 1))));
    const __m512i name = _mm512_maskz_compress_epi32(kept, _mm512_loadu_si512(s->near));
    ASSERT(begin + (uint32_t)__builtin_popcount(kept) <= s->nonzero_max);
    _mm512_storeu_ps(s->gamma + begin, _mm512_mul_ps(g, _mm512_set1_ps((float)(1 / sum))));
    _mm512_storeu_si512(s->index + begin, name);
    s->start[i + 1] = begin + (uint32_t)__builtin_popcount(kept);
    return total > sum ? 1 - sum / total : 0;
}

/* Whether a row of n logits may go by the two above, which give the same bits as the general way. */
static bool is_short(const struct estep *s, uint32_t n, const uint32_t *component)
{
    return component != NULL && n <= SHORT && s->beta == 1 && s->options.top == 0 &&
           s->options.drop >= SHORT_DROP_MIN && kernels_chosen() >= KERNELS_AVX512;
}

static void finish_short(struct estep *s, const float *logits, uint32_t n, const uint32_t *component, uint32_t i,
                         struct stats_extra *extra)
{
    float max;
    uint32_t near = list_short(s, logits, n, component, i, &max);
    double total = vec_exp_shifted(s->row, max, SPAN);
    extra->loglik += max + log(total);
    extra->dropped += keep_short(s, i, near, total);
}

#endif

/* Softmax of one row of n logits, of the components that are listed, or of all. The largest term is exp(0) = 1, so that
 * nothing overflows. */
static void finish_row(struct estep *s, const float *logits, uint32_t n, const uint32_t *component, uint32_t i,
                       struct stats_extra *extra)
{
#if KERNELS_X86
    if (is_short(s, n, component)) {
        finish_short(s, logits, n, component, i, extra);
        return;
    }
#endif
    float max = vec_max(logits, n), beta = (float)s->beta;
    uint32_t near = vec_list(logits, n, component, beta, beta * max - s->cutoff, s->near, s->near_logit);
    s->assigned[i] = first_near(s, near, max);
    double evidence = beta == 1 ? 0 : exponentials(s, near, 1, max), total = exponentials(s, near, beta, max);
    extra->loglik += max + log(beta == 1 ? total : evidence);
    extra->dropped += keep_row(s, i, near, total);
}

/* Which of the block's rows may be as far as novel_distance from every prototype: the one that a row is assigned to
 * is not clearly nearer. "Clearly" is beyond what rounding can do to two sums of D products of unit rows. */
static uint32_t choose_searched(struct estep *s, const float *h, const uint32_t *assigned, uint32_t rows)
{
    size_t D = s->D;
    float near = 1 - s->options.novel_distance + (float)(D + 8) * FLT_EPSILON;
    uint32_t count = 0;
    for (uint32_t i = 0; i < rows; i++)
        if (!(vec_dot(h + i * D, s->prototypes + assigned[i] * D, D) > near)) {
            memcpy(s->search_rows + count * D, h + i * D, D * sizeof *h);
            s->searched[count++] = i;
        }
    return count;
}

/* Adds the block's rows that are far from every prototype to s->far. */
static uint32_t block_candidates(struct estep *s, const float *h, uint32_t first, uint32_t rows, uint32_t found)
{
    uint32_t searched = choose_searched(s, h, s->assigned + first, rows);
    if (searched > 0)
        novelty_search(s->novelty, s->search_rows, searched, s->prototypes, 1 - s->options.novel_distance, s->nearest);
    for (uint32_t i = 0; i < searched; i++) {
        float distance = 1 - s->nearest[i];
        if (distance >= s->options.novel_distance)
            s->far[found++] = (struct kept){first + s->searched[i], distance};
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

/* The responsibilities of the block's rows, which are `first` and on. */
static void finish_block(struct estep *s, const float *h, uint32_t first, uint32_t rows, struct stats_extra *extra)
{
    uint32_t *at;
    const float *input = operand_input(s, h, rows, &at);
    bool sifted = s->sieve != NULL && s->skip == 0;
    if (s->whitened)
        whitened_logits(s->whitened, h, rows, s->logits);
    else if (sifted)
        sift(s, input, at, rows);
    else
        rows_logits(s, input, at, s->logit_at, rows);
    s->skip -= !sifted && s->skip > 0;
    for (uint32_t i = 0; i < rows; i++) {
        struct span_of p = sifted ? s->passing_of[i] : (struct span_of){0, 0};
        if (p.count > 0)
            finish_row(s, s->passing_logits + p.first, p.count, s->passing + p.first, first + i, extra);
        else
            finish_row(s, s->logits + s->logit_at[i], s->K, NULL, first + i, extra);
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
        finish_block(s, h + (size_t)first * s->D, first, rows, &out->extra);
        out->extra.loglik += block_shift(s, rows);
        if (s->options.novel_max > 0)
            found = block_candidates(s, h + (size_t)first * s->D, first, rows, found);
    }
    pick_candidates(s, h, found, &out->extra);
    if (s->options.covariance != COVARIANCE_VMF) /* whose log_const has all of it */
        out->extra.loglik -= N * (s->D / 2.0) * log(2 * M_PI);
    out->extra.assigned = s->assigned;
    out->gamma = (struct responsibilities){N, s->start, s->index, s->gamma};
}
