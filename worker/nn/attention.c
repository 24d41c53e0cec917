/* Six small products per head, all through the tile kernels; see attention.h. */
#include "worker/nn/attention.h"

#include <math.h>
#include <string.h>
#include "common/error.h"
#include "worker/nn/scores.h"

static void carve_tables(struct attention *t)
{
    uint32_t T = t->tokens;
    uint32_t *wide = arena_strides(&t->tables, T, (size_t)3 * t->dim), *narrow = arena_strides(&t->tables, T, t->dim);
    uint32_t *square = arena_strides(&t->tables, T, t->padded), *left = arena_strides(&t->tables, T, 1);
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

/* One head's rows of the tokens, inside (T, 3 dim). */
static struct pack token_rows(const struct attention *t)
{
    return (struct pack){.K = t->tokens,
                         .columns = t->width,
                         .n = t->tokens,
                         .row_stride = (size_t)3 * t->dim,
                         .column_stride = 1,
                         .precision = t->precision};
}

/* c = a (T,T) times the tokens' values in source: (T, width) inside (T, 3 dim). */
static void mix_tokens(const struct attention *t, const struct gather *g, const real *a, const real *source,
                       real *packed, real *c)
{
    struct pack p = token_rows(t);
    if (tile_in_place(t->precision, t->width)) {
        gather_product_in_place(g, t->tokens, a, source, p.row_stride, c);
        return;
    }
    tile_pack(&p, source, packed);
    tile_pack_bias_in(t->precision, p.K, p.columns, NULL, packed);
    gather_product(g, t->tokens, a, packed, c);
}

/* target (T, width) inside (T, 3 dim) = sum of outer products of a's columns with d's rows. */
static void outer_tokens(const struct attention *t, const struct outer *o, const real *a, const real *d, real *gradient,
                         real *target)
{
    struct pack p = token_rows(t);
    if (tile_in_place(t->precision, t->width)) {
        gather_outer_in_place(o, t->tokens, a, d, target, p.row_stride);
        return;
    }
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
        mix_tokens(t, &t->mix, probabilities, v, s->packed, output + h * t->width);
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
        mix_tokens(t, &t->d_q, s->scores, k, s->packed, d_q);
        outer_tokens(t, &t->d_k, s->scores, q, s->gradient, d_k);
    }
}
