/* Small products over heads and samples; see cls_attention.h. */
#include "worker/nn/cls_attention.h"

#include <math.h>
#include <string.h>
#include "common/error.h"
#include "worker/nn/rows.h"
#include "worker/nn/scores.h"
#include "worker/nn/transpose.h"

static void carve_tables(struct cls_attention *t)
{
    uint32_t T = t->tokens, dim = t->dim, all = t->heads * dim, longest = T > dim ? T : dim;
    uint32_t *samples = arena_strides(&t->tables, t->samples, dim),
             *wide_samples = arena_strides(&t->tables, t->samples, all);
    uint32_t *heads = arena_strides(&t->tables, t->heads, dim), *rows = arena_strides(&t->tables, t->heads, t->padded);
    uint32_t *left = arena_strides(&t->tables, longest, 1);
    const enum encoder_precision precision = t->precision;
    t->widen = (struct gather){
        .runs = 1, .run = t->width, .columns = dim, .in = samples, .out = wide_samples, .precision = precision};
    t->narrow = (struct gather){
        .runs = 1, .run = dim, .columns = t->width, .in = wide_samples, .out = samples, .precision = precision};
    t->weight = (struct outer){
        .columns = t->width, .left_count = dim, .left = left, .a = wide_samples, .d = samples, .precision = precision};
    t->scores = (struct gather){.runs = 1, .run = dim, .columns = T, .in = heads, .out = rows, .precision = precision};
    t->mix = (struct gather){.runs = 1, .run = T, .columns = dim, .in = rows, .out = heads, .precision = precision};
    t->spread =
        (struct outer){.columns = dim, .left_count = T, .left = left, .a = rows, .d = heads, .precision = precision};
}

int cls_attention_init(struct cls_attention *t, uint32_t tokens, uint32_t dim, uint32_t heads, uint32_t samples,
                       enum encoder_precision precision)
{
    ASSERT(heads > 0 && dim % heads == 0);
    *t = (struct cls_attention){.tokens = tokens,
                                .dim = dim,
                                .heads = heads,
                                .width = dim / heads,
                                .samples = samples,
                                .padded = scores_length(tokens),
                                .precision = precision};
    t->wide = tile_packed_size_in(precision, t->width, dim);
    t->narrowed = tile_packed_size_in(precision, dim, t->width);
    t->share = tile_gradient_size_in(precision, dim, t->width);
    carve_tables(t);
    if (arena_allocate(&t->tables) != 0 || linear_init(&t->query, dim, dim, precision) != 0)
        return ERR_MEMORY;
    carve_tables(t);
    return 0;
}

void cls_attention_fini(struct cls_attention *t)
{
    linear_fini(&t->query);
    arena_free(&t->tables);
}

void cls_attention_carve(const struct cls_attention *t, size_t places, struct cls_store *s, struct arena *a)
{
    size_t H = t->heads;
    s->q = arena_reals(a, places * t->dim);
    s->u = arena_reals(a, places * H * t->dim);
    s->m = arena_reals(a, places * H * t->dim);
    s->probabilities = arena_reals(a, places * H * t->padded);
    s->query_forward = arena_reals(a, linear_packed_forward_size(&t->query));
    s->query_backward = arena_reals(a, linear_packed_backward_size(&t->query));
    s->query_gradient = arena_reals(a, linear_gradient_size(&t->query));
    s->key_widen = arena_reals(a, H * t->wide);
    s->value_widen = arena_reals(a, H * t->wide);
    s->key_narrow = arena_reals(a, H * t->narrowed);
    s->value_narrow = arena_reals(a, H * t->narrowed);
    s->key_gradient = arena_reals(a, H * t->share);
    s->value_gradient = arena_reals(a, H * t->share);
}

void cls_scratch_carve(const struct cls_attention *t, struct cls_scratch *s, struct arena *a)
{
    size_t across = tile_packed_size_in(t->precision, t->dim, t->tokens),
           along = tile_packed_size_in(t->precision, t->tokens, t->dim), n = t->samples, H = t->heads;
    s->packed = arena_reals(a, across > along ? across : along);
    s->gradient = arena_reals(a, tile_gradient_size_in(t->precision, t->tokens, t->dim));
    s->first = arena_reals(a, n * t->dim);
    s->d_q = arena_reals(a, n * t->dim);
    s->d_u = arena_reals(a, n * H * t->dim);
    s->d_m = arena_reals(a, n * H * t->dim);
    s->d_scores = arena_reals(a, H * t->padded);
}

struct cls_store cls_store_at(const struct cls_attention *t, const struct cls_store *s, size_t first)
{
    struct cls_store at = *s;
    at.q += first * t->dim;
    at.u += first * t->heads * t->dim;
    at.m += first * t->heads * t->dim;
    at.probabilities += first * t->heads * t->padded;
    return at;
}

/* ---- weights ---- */

/* Each head's rows of a matrix (dim,dim) as the operand of width -> dim. */
static void pack_widen(const struct cls_attention *t, const real *weight, real *packed)
{
    struct pack p = {.K = t->width,
                     .columns = t->dim,
                     .n = t->width,
                     .row_stride = t->dim,
                     .column_stride = 1,
                     .precision = t->precision};
    for (size_t h = 0; h < t->heads; h++, packed += t->wide) {
        tile_pack(&p, weight + h * t->width * t->dim, packed);
        tile_pack_bias_in(t->precision, p.K, p.columns, NULL, packed);
    }
}

static struct pack narrow_pack(const struct cls_attention *t)
{
    return (struct pack){.K = t->dim,
                         .columns = t->width,
                         .n = t->dim,
                         .row_stride = 1,
                         .column_stride = t->dim,
                         .precision = t->precision};
}

/* ... of dim -> width; bias (dim) or NULL. */
static void pack_narrow(const struct cls_attention *t, const real *weight, const real *bias, real *packed)
{
    struct pack p = narrow_pack(t);
    for (size_t h = 0; h < t->heads; h++, packed += t->narrowed) {
        tile_pack(&p, weight + h * t->width * t->dim, packed);
        tile_pack_bias_in(t->precision, p.K, p.columns, bias ? bias + h * t->width : NULL, packed);
    }
}

void cls_attention_begin_forward(const struct cls_attention *t, const real *weight, const real *bias,
                                 const struct cls_store *s)
{
    size_t matrix = (size_t)t->dim * t->dim;
    linear_pack_forward(&t->query, weight, bias, s->query_forward);
    pack_widen(t, weight + matrix, s->key_widen);
    pack_narrow(t, weight + 2 * matrix, bias + (size_t)2 * t->dim, s->value_narrow);
}

void cls_attention_begin_backward(const struct cls_attention *t, const real *weight, const struct cls_store *s)
{
    size_t matrix = (size_t)t->dim * t->dim, share = t->heads * t->share * sizeof(real);
    linear_pack_backward(&t->query, weight, s->query_backward);
    pack_narrow(t, weight + matrix, NULL, s->key_narrow);
    pack_widen(t, weight + 2 * matrix, s->value_widen);
    memset(s->query_gradient, 0, linear_gradient_size(&t->query) * sizeof(real));
    memset(s->key_gradient, 0, share);
    memset(s->value_gradient, 0, share);
}

void cls_attention_end_backward(const struct cls_attention *t, const struct cls_store *s, real *weight_gradient)
{
    struct pack p = narrow_pack(t);
    size_t matrix = (size_t)t->dim * t->dim;
    linear_unpack_gradient(&t->query, s->query_gradient, weight_gradient);
    for (size_t h = 0; h < t->heads; h++) {
        real *to = weight_gradient + matrix + h * t->width * t->dim;
        tile_unpack_gradient(&p, s->key_gradient + h * t->share, to);
        tile_unpack_gradient(&p, s->value_gradient + h * t->share, to + matrix);
    }
}

/* ---- passes ---- */

/* (n,dim) to (n,heads,dim), each head's part by its own packed matrix, and back. */
static void widen(const struct cls_attention *t, size_t n, const real *x, const real *packed, real *y)
{
    for (size_t h = 0; h < t->heads; h++, packed += t->wide)
        gather_product(&t->widen, n, x + h * t->width, packed, y + h * t->dim);
}

static void narrow(const struct cls_attention *t, size_t n, const real *x, const real *packed, real *y)
{
    for (size_t h = 0; h < t->heads; h++, packed += t->narrowed)
        gather_product(&t->narrow, n, x + h * t->dim, packed, y + h * t->width);
}

/* gradient += that of each head's matrix, from what its narrow side and its wide side met. */
static void add_weight(const struct cls_attention *t, size_t n, const real *wide, const real *slim, real *gradient)
{
    for (size_t h = 0; h < t->heads; h++, gradient += t->share)
        gather_outer(&t->weight, n, wide + h * t->dim, slim + h * t->width, gradient);
}

/* c (heads,T) = a (heads,dim) times each of a sample's tokens. */
static void score_tokens(const struct cls_attention *t, const real *a, const real *x, real *packed, real *c)
{
    struct pack p = {.K = t->dim,
                     .columns = t->tokens,
                     .n = t->dim,
                     .row_stride = 1,
                     .column_stride = t->dim,
                     .precision = t->precision};
    tile_pack(&p, x, packed);
    tile_pack_bias_in(t->precision, p.K, p.columns, NULL, packed);
    gather_product(&t->scores, t->heads, a, packed, c);
}

/* A sample's tokens as rows. */
static struct pack token_rows(const struct cls_attention *t)
{
    return (struct pack){.K = t->tokens,
                         .columns = t->dim,
                         .n = t->tokens,
                         .row_stride = t->dim,
                         .column_stride = 1,
                         .precision = t->precision};
}

/* c (heads,dim) = mixtures of a sample's tokens, by a (heads,T). */
static void mix_tokens(const struct cls_attention *t, const real *a, const real *x, real *packed, real *c)
{
    struct pack p = token_rows(t);
    if (tile_in_place(t->precision, t->dim)) {
        gather_product_in_place(&t->mix, t->heads, a, x, t->dim, c);
        return;
    }
    tile_pack(&p, x, packed);
    tile_pack_bias_in(t->precision, p.K, p.columns, NULL, packed);
    gather_product(&t->mix, t->heads, a, packed, c);
}

static real score_scale(const struct cls_attention *t)
{
    return 1 / (real)sqrt((double)t->width);
}

void cls_attention_forward(const struct cls_attention *t, size_t n, const real *x, const struct cls_store *s,
                           const struct cls_scratch *w, real *output)
{
    size_t sample = (size_t)t->tokens * t->dim, wide = (size_t)t->heads * t->dim;
    copy_rows(x, sample, n, t->dim, w->first, t->dim);
    linear_forward(&t->query, n, w->first, s->query_forward, s->q);
    widen(t, n, s->q, s->key_widen, s->u);
    for (size_t i = 0; i < n; i++) {
        real *p = s->probabilities + i * t->heads * t->padded;
        score_tokens(t, s->u + i * wide, x + i * sample, w->packed, p);
        scores_normalise(t->heads, t->tokens, score_scale(t), p);
        mix_tokens(t, p, x + i * sample, w->packed, s->m + i * wide);
    }
    narrow(t, n, s->m, s->value_narrow, output);
}

/* Sample i: d_u, and d_x but for what the query adds. */
static void sample_backward(const struct cls_attention *t, size_t i, const real *x, const struct cls_store *s,
                            const struct cls_scratch *w, real *d_x)
{
    struct pack rows = token_rows(t);
    size_t wide = (size_t)t->heads * t->dim;
    const real *p = s->probabilities + i * t->heads * t->padded, *d_m = w->d_m + i * wide;
    score_tokens(t, d_m, x, w->packed, w->d_scores);
    scores_gradient(t->heads, t->tokens, p, score_scale(t), w->d_scores);
    mix_tokens(t, w->d_scores, x, w->packed, w->d_u + i * wide);
    memset(w->gradient, 0, tile_gradient_size_in(t->precision, t->tokens, t->dim) * sizeof(real));
    gather_outer(&t->spread, t->heads, p, d_m, w->gradient);
    gather_outer(&t->spread, t->heads, w->d_scores, s->u + i * wide, w->gradient);
    tile_unpack_gradient(&rows, w->gradient, d_x);
}

static void add_bias(const struct cls_attention *t, size_t n, const real *d, real *gradient)
{
    for (size_t i = 0; i < n; i++)
        row_add(gradient, d + i * t->dim, t->dim);
}

void cls_attention_backward(const struct cls_attention *t, size_t n, const real *x, const real *d_output,
                            const struct cls_store *s, const struct cls_scratch *w, real *d_x, real *bias_gradient)
{
    size_t sample = (size_t)t->tokens * t->dim;
    widen(t, n, d_output, s->value_widen, w->d_m);
    add_weight(t, n, s->m, d_output, s->value_gradient);
    for (size_t i = 0; i < n; i++)
        sample_backward(t, i, x + i * sample, s, w, d_x + i * sample);
    narrow(t, n, w->d_u, s->key_narrow, w->d_q);
    add_weight(t, n, w->d_u, s->q, s->key_gradient);
    copy_rows(x, sample, n, t->dim, w->first, t->dim);
    linear_backward_weight(&t->query, n, w->first, w->d_q, s->query_gradient);
    linear_backward_input(&t->query, n, w->d_q, s->query_backward, w->first);
    for (size_t i = 0; i < n; i++)
        row_add(d_x + i * sample, w->first + i * t->dim, t->dim);
    add_bias(t, n, w->d_q, bias_gradient);
    add_bias(t, n, d_output, bias_gradient + (size_t)2 * t->dim);
}
