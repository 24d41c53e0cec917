/* The convolutional encoder: stages of [3x3 convolution stride 2, GroupNorm, ReLU], then the mean over pixels.
 *
 * Samples are independent, so passes run over chunks of CHUNK samples, and within a stage over the convolution's
 * blocks; each GroupNorm writes straight into the zero-padded input of the next stage. A kept pass stores, for every
 * sample, the padded input and the raw output of each stage; other passes reuse the first chunk's places. */
#include "common/at_most.h"
#include "worker/nn/encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "worker/nn/arena.h"
#include "worker/nn/conv.h"
#include "worker/nn/groupnorm.h"
#include "worker/nn/parameters.h"
#include "worker/nn/pool.h"

enum { CHUNK = 32 };

struct stage {
    struct conv conv;
    struct groupnorm norm;
    struct parameter weight, gamma, beta;
};

struct conv_encoder {
    uint32_t stages, channels;
    struct stage stage[CONV_STAGES_MAX];
};

/* Of one stage; (n) counts samples. */
struct stage_workspace {
    real *input;      /* (rows_max, padded input) */
    real *output;     /* (rows_max, OH*OW*out) of the convolution */
    real *statistics; /* (rows_max, 2 groups) */
    real *packed_forward, *packed_backward;
    real *delta;    /* (block, padded output gradient), its frame always zero */
    real *gradient; /* packed */
};

struct conv_workspace {
    struct arena arena;
    struct stage_workspace stage[CONV_STAGES_MAX];
    real *last;       /* (block of the last stage, OH*OW*out): after its ReLU */
    real *d_pixel[2]; /* (CHUNK, largest activation): gradients wrt outputs of alternate stages */
    real *scratch;    /* GroupNorm's */
};

static void encoder_destroy(void *encoder)
{
    struct conv_encoder *c = encoder;
    for (uint32_t i = 0; c && i < c->stages; i++)
        conv_fini(&c->stage[i].conv);
    free(c);
}

static int check_spec(const struct model_spec *s, struct error *e)
{
    if (s->stages < 1 || s->stages > CONV_STAGES_MAX)
        return error_set(e, ERR_CONFIG, "encoder.widths names %u stages: use 1 to %d", s->stages, CONV_STAGES_MAX);
    for (uint32_t i = 0; i < s->stages; i++)
        if (s->widths[i] == 0 || s->groups == 0 || s->widths[i] % s->groups != 0)
            return error_set(e, ERR_CONFIG, "encoder.groups = %u does not divide %u of encoder.widths", s->groups,
                             s->widths[i]);
    return 0;
}

static int encoder_create(const struct model_spec *s, void **out, struct error *e)
{
    int rc = check_spec(s, e);
    if (rc != 0)
        return rc;
    struct conv_encoder *c = calloc(1, sizeof *c);
    if (!c)
        return error_set(e, ERR_MEMORY, "no memory for the encoder");
    uint32_t height = s->height, width = s->width, channels = s->channels;
    c->channels = channels;
    for (; c->stages < s->stages; c->stages++) {
        struct stage *stage = &c->stage[c->stages];
        struct conv_shape shape = {height, width, channels, s->widths[c->stages], 2};
        if (conv_init(&stage->conv, shape, c->stages > 0 ? s->precision : PRECISION_FLOAT32) != 0) {
            encoder_destroy(c);
            return error_set(e, ERR_MEMORY, "no memory for the encoder's tables");
        }
        height = stage->conv.out_height;
        width = stage->conv.out_width;
        channels = stage->conv.shape.out;
        stage->norm = (struct groupnorm){.height = height, .width = width, .channels = channels, .groups = s->groups};
    }
    *out = c;
    return 0;
}

static uint32_t encoder_width(const void *encoder)
{
    const struct conv_encoder *c = encoder;
    return c->stage[c->stages - 1].conv.shape.out;
}

static int encoder_describe(void *encoder, struct manifest *m)
{
    struct conv_encoder *c = encoder;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < c->stages; i++) {
        struct stage *s = &c->stage[i];
        char conv[16], norm[16];
        snprintf(conv, sizeof conv, "conv%u", i + 1);
        snprintf(norm, sizeof norm, "norm%u", i + 1);
        rc = parameter_matrix(m, conv, "weight", s->conv.shape.out, (uint64_t)9 * s->conv.shape.in, &s->weight);
        rc = rc ? rc : parameter_vector(m, norm, "weight", s->conv.shape.out, &s->gamma);
        rc = rc ? rc : parameter_vector(m, norm, "bias", s->conv.shape.out, &s->beta);
    }
    return rc;
}

/* Convolutions as PyTorch: kaiming_uniform with a = sqrt 5, that is U(+-1/sqrt(fan_in)). */
static void encoder_initialise(const void *encoder, uint64_t seed, real *params, real *buffers)
{
    (void)buffers;
    const struct conv_encoder *c = encoder;
    for (uint32_t i = 0; i < c->stages; i++) {
        const struct stage *s = &c->stage[i];
        parameter_uniform(&s->weight, seed, 1 / sqrt(9.0 * s->conv.shape.in), params);
        parameter_fill(&s->gamma, 1, params);
        parameter_fill(&s->beta, 0, params);
    }
}

static void carve_stage(const struct stage *s, uint32_t rows_max, struct stage_workspace *w, struct arena *a)
{
    w->input = arena_reals(a, rows_max * conv_padded_size(&s->conv));
    w->output = arena_reals(a, rows_max * conv_output_size(&s->conv));
    w->statistics = arena_reals(a, (size_t)rows_max * 2 * s->norm.groups);
    w->packed_forward = arena_reals(a, conv_packed_forward_size(&s->conv));
    w->packed_backward = arena_reals(a, conv_packed_backward_size(&s->conv));
    w->delta = arena_reals(a, s->conv.block * conv_delta_size(&s->conv));
    w->gradient = arena_reals(a, conv_gradient_size(&s->conv));
}

static void carve(const struct conv_encoder *c, uint32_t rows_max, struct conv_workspace *w)
{
    size_t pixels = 0, channels = 0;
    for (uint32_t i = 0; i < c->stages; i++) {
        const struct conv *conv = &c->stage[i].conv;
        carve_stage(&c->stage[i], rows_max, &w->stage[i], &w->arena);
        pixels = conv_output_size(conv) > pixels ? conv_output_size(conv) : pixels;
        channels = conv->shape.out > channels ? conv->shape.out : channels;
    }
    const struct conv *last = &c->stage[c->stages - 1].conv;
    w->last = arena_reals(&w->arena, last->block * conv_output_size(last));
    w->d_pixel[0] = arena_reals(&w->arena, CHUNK * pixels);
    w->d_pixel[1] = arena_reals(&w->arena, CHUNK * pixels);
    w->scratch = arena_reals(&w->arena, GROUPNORM_SCRATCH * channels);
}

static void workspace_free(void *workspace)
{
    struct conv_workspace *w = workspace;
    if (w)
        arena_free(&w->arena);
    free(w);
}

static int workspace_new(const void *encoder, uint32_t rows_max, void **out)
{
    struct conv_workspace *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_MEMORY;
    uint32_t places = (rows_max + CHUNK - 1) / CHUNK * CHUNK;
    carve(encoder, places, w);
    if (arena_allocate(&w->arena) != 0) {
        free(w);
        return ERR_MEMORY;
    }
    carve(encoder, places, w);
    *out = w;
    return 0;
}

/* One stage for samples first..first+n of the workspace's places: into the next stage's input, or pooled into features.
 */
static void stage_forward(const struct conv_encoder *c, uint32_t i, const real *params, size_t first, size_t n,
                          struct conv_workspace *w, real *features)
{
    const struct stage *s = &c->stage[i];
    const struct conv *conv = &s->conv, *next = i + 1 < c->stages ? &c->stage[i + 1].conv : NULL;
    struct stage_workspace *place = &w->stage[i];
    size_t size = conv_output_size(conv), pixels = (size_t)conv->out_height * conv->out_width;
    real *output = place->output + first * size;
    conv_forward(conv, n, place->input + first * conv_padded_size(conv), place->packed_forward, NULL, output);
    for (size_t k = 0; k < n; k++) {
        real *y = next ? conv_padded_image(next, w->stage[i + 1].input, first + k) : w->last;
        size_t row = next ? (size_t)next->padded_width * next->shape.in : (size_t)conv->out_width * conv->shape.out;
        groupnorm_relu_forward(&s->norm, output + k * size, params + s->gamma.offset, params + s->beta.offset,
                               place->statistics + (first + k) * 2 * s->norm.groups, y, row, w->scratch);
        if (!next)
            pool_mean(y, pixels, conv->shape.out, features + k * conv->shape.out);
    }
}

static void chunk_forward(const struct conv_encoder *c, const real *params, const real *images, size_t place, size_t n,
                          struct conv_workspace *w, real *features)
{
    const struct conv *first = &c->stage[0].conv;
    conv_frame_images(first, images, n, w->stage[0].input + place * conv_padded_size(first));
    for (uint32_t i = 0; i < c->stages; i++)
        for (size_t k = 0, block; k < n; k += block) {
            block = at_most(n - k, c->stage[i].conv.block);
            stage_forward(c, i, params, place + k, block, w, features + k * encoder_width(c));
        }
}

static void encoder_forward(const void *encoder, enum model_mode mode, const real *params, const real *buffers,
                            const real *images, size_t R, void *workspace, real *features)
{
    (void)buffers;
    const struct conv_encoder *c = encoder;
    struct conv_workspace *w = workspace;
    const struct conv *first = &c->stage[0].conv;
    size_t image = (size_t)first->shape.height * first->shape.width * c->channels;
    for (uint32_t i = 0; i < c->stages; i++)
        conv_pack_forward(&c->stage[i].conv, params + c->stage[i].weight.offset, w->stage[i].packed_forward);
    for (size_t r = 0; r < R; r += CHUNK)
        chunk_forward(c, params, images + r * image, mode == MODEL_TRAIN ? r : 0, at_most(R - r, CHUNK), w,
                      features + r * encoder_width(c));
}

/* d_output: gradients wrt this stage's n outputs; d_input: wrt its inputs, the outputs of the stage before (stage 0 has
 * none). */
static void stage_backward(const struct conv_encoder *c, uint32_t i, const real *params, size_t first, size_t n,
                           struct conv_workspace *w, const real *d_output, real *d_input, real *grad)
{
    const struct stage *s = &c->stage[i];
    const struct conv *conv = &s->conv;
    struct stage_workspace *place = &w->stage[i];
    size_t size = conv_output_size(conv), row = (size_t)conv->delta_width * conv->shape.out;
    for (size_t k = 0; k < n; k++)
        groupnorm_relu_backward(&s->norm, place->output + (first + k) * size, params + s->gamma.offset,
                                params + s->beta.offset, place->statistics + (first + k) * 2 * s->norm.groups,
                                d_output + k * size, place->delta + k * conv_delta_size(conv), row,
                                grad + s->gamma.offset, grad + s->beta.offset, w->scratch);
    conv_backward_weight(conv, n, place->input + first * conv_padded_size(conv), place->delta, NULL, place->gradient);
    if (i > 0)
        conv_backward_input(conv, n, place->delta, place->packed_backward, NULL, d_input);
}

static void chunk_backward(const struct conv_encoder *c, const real *params, const real *d_features, size_t place,
                           size_t n, struct conv_workspace *w, real *grad)
{
    const struct conv *last = &c->stage[c->stages - 1].conv;
    pool_spread(d_features, n, (size_t)last->out_height * last->out_width, last->shape.out,
                w->d_pixel[(c->stages - 1) % 2]);
    for (uint32_t i = c->stages; i-- > 0;) {
        const struct conv *conv = &c->stage[i].conv;
        size_t input = (size_t)conv->shape.height * conv->shape.width * conv->shape.in;
        real *d_output = w->d_pixel[i % 2], *d_input = w->d_pixel[(i + 1) % 2];
        for (size_t k = 0, block; k < n; k += block) {
            block = at_most(n - k, conv->block);
            stage_backward(c, i, params, place + k, block, w, d_output + k * conv_output_size(conv),
                           d_input + k * input, grad);
        }
    }
}

static void begin_backward(const struct stage *s, const real *params, struct stage_workspace *w, real *grad)
{
    conv_pack_backward(&s->conv, params + s->weight.offset, w->packed_backward);
    memset(w->gradient, 0, conv_gradient_size(&s->conv) * sizeof(real));
    parameter_fill(&s->gamma, 0, grad);
    parameter_fill(&s->beta, 0, grad);
}

static void encoder_backward(const void *encoder, const real *params, const real *d_features, size_t R, void *workspace,
                             real *grad)
{
    const struct conv_encoder *c = encoder;
    struct conv_workspace *w = workspace;
    for (uint32_t i = 0; i < c->stages; i++)
        begin_backward(&c->stage[i], params, &w->stage[i], grad);
    for (size_t r = 0; r < R; r += CHUNK)
        chunk_backward(c, params, d_features + r * encoder_width(c), r, at_most(R - r, CHUNK), w, grad);
    for (uint32_t i = 0; i < c->stages; i++)
        conv_unpack_gradient(&c->stage[i].conv, w->stage[i].gradient, grad + c->stage[i].weight.offset);
}

const struct encoder_ops conv_encoder_ops = {
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
