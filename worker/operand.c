/* Rows of the operand are computed from the view; a new version changes the columns of those that moved. */
#include "worker/operand.h"

#include <math.h>
#include <string.h>
#include "common/error.h"
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/nn/tiles.h"
#include "worker/words.h"

enum {
    TILE_COMPONENTS = SIEVE_TILE,
    KEPT_FLOATS_MAX = 1 << 22, /* of rows of the operand beside a sieve; more are computed when they are wanted */
    REPACK_SHARE = 4,          /* a tile of which more than one component in four moved is packed as a whole */
};

static size_t tile_at(const struct operand *s, size_t k)
{
    return s->K - k < TILE_COMPONENTS ? s->K - k : TILE_COMPONENTS;
}

static bool is_tied(const struct operand *s)
{
    return s->covariance == COVARIANCE_TIED;
}

static uint32_t width_of(enum covariance c, uint32_t D)
{
    return c == COVARIANCE_FULL ? 0 : c == COVARIANCE_VMF || c == COVARIANCE_TIED ? D : 2 * D;
}

/* ---- life ---- */

static bool allocate(struct operand *s)
{
    size_t K = s->K, D = s->D, tile = tile_at(s, 0), tiles = (K + TILE_COMPONENTS - 1) / TILE_COMPONENTS;
    bool kept = s->sieve == NULL || K * s->width <= KEPT_FLOATS_MAX;
    s->logit_size = s->width > 0 ? tile_packed_size(s->width, tile) : 0;
    s->shared_operand = words(is_tied(s) ? tile_packed_size(D, D) : 0);
    s->component_rows = s->sieve && kept ? words(K * s->width) : NULL;
    s->logit_operand = words((kept ? tiles : 1) * s->logit_size);
    s->rows = words(s->width * tile);
    s->bias = words(tile);
    s->prototypes = words(K * D);
    s->squares = words(s->width == 2 * D ? s->rows_max * 2 * D : is_tied(s) ? s->rows_max * D : 0);
    s->square_at = words_apart(s->rows_max, 2 * D);
    s->h_at = words_apart(s->rows_max, D);
    return s->shared_operand && s->logit_operand && s->rows && s->bias && s->prototypes && s->squares && s->square_at &&
           s->h_at && (s->component_rows || !s->sieve || !kept);
}

int operand_new(uint32_t rows_max, uint32_t K, uint32_t D, enum covariance c, struct operand **out)
{
    struct operand *s = *out = calloc(1, sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    *s = (struct operand){.rows_max = rows_max, .K = K, .D = D, .covariance = c, .width = width_of(c, D)};
    int rc = 0;
    if (!is_tied(s) && sieve_pays(K, s->width))
        rc = sieve_new(rows_max, K, s->width, D, &s->sieve);
    if (rc == 0 && !allocate(s))
        rc = ERR_MEMORY;
    if (rc == 0 && s->width == 0)
        rc = whitened_new(rows_max, K, D, &s->whitened);
    if (rc != 0)
        operand_free(out);
    return rc;
}

void operand_free(struct operand **s)
{
    if (*s == NULL)
        return;
    void *const owned[] = {(*s)->shared_operand, (*s)->component_rows, (*s)->logit_operand, (*s)->rows, (*s)->bias,
                           (*s)->prototypes,     (*s)->squares,        (*s)->square_at,     (*s)->h_at};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    whitened_free(&(*s)->whitened);
    sieve_free(&(*s)->sieve);
    free(*s);
    *s = NULL;
}

/* ---- a version ---- */

/* One row [-1/2 1/v | mu/v]; variance (D), or (1) when spherical. */
STATIC_KERNEL(void, gaussian_row,
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
        gaussian_row(v->mean + k * D, v->variance + k, true, D, out);
    else
        gaussian_row(v->mean + k * D, v->variance + k * D, false, D, out);
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
static void pack_shared(struct operand *s, const float *whitening)
{
    s->log_det = 0;
    for (size_t d = 0; d < s->D; d++)
        s->log_det += log((double)whitening[d * (s->D + 1)]);
    pack_rows(whitening, s->D, s->D, NULL, s->shared_operand);
}

static void whiten_means(struct operand *s, const struct mixture_view *v, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i += s->rows_max) {
        size_t rows = n - i < s->rows_max ? n - i : s->rows_max;
        tile_product(v->mean + (k + i) * s->D, s->h_at, rows, s->D, s->D, s->shared_operand, s->rows + i * s->D,
                     s->h_at);
    }
    for (size_t i = 0; i < n; i++)
        s->bias[i] -= 0.5f * vec_dot(s->rows + i * s->D, s->rows + i * s->D, s->D);
}

/* Whether what is held of component k is not what it is in v. */
static bool has_moved(const struct operand *s, const struct mixture_view *v, size_t k)
{
    return !s->loaded || v->moved == NULL || v->version < s->version || v->moved[k] > s->version;
}

static void read_biases(struct operand *s, const struct mixture_view *v, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->bias[i] = v->log_const[k + i] + v->price[k + i];
}

/* Where rows of the tile from component k on are, or are put while they are packed. */
static float *rows_from(const struct operand *s, size_t k)
{
    return s->component_rows ? s->component_rows + k * s->width : s->rows;
}

static void read_rows(struct operand *s, const struct mixture_view *v, size_t k, size_t n)
{
    float *rows = rows_from(s, k);
    if (is_tied(s))
        whiten_means(s, v, k, n);
    for (size_t i = 0; i < n && !is_tied(s); i++)
        component_row(v, k + i, rows + i * s->width);
}

static bool keeps_operand(const struct operand *s)
{
    return s->sieve == NULL || s->component_rows != NULL;
}

/* The tile of n components from k on, of which all rows are read. */
static void pack_whole(struct operand *s, const struct mixture_view *v, size_t k, size_t n)
{
    read_rows(s, v, k, n);
    if (keeps_operand(s))
        pack_rows(rows_from(s, k), n, s->width, s->bias, s->logit_operand + k / TILE_COMPONENTS * s->logit_size);
    if (s->sieve)
        sieve_set_tile(s->sieve, k, n, rows_from(s, k));
}

/* The same when few of its components moved. */
static void pack_moved(struct operand *s, const struct mixture_view *v, size_t k, size_t n)
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

static void pack_components(struct operand *s, const struct mixture_view *v, size_t k, size_t n)
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

static void normalise_moved(struct operand *s, const struct mixture_view *v)
{
    size_t D = s->D;
    for (size_t k = 0; k < s->K; k++)
        if (has_moved(s, v, k)) {
            memcpy(s->prototypes + k * D, v->mean + k * D, D * sizeof *s->prototypes);
            vec_normalise_rows(s->prototypes + k * D, 1, D, NULL);
        }
}

void operand_use(struct operand *s, const struct mixture_view *v)
{
    ASSERT(v->K == s->K && v->D == s->D && width_of(v->covariance, v->D) == s->width &&
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

/* ---- rows ---- */

STATIC_KERNEL(void, square_row, (const float *restrict h, size_t D, float *restrict out), (h, D, out))
{
    for (size_t d = 0; d < D; d++) {
        out[d] = h[d] * h[d];
        out[D + d] = h[d];
    }
}

const float *operand_input(struct operand *s, const float *h, size_t rows, uint32_t **at)
{
    *at = s->width == s->D ? s->h_at : s->square_at;
    if (is_tied(s))
        tile_product(h, s->h_at, rows, s->D, s->D, s->shared_operand, s->squares, s->h_at);
    for (size_t i = 0; i < rows && s->width == 2 * s->D; i++)
        square_row(h + i * s->D, s->D, s->squares + 2 * i * s->D);
    return s->width == s->D && !is_tied(s) ? h : s->squares;
}

/* The packed operand of the tile of components from k on; when it is not kept it is packed when it is wanted. */
static const float *tile_operand(struct operand *s, size_t k)
{
    if (keeps_operand(s))
        return s->logit_operand + k / TILE_COMPONENTS * s->logit_size;
    read_biases(s, s->view, k, tile_at(s, k));
    read_rows(s, s->view, k, tile_at(s, k));
    pack_rows(s->rows, tile_at(s, k), s->width, s->bias, s->logit_operand);
    return s->logit_operand;
}

void operand_logits(struct operand *s, const float *input, uint32_t *in, size_t rows, float *logits, uint32_t *out)
{
    for (size_t k = 0; k < s->K && rows > 0; k += TILE_COMPONENTS)
        tile_product(input, in, rows, s->width, tile_at(s, k), tile_operand(s, k), logits + k, out);
}

const float *operand_make_row(const struct operand *s, size_t k, float *scratch)
{
    component_row(s->view, k, scratch);
    return scratch;
}

double operand_shift(const struct operand *s, size_t rows)
{
    double shift = 0;
    for (size_t i = 0; i < rows && is_tied(s); i++)
        shift += s->log_det - 0.5 * (double)vec_dot(s->squares + i * s->D, s->squares + i * s->D, s->D);
    return shift;
}
