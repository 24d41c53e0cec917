/* The vision transformer (Dosovitskiy et al., ICLR 2021): a linear embedding of patches, learned positions, pre-norm
 * blocks, a last LayerNorm, and the CLS token or the mean over tokens as the feature. Without CLS pooling there is no
 * CLS token. Samples are independent, so a block runs over chunks of samples whose tokens stay in cache. */
#include "common/at_most.h"
#include "worker/nn/encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "proto/run_config.h"
#include "worker/nn/columns.h"
#include "worker/nn/layernorm.h"
#include "worker/nn/rows.h"
#include "worker/nn/vit_block.h"

enum { CHUNK_TOKENS = 200, DEPTH_MAX = 64 };

static const double INITIAL_DEVIATION = 0.02; /* of positions and the CLS token */

struct vit_encoder {
    uint32_t height, width, channels, patch, patches, depth;
    uint32_t first_patch; /* 1 with a CLS token at 0, else 0: the place of the first patch's token */
    uint32_t pooled;      /* tokens that make the feature: the CLS token alone, or all */
    uint32_t chunk;       /* samples */
    struct linear embed;  /* patch pixels -> dim */
    struct vit_shape shape;
    struct cls_attention last; /* of the last block, where only the CLS token makes the feature */
    struct parameter embed_weight, embed_bias, cls, positions, gamma, beta;
    struct vit_block block[DEPTH_MAX];
};

struct vit_workspace {
    struct arena arena;
    struct vit_block_store block[DEPTH_MAX];
    struct vit_scratch scratch;
    real *pixels;   /* (places, patches, patch pixels) */
    real *last;     /* (places, pooled, dim): what the last block puts out */
    real *embedded; /* (chunk, patches, dim) */
    real *d;        /* (places, T, dim) */
    real *packed, *gradient;
};

static void encoder_destroy(void *encoder)
{
    struct vit_encoder *v = encoder;
    if (v) {
        linear_fini(&v->embed);
        vit_shape_fini(&v->shape);
        cls_attention_fini(&v->last);
    }
    free(v);
}

static int check_spec(const struct model_spec *s, struct error *e)
{
    if (s->patch == 0 || s->height % s->patch != 0 || s->width % s->patch != 0)
        return error_set(e, ERR_CONFIG, "encoder.patch = %u does not divide images of %ux%u", s->patch, s->height,
                         s->width);
    if (s->heads == 0 || s->dim == 0 || s->dim % s->heads != 0)
        return error_set(e, ERR_CONFIG, "encoder.heads = %u does not divide encoder.dim = %u", s->heads, s->dim);
    if (s->depth < 1 || s->depth > DEPTH_MAX)
        return error_set(e, ERR_CONFIG, "encoder.depth = %u: use 1 to %d", s->depth, DEPTH_MAX);
    if (s->mlp == 0)
        return error_set(e, ERR_CONFIG, "encoder.mlp = 0: use at least 1");
    return 0;
}

static int encoder_create(const struct model_spec *s, void **out, struct error *e)
{
    int rc = check_spec(s, e);
    if (rc != 0)
        return rc;
    struct vit_encoder *v = calloc(1, sizeof *v);
    if (!v)
        return error_set(e, ERR_MEMORY, "no memory for the encoder");
    v->height = s->height;
    v->width = s->width;
    v->channels = s->channels;
    v->patch = s->patch;
    v->patches = (s->height / s->patch) * (s->width / s->patch);
    v->depth = s->depth;
    v->first_patch = s->pool == VIT_POOL_CLS ? 1 : 0;
    uint32_t tokens = v->patches + v->first_patch;
    v->pooled = v->first_patch ? 1 : tokens;
    v->chunk = CHUNK_TOKENS / tokens > 0 ? CHUNK_TOKENS / tokens : 1;
    if (linear_init(&v->embed, s->patch * s->patch * s->channels, s->dim, PRECISION_FLOAT32) != 0 ||
        vit_shape_init(&v->shape, tokens, s->dim, s->heads, s->mlp * s->dim, s->precision) != 0 ||
        (v->first_patch && cls_attention_init(&v->last, tokens, s->dim, s->heads, v->chunk, s->precision) != 0)) {
        encoder_destroy(v);
        return error_set(e, ERR_MEMORY, "no memory for the encoder's tables");
    }
    if (v->first_patch)
        v->block[v->depth - 1].cls = &v->last;
    *out = v;
    return 0;
}

static uint32_t encoder_width(const void *encoder)
{
    return ((const struct vit_encoder *)encoder)->shape.dim;
}

static int encoder_describe(void *encoder, struct manifest *m)
{
    struct vit_encoder *v = encoder;
    uint32_t dim = v->shape.dim;
    int rc = parameter_matrix(m, "embed", "weight", dim, v->embed.in, &v->embed_weight);
    rc = rc ? rc : parameter_vector(m, "embed", "bias", dim, &v->embed_bias);
    rc = rc ? rc : parameter_matrix(m, "embed", "positions", v->shape.tokens, dim, &v->positions);
    if (rc == 0 && v->first_patch)
        rc = parameter_vector(m, "embed", "cls", dim, &v->cls);
    for (uint32_t i = 0; rc == 0 && i < v->depth; i++)
        rc = vit_block_describe(&v->shape, &v->block[i], i, m);
    rc = rc ? rc : parameter_vector(m, "norm", "weight", dim, &v->gamma);
    return rc ? rc : parameter_vector(m, "norm", "bias", dim, &v->beta);
}

static void encoder_initialise(const void *encoder, uint64_t seed, real *params, real *buffers)
{
    (void)buffers;
    const struct vit_encoder *v = encoder;
    parameter_uniform(&v->embed_weight, seed, 1 / sqrt((double)v->embed.in), params);
    parameter_fill(&v->embed_bias, 0, params);
    parameter_normal(&v->positions, seed, INITIAL_DEVIATION, params);
    if (v->first_patch)
        parameter_normal(&v->cls, seed, INITIAL_DEVIATION, params);
    for (uint32_t i = 0; i < v->depth; i++)
        vit_block_initialise(&v->block[i], seed, params);
    parameter_fill(&v->gamma, 1, params);
    parameter_fill(&v->beta, 0, params);
}

static void carve(const struct vit_encoder *v, size_t places, struct vit_workspace *w)
{
    size_t forward = linear_packed_forward_size(&v->embed), tokens = v->shape.tokens, dim = v->shape.dim;
    for (uint32_t i = 0; i < v->depth; i++)
        vit_block_carve(&v->shape, &v->block[i], places, &w->block[i], &w->arena);
    vit_scratch_carve(&v->shape, v->block[v->depth - 1].cls, v->chunk, &w->scratch, &w->arena);
    w->pixels = arena_reals(&w->arena, places * v->patches * v->embed.in);
    w->last = arena_reals(&w->arena, places * v->pooled * dim);
    w->embedded = arena_reals(&w->arena, v->chunk * v->patches * dim);
    w->d = arena_reals(&w->arena, places * tokens * dim);
    w->packed = arena_reals(&w->arena, forward);
    w->gradient = arena_reals(&w->arena, linear_gradient_size(&v->embed));
}

static void workspace_free(void *workspace)
{
    struct vit_workspace *w = workspace;
    if (w)
        arena_free(&w->arena);
    free(w);
}

static int workspace_new(const void *encoder, uint32_t rows_max, void **out)
{
    const struct vit_encoder *v = encoder;
    struct vit_workspace *w = calloc(1, sizeof *w);
    size_t places = rows_max > v->chunk ? rows_max : v->chunk;
    if (!w)
        return ERR_MEMORY;
    carve(v, places, w);
    if (arena_allocate(&w->arena) != 0) {
        free(w);
        return ERR_MEMORY;
    }
    carve(v, places, w);
    *out = w;
    return 0;
}

/* Pixels of each patch side by side, patches row by row. */
static void cut_patches(const struct vit_encoder *v, const real *image, real *pixels)
{
    size_t run = (size_t)v->patch * v->channels, line = (size_t)v->width * v->channels;
    for (size_t y = 0; y < v->height; y += v->patch)
        for (size_t x = 0; x < v->width; x += v->patch)
            for (size_t i = 0; i < v->patch; i++, pixels += run)
                memcpy(pixels, image + (y + i) * line + x * v->channels, run * sizeof(real));
}

/* Tokens of n samples: embedded patches, after the CLS token if there is one, plus positions. */
static void embed(const struct vit_encoder *v, const real *params, const real *pixels, size_t n,
                  const struct vit_workspace *w, real *x)
{
    size_t dim = v->shape.dim, tokens = v->shape.tokens;
    linear_forward(&v->embed, n * v->patches, pixels, w->packed, w->embedded);
    for (size_t i = 0; i < n; i++, x += tokens * dim) {
        memcpy(x + v->first_patch * dim, w->embedded + i * v->patches * dim, v->patches * dim * sizeof(real));
        if (v->first_patch)
            memcpy(x, params + v->cls.offset, dim * sizeof(real));
        row_add(x, params + v->positions.offset, tokens * dim);
    }
}

/* Features of n samples from the last block's tokens: the normalised CLS token, or the mean of all normalised tokens.
 */
static void pool(const struct vit_encoder *v, const real *params, const real *x, size_t n,
                 const struct vit_workspace *w, real *features)
{
    size_t dim = v->shape.dim, pooled = v->pooled;
    struct layernorm l = {.n = dim, .gamma = params + v->gamma.offset, .beta = params + v->beta.offset};
    for (size_t i = 0; i < n; i++, features += dim) {
        layernorm_forward(&l, x + i * pooled * dim, pooled, w->scratch.norm);
        columns_sum(w->scratch.norm, pooled, dim, features);
        row_scale(features, 1 / (real)pooled, dim);
    }
}

static struct vit_pass block_pass(const struct vit_encoder *v, uint32_t i, const real *params,
                                  const struct vit_workspace *w)
{
    return (struct vit_pass){
        .shape = &v->shape, .block = &v->block[i], .store = &w->block[i], .scratch = &w->scratch, .params = params};
}

/* Where block i puts its output for sample r: what the next one takes in, or the features' tokens. */
static real *block_output(const struct vit_encoder *v, uint32_t i, const struct vit_workspace *w, size_t r)
{
    size_t dim = v->shape.dim;
    return i + 1 < v->depth ? w->block[i + 1].x + r * v->shape.tokens * dim : w->last + r * v->pooled * dim;
}

/* All R samples, a chunk at a time. What is not kept for backward goes where the first chunk's does, and stays in
 * cache. */
static void block_forward(const struct vit_encoder *v, uint32_t i, enum model_mode mode, const real *params, size_t R,
                          struct vit_workspace *w)
{
    struct vit_pass pass = block_pass(v, i, params, w);
    size_t sample = (size_t)v->shape.tokens * v->shape.dim;
    vit_block_begin_forward(&v->shape, &v->block[i], params, &w->block[i]);
    for (size_t r = 0; r < R; r += v->chunk) {
        pass.x = w->block[i].x + r * sample;
        pass.keeps = mode == MODEL_TRAIN;
        pass.first = pass.keeps ? r : 0;
        pass.n = at_most(R - r, v->chunk);
        pass.after = at_most(R - r - pass.n, v->chunk);
        vit_block_forward(&pass, block_output(v, i, w, r));
    }
}

/* Tokens of all R samples. */
static void embed_forward(const struct vit_encoder *v, enum model_mode mode, const real *params, const real *images,
                          size_t R, struct vit_workspace *w)
{
    size_t image = (size_t)v->height * v->width * v->channels, sample = (size_t)v->shape.tokens * v->shape.dim;
    linear_pack_forward(&v->embed, params + v->embed_weight.offset, params + v->embed_bias.offset, w->packed);
    for (size_t r = 0; r < R; r += v->chunk) {
        size_t n = at_most(R - r, v->chunk);
        real *pixels = w->pixels + (mode == MODEL_TRAIN ? r : 0) * image;
        for (size_t i = 0; i < n; i++)
            cut_patches(v, images + (r + i) * image, pixels + i * image);
        embed(v, params, pixels, n, w, w->block[0].x + r * sample);
    }
}

/* Block by block, so that its weights stay in cache while all samples go by. */
static void encoder_forward(const void *encoder, enum model_mode mode, const real *params, const real *buffers,
                            const real *images, size_t R, void *workspace, real *features)
{
    (void)buffers;
    const struct vit_encoder *v = encoder;
    struct vit_workspace *w = workspace;
    embed_forward(v, mode, params, images, R, w);
    for (uint32_t i = 0; i < v->depth; i++)
        block_forward(v, i, mode, params, R, w);
    pool(v, params, w->last, R, w, features);
}

/* d (n,pooled,dim) = gradient wrt the last block's tokens x. */
static void pool_backward(const struct vit_encoder *v, const real *params, const real *x, const real *d_features,
                          size_t n, const struct vit_workspace *w, real *d, real *grad)
{
    size_t dim = v->shape.dim, pooled = v->pooled;
    struct layernorm l = {.n = dim,
                          .gamma = params + v->gamma.offset,
                          .beta = params + v->beta.offset,
                          .d_gamma = grad + v->gamma.offset,
                          .d_beta = grad + v->beta.offset};
    memset(d, 0, n * pooled * dim * sizeof(real));
    for (size_t i = 0; i < n; i++, d_features += dim) {
        for (size_t t = 0; t < pooled; t++)
            for (size_t j = 0; j < dim; j++)
                w->scratch.d_norm[t * dim + j] = d_features[j] / (real)pooled;
        layernorm_backward(&l, x + i * pooled * dim, pooled, w->scratch.d_norm, d + i * pooled * dim, w->scratch.norm);
    }
}

/* tokens' gradients: (n,T,dim) */
static void embed_backward(const struct vit_encoder *v, const real *pixels, const real *tokens_d, size_t n,
                           const struct vit_workspace *w, real *grad)
{
    size_t dim = v->shape.dim, tokens = v->shape.tokens;
    for (size_t i = 0; i < n; i++) {
        const real *d = tokens_d + i * tokens * dim;
        row_add(grad + v->positions.offset, d, tokens * dim);
        if (v->first_patch)
            row_add(grad + v->cls.offset, d, dim);
        memcpy(w->embedded + i * v->patches * dim, d + v->first_patch * dim, v->patches * dim * sizeof(real));
    }
    columns_sum(w->embedded, n * v->patches, dim, w->scratch.column);
    row_add(grad + v->embed_bias.offset, w->scratch.column, dim);
    linear_backward_weight(&v->embed, n * v->patches, pixels, w->embedded, w->gradient);
}

static void begin_backward(const struct vit_encoder *v, struct vit_workspace *w, real *grad)
{
    const struct parameter *added[] = {&v->embed_bias, &v->positions, &v->gamma, &v->beta};
    for (size_t i = 0; i < sizeof added / sizeof added[0]; i++)
        parameter_fill(added[i], 0, grad);
    if (v->first_patch)
        parameter_fill(&v->cls, 0, grad);
    memset(w->gradient, 0, linear_gradient_size(&v->embed) * sizeof(real));
}

/* w->d: in, the gradient wrt the block's output; out, that wrt its input; a chunk's where its tokens would be. */
static void block_backward(const struct vit_encoder *v, uint32_t i, const real *params, size_t R,
                           struct vit_workspace *w, real *grad)
{
    struct vit_pass pass = block_pass(v, i, params, w);
    size_t sample = (size_t)v->shape.tokens * v->shape.dim;
    vit_block_begin_backward(&v->shape, &v->block[i], params, &w->block[i], grad);
    for (size_t r = 0; r < R; r += v->chunk) {
        pass.x = w->block[i].x + r * sample;
        pass.first = r;
        pass.n = at_most(R - r, v->chunk);
        pass.after = at_most(R - r - pass.n, v->chunk);
        vit_block_backward(&pass, w->d + r * sample, grad);
    }
    vit_block_end_backward(&v->shape, &v->block[i], &w->block[i], grad);
}

static void encoder_backward(const void *encoder, const real *params, const real *d_features, size_t R, void *workspace,
                             real *grad)
{
    const struct vit_encoder *v = encoder;
    struct vit_workspace *w = workspace;
    size_t image = (size_t)v->height * v->width * v->channels, dim = v->shape.dim, sample = v->shape.tokens * dim;
    begin_backward(v, w, grad);
    for (size_t r = 0; r < R; r += v->chunk)
        pool_backward(v, params, w->last + r * v->pooled * dim, d_features + r * dim, at_most(R - r, v->chunk), w,
                      w->d + r * sample, grad);
    for (uint32_t i = v->depth; i-- > 0;)
        block_backward(v, i, params, R, w, grad);
    for (size_t r = 0; r < R; r += v->chunk)
        embed_backward(v, w->pixels + r * image, w->d + r * sample, at_most(R - r, v->chunk), w, grad);
    linear_unpack_gradient(&v->embed, w->gradient, grad + v->embed_weight.offset);
}

const struct encoder_ops vit_encoder_ops = {
    .create = encoder_create,
    .destroy = encoder_destroy,
    .width = encoder_width,
    .describe = encoder_describe,
    .initialise = encoder_initialise,
    .workspace_new = workspace_new,
    .workspace_free = workspace_free,
    .forward = encoder_forward,
    .backward = encoder_backward,
};
