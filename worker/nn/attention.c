/* Six small products per head, all through the tile kernels; see attention.h. */
#include "worker/nn/attention.h"

#include <math.h>
#include <string.h>
#include "common/error.h"
#include "worker/nn/scores.h"

static uint32_t *carve_table(struct attention *t, size_t n, size_t stride)
{
    uint32_t *table = arena_offsets(&t->tables, n);
    for (size_t i = 0; table && i < n; i++)
        table[i] = (uint32_t)(i * stride);
    return table;
}

static void carve_tables(struct attention *t)
{
    uint32_t T = t->tokens;
    uint32_t *wide = carve_table(t, T, (size_t)3 * t->dim), *narrow = carve_table(t, T, t->dim);
    uint32_t *square = carve_table(t, T, t->padded), *left = carve_table(t, T, 1);
    t->scores =
        (struct gather){.runs = 1, .run = t->width, .columns = T, .in = wide, .out = square, .precision = t->precision};
    t->d_probabilities = t->scores;
    t->d_probabilities.in = narrow;
    t->mix = (struct gather){
        .runs = 1, .run = T, .columns = t->width, .in = square, .out = narrow, .precision = t->precision};
    t->d_q = t->mix;
    t->d_q.out = wide;
    t->d_v = (struct outer){
        .columns = t->width, .left_count = T, .left = left, .a = square, .d = narrow, .precision = t->precision};
    t->d_k = t->d_v;
    t->d_k.d = wide;
}

int attention_init(struct attention *t, uint32_t tokens, uint32_t dim, uint32_t heads, enum encoder_precision precision)
{
    ASSERT(heads > 0 && dim % heads == 0);
    *t = (struct attention){.tokens = tokens,
                            .dim = dim,
                            .heads = heads,
                            .width = dim / heads,
                            .precision = precision,
                            .padded = scores_length(tokens)};
    carve_tables(t);
    if (arena_allocate(&t->tables) != 0)
        return ERR_MEMORY;
    carve_tables(t);
    return 0;
}

void attention_fini(struct attention *t)
{
    arena_free(&t->tables);
}

size_t attention_probabilities_size(const struct attention *t)
{
    return (size_t)t->heads * t->tokens * t->padded;
}

void attention_carve(const struct attention *t, struct attention_scratch *s, struct arena *a)
{
    size_t scores = tile_packed_size_in(t->precision, t->width, t->tokens),
           mix = tile_packed_size_in(t->precision, t->tokens, t->width);
    s->packed = arena_reals(a, scores > mix ? scores : mix);
    s->gradient = arena_reals(a, tile_gradient_size_in(t->precision, t->tokens, t->width));
    s->scores = arena_reals(a, (size_t)t->tokens * t->padded);
}

/* B(k, token) = source's value k of that token: (width, T). */
static void pack_transposed(const struct attention *t, const real *source, real *packed)
{
    struct pack p = {.K = t->width,
                     .columns = t->tokens,
                     .n = t->width,
                     .row_stride = 1,
                     .column_stride = (size_t)3 * t->dim,
                     .precision = t->precision};
    tile_pack(&p, source, packed);
    tile_pack_bias_in(t->precision, p.K, p.columns, NULL, packed);
}

/* B(token, k): (T, width). */
static void pack_tokens(const struct attention *t, const real *source, real *packed)
{
    struct pack p = {.K = t->tokens,
                     .columns = t->width,
                     .n = t->tokens,
                     .row_stride = (size_t)3 * t->dim,
                     .column_stride = 1,
                     .precision = t->precision};
    tile_pack(&p, source, packed);
    tile_pack_bias_in(t->precision, p.K, p.columns, NULL, packed);
}

/* target (T, width) inside (T, 3 dim) = packed sum of outer products of a's columns with d's rows. */
static void outer_tokens(const struct attention *t, const struct outer *o, const real *a, const real *d, real *gradient,
                         real *target)
{
    struct pack p = {.K = t->tokens,
                     .columns = t->width,
                     .n = t->tokens,
                     .row_stride = (size_t)3 * t->dim,
                     .column_stride = 1,
                     .precision = t->precision};
    memset(gradient, 0, tile_gradient_size_in(t->precision, t->tokens, t->width) * sizeof(real));
    gather_outer(o, t->tokens, a, d, gradient);
    tile_unpack_gradient(&p, gradient, target);
}

static real score_scale(const struct attention *t)
{
    return 1 / (real)sqrt((double)t->width);
}

void attention_forward(const struct attention *t, const real *qkv, real *probabilities, real *output,
                       const struct attention_scratch *s)
{
    for (size_t h = 0; h < t->heads; h++, probabilities += t->tokens * t->padded) {
        const real *q = qkv + h * t->width, *k = q + t->dim, *v = k + t->dim;
        pack_transposed(t, k, s->packed);
        gather_product(&t->scores, t->tokens, q, s->packed, probabilities);
        scores_normalise(t->tokens, t->tokens, score_scale(t), probabilities);
        pack_tokens(t, v, s->packed);
        gather_product(&t->mix, t->tokens, probabilities, s->packed, output + h * t->width);
    }
}

void attention_backward(const struct attention *t, const real *qkv, const real *probabilities, const real *d_output,
                        real *d_qkv, const struct attention_scratch *s)
{
    for (size_t h = 0; h < t->heads; h++, probabilities += t->tokens * t->padded) {
        const real *q = qkv + h * t->width, *k = q + t->dim, *v = k + t->dim, *d_o = d_output + h * t->width;
        real *d_q = d_qkv + h * t->width, *d_k = d_q + t->dim, *d_v = d_k + t->dim;
        outer_tokens(t, &t->d_v, probabilities, d_o, s->gradient, d_v);
        pack_transposed(t, v, s->packed);
        gather_product(&t->d_probabilities, t->tokens, d_o, s->packed, s->scores);
        scores_gradient(t->tokens, t->tokens, probabilities, score_scale(t), s->scores);
        pack_tokens(t, k, s->packed);
        gather_product(&t->d_q, t->tokens, s->scores, s->packed, d_q);
        outer_tokens(t, &t->d_k, s->scores, q, s->gradient, d_k);
    }
}
