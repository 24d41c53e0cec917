/* The residual encoder for small images (He et al., CVPR 2016, with the stem of its CIFAR networks): a 3x3
 * convolution of stride 1, norm, ReLU; four stages of basic blocks, of which the last three halve the image and
 * double the channels; the mean over pixels.
 *
 * With GroupNorm passes run over chunks of samples. With BatchNorm a pass that takes statistics of its batch runs
 * over all of them, layer by layer; one that uses running statistics runs over chunks again. */
#include "common/at_most.h"
#include "worker/nn/encoder.h"

#include <stdio.h>
#include <stdlib.h>
#include "worker/nn/pool.h"
#include "worker/nn/residual.h"

enum { CHUNK = 32, STAGES = 4, BLOCKS_MAX = 16 };

struct resnet {
    uint32_t blocks;
    bool batch;
    struct conv_norm stem;
    struct residual block[BLOCKS_MAX];
};

struct resnet_workspace {
    struct arena arena;
    struct conv_norm_store stem;
    struct residual_store block[BLOCKS_MAX];
    struct residual_scratch scratch;
    real *conv_scratch;
    real *last; /* (places, OH*OW*out): after the last block */
    real *d[2]; /* (samples of a pass, largest activation): gradients wrt outputs of alternate blocks */
};

static void encoder_destroy(void *encoder)
{
    struct resnet *n = encoder;
    if (n) {
        conv_norm_fini(&n->stem);
        for (uint32_t i = 0; i < BLOCKS_MAX; i++)
            residual_fini(&n->block[i]);
    }
    free(n);
}

static int check_spec(const struct model_spec *s, struct error *e)
{
    if (s->base == 0)
        return error_set(e, ERR_CONFIG, "encoder.width = 0: use at least 1");
    if (s->norm == ENCODER_NORM_GROUP && (s->groups == 0 || s->base % s->groups != 0))
        return error_set(e, ERR_CONFIG, "encoder.groups = %u does not divide encoder.width = %u", s->groups, s->base);
    return 0;
}

/* Blocks of each stage. */
static const uint32_t *depth_of(enum resnet_layers layers)
{
    static const uint32_t depths[][STAGES] = {
        [RESNET_10] = {1, 1, 1, 1}, [RESNET_18] = {2, 2, 2, 2}, [RESNET_34] = {3, 4, 6, 3}};
    ASSERT((size_t)layers < sizeof depths / sizeof depths[0]);
    return depths[layers];
}

static int add_blocks(struct resnet *n, const struct model_spec *s, struct norm_kind kind)
{
    const uint32_t *depth = depth_of(s->layers);
    struct conv_shape next = {n->stem.conv.out_height, n->stem.conv.out_width, s->base, s->base, 1};
    for (uint32_t stage = 0; stage < STAGES; stage++)
        for (uint32_t i = 0; i < depth[stage]; i++, n->blocks++) {
            struct residual *b = &n->block[n->blocks];
            next.out = s->base << stage;
            next.stride = stage > 0 && i == 0 ? 2 : 1;
            if (residual_init(b, next, kind, s->precision) != 0)
                return ERR_MEMORY;
            next.height = b->unit[0].conv.out_height;
            next.width = b->unit[0].conv.out_width;
            next.in = next.out;
        }
    return 0;
}

static int encoder_create(const struct model_spec *s, void **out, struct error *e)
{
    int rc = check_spec(s, e);
    if (rc != 0)
        return rc;
    struct resnet *n = calloc(1, sizeof *n);
    if (!n)
        return error_set(e, ERR_MEMORY, "no memory for the encoder");
    n->batch = s->norm == ENCODER_NORM_BATCH;
    struct norm_kind kind = {.batch = n->batch, .groups = s->groups};
    struct conv_shape stem = {s->height, s->width, s->channels, s->base, 1};
    if (conv_norm_init(&n->stem, stem, kind, PRECISION_FLOAT32) != 0 || add_blocks(n, s, kind) != 0) {
        encoder_destroy(n);
        return error_set(e, ERR_MEMORY, "no memory for the encoder's tables");
    }
    *out = n;
    return 0;
}

static const struct conv *last_conv(const struct resnet *n)
{
    return &n->block[n->blocks - 1].unit[1].conv;
}

static uint32_t encoder_width(const void *encoder)
{
    return last_conv(encoder)->shape.out;
}

static int encoder_describe(void *encoder, struct manifest *m)
{
    struct resnet *n = encoder;
    int rc = conv_norm_describe(&n->stem, "stem", 0, m);
    for (uint32_t i = 0; rc == 0 && i < n->blocks; i++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "block%u", i + 1);
        rc = residual_describe(&n->block[i], prefix, m);
    }
    return rc;
}

static void encoder_initialise(const void *encoder, uint64_t seed, real *params, real *buffers)
{
    const struct resnet *n = encoder;
    conv_norm_initialise(&n->stem, seed, params, buffers);
    for (uint32_t i = 0; i < n->blocks; i++)
        residual_initialise(&n->block[i], seed, params, buffers);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void carve_scratch(const struct resnet *n, size_t span, struct resnet_workspace *w)
{
    size_t largest = conv_output_size(&n->stem.conv), picked = 0, projected = 0;
    size_t scratch = conv_scratch_size(&n->stem.conv);
    for (uint32_t i = 0; i < n->blocks; i++) {
        const struct residual *b = &n->block[i];
        size_t pixels = (size_t)b->norm.sample.height * b->norm.sample.width;
        largest = larger(largest, residual_output_size(b));
        for (int unit = 0; unit < 2; unit++)
            scratch = larger(scratch, conv_scratch_size(&b->unit[unit].conv));
        picked = larger(picked, b->projects ? pixels * b->linear.in : 0);
        projected = larger(projected, b->projects ? residual_output_size(b) : 0);
    }
    w->d[0] = arena_reals(&w->arena, span * largest);
    w->d[1] = arena_reals(&w->arena, span * largest);
    w->conv_scratch = arena_reals(&w->arena, scratch);
    w->scratch.mid = arena_reals(&w->arena, span * largest);
    w->scratch.picked = arena_reals(&w->arena, RESIDUAL_BLOCK * picked);
    w->scratch.d_picked = arena_reals(&w->arena, RESIDUAL_BLOCK * picked);
    w->scratch.d_projected = arena_reals(&w->arena, RESIDUAL_BLOCK * projected);
}

static void carve(const struct resnet *n, size_t places, struct resnet_workspace *w)
{
    conv_norm_carve(&n->stem, places, &w->stem, &w->arena);
    for (uint32_t i = 0; i < n->blocks; i++)
        residual_carve(&n->block[i], places, &w->block[i], &w->arena);
    w->last = arena_reals(&w->arena, places * conv_output_size(last_conv(n)));
    carve_scratch(n, n->batch ? places : CHUNK, w);
}

static void workspace_free(void *workspace)
{
    struct resnet_workspace *w = workspace;
    if (w)
        arena_free(&w->arena);
    free(w);
}

static int workspace_new(const void *encoder, uint32_t rows_max, void **out)
{
    struct resnet_workspace *w = calloc(1, sizeof *w);
    size_t places = larger(rows_max, CHUNK);
    if (!w)
        return ERR_MEMORY;
    carve(encoder, places, w);
    if (arena_allocate(&w->arena) != 0) {
        free(w);
        return ERR_MEMORY;
    }
    carve(encoder, places, w);
    *out = w;
    return 0;
}

/* Where the output of block i goes: into the frames of the next one's input. */
static struct norm_images output_of(const struct resnet *n, const struct resnet_workspace *w, uint32_t i,
                                    const struct resnet_pass *p)
{
    const struct conv *c = last_conv(n);
    size_t size = conv_output_size(c);
    if (i + 1 < n->blocks)
        return conv_norm_inputs(&n->block[i + 1].unit[0], &w->block[i + 1].unit[0], p);
    return (struct norm_images){{w->last + p->first * size, (size_t)c->out_width * c->shape.out}, size};
}

static void pass_forward(const struct resnet *n, const real *images, struct resnet_workspace *w,
                         const struct resnet_pass *p, real *features)
{
    const struct conv *stem = &n->stem.conv, *last = last_conv(n);
    struct norm_images none = {0}, y = conv_norm_inputs(&n->block[0].unit[0], &w->block[0].unit[0], p);
    conv_frame_images(stem, images, p->n, w->stem.input + p->first * conv_padded_size(stem));
    conv_norm_forward(&n->stem, &w->stem, p, &none, &y);
    for (uint32_t i = 0; i < n->blocks; i++) {
        y = output_of(n, w, i, p);
        residual_forward(&n->block[i], &w->block[i], &w->scratch, p, &y);
    }
    for (size_t k = 0; k < p->n; k++)
        pool_mean(norm_image(&y, k).at, (size_t)last->out_height * last->out_width, last->shape.out,
                  features + k * last->shape.out);
}

static void encoder_forward(const void *encoder, enum model_mode mode, const real *params, const real *buffers,
                            const real *images, size_t R, void *workspace, real *features)
{
    const struct resnet *n = encoder;
    struct resnet_workspace *w = workspace;
    struct resnet_pass p = {
        .params = params, .buffers = buffers, .settle = mode != MODEL_EVAL, .scratch = w->conv_scratch};
    size_t image = (size_t)n->stem.conv.shape.height * n->stem.conv.shape.width * n->stem.conv.shape.in;
    size_t span = n->batch && p.settle ? R : CHUNK;
    conv_norm_begin_forward(&n->stem, &w->stem, &p);
    for (uint32_t i = 0; i < n->blocks; i++)
        residual_begin_forward(&n->block[i], &w->block[i], &p);
    for (size_t r = 0; r < R; r += span) {
        p.first = mode == MODEL_TRAIN ? r : 0;
        p.n = at_most(R - r, span);
        pass_forward(n, images + r * image, w, &p, features + r * encoder_width(n));
    }
}

static void pass_backward(const struct resnet *n, const real *d_features, struct resnet_workspace *w,
                          const struct resnet_pass *p, real *grad)
{
    const struct conv *last = last_conv(n);
    struct norm_images y;
    pool_spread(d_features, p->n, (size_t)last->out_height * last->out_width, last->shape.out, w->d[n->blocks % 2]);
    for (uint32_t i = n->blocks; i-- > 0;) {
        y = output_of(n, w, i, p);
        residual_backward(&n->block[i], &w->block[i], &w->scratch, p, &y, w->d[(i + 1) % 2], w->d[i % 2], grad);
    }
    y = conv_norm_inputs(&n->block[0].unit[0], &w->block[0].unit[0], p);
    conv_norm_backward(&n->stem, &w->stem, p, &y, w->d[0], NULL, NULL, grad);
}

static void encoder_backward(const void *encoder, const real *params, const real *d_features, size_t R, void *workspace,
                             real *grad)
{
    const struct resnet *n = encoder;
    struct resnet_workspace *w = workspace;
    struct resnet_pass p = {.params = params, .settle = true, .scratch = w->conv_scratch};
    size_t span = n->batch ? R : CHUNK;
    conv_norm_begin_backward(&n->stem, &w->stem, params, grad);
    for (uint32_t i = 0; i < n->blocks; i++)
        residual_begin_backward(&n->block[i], &w->block[i], params, grad);
    for (p.first = 0; p.first < R; p.first += span) {
        p.n = at_most(R - p.first, span);
        pass_backward(n, d_features + p.first * encoder_width(n), w, &p, grad);
    }
    conv_norm_end_backward(&n->stem, &w->stem, grad);
    for (uint32_t i = 0; i < n->blocks; i++)
        residual_end_backward(&n->block[i], &w->block[i], grad);
}

static void encoder_contribution(const void *encoder, const void *workspace, size_t R, real *buffers)
{
    const struct resnet *n = encoder;
    const struct resnet_workspace *w = workspace;
    norm_contribution(&n->stem.norm, &w->stem.norm, R, buffers);
    for (uint32_t i = 0; i < n->blocks; i++)
        residual_contribution(&n->block[i], &w->block[i], R, buffers);
}

const struct encoder_ops resnet_encoder_ops = {
    .create = encoder_create,
    .destroy = encoder_destroy,
    .width = encoder_width,
    .describe = encoder_describe,
    .initialise = encoder_initialise,
    .workspace_new = workspace_new,
    .workspace_free = workspace_free,
    .forward = encoder_forward,
    .backward = encoder_backward,
    .contribution = encoder_contribution,
};
