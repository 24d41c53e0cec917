/* Layers in the order of the forward pass; what comes out of one is named after it. */
#include "cli/onnx_export.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/encoder_load.h"
#include "cli/onnx_graph.h"
#include "common/version.h"
#include "worker/model_spec.h"

enum { NAME_MAX_BYTES = 96 };
static const double epsilon = 1e-5; /* of every normalisation (worker/nn) */

struct name {
    char text[NAME_MAX_BYTES];
};

struct export
{
    struct onnx_graph graph;
    const struct encoder *encoder;
    struct model_spec spec;
    struct name x; /* what the newest layer puts out */
    bool failed;   /* out of memory for a reordered tensor */
};

static struct name named(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct name named(const char *format, ...)
{
    struct name n;
    va_list args;
    va_start(args, format);
    vsnprintf(n.text, sizeof n.text, format, args);
    va_end(args);
    return n;
}

/* ---- the encoder's tensors ---- */

static const struct manifest_entry *entry_of(const struct manifest_entry *entries, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

/* The manifest is the model's own, so that its tensors are there. */
static const float *parameter(const struct export *x, const char *name)
{
    const struct manifest *m = model_manifest(x->encoder->model);
    const struct manifest_entry *entry = entry_of(m->parameters, m->parameter_count, name);
    ASSERT(entry != NULL);
    return x->encoder->params + entry->offset;
}

static const float *buffer(const struct export *x, const char *name)
{
    const struct manifest *m = model_manifest(x->encoder->model);
    const struct manifest_entry *entry = entry_of(m->buffers, m->buffer_count, name);
    ASSERT(entry != NULL);
    return x->encoder->buffers + entry->offset;
}

static float *take_floats(struct export *x, size_t n)
{
    float *data = malloc(n * sizeof *data);
    x->failed = x->failed || data == NULL;
    return data;
}

/* ---- nodes ---- */

/* x = op(x, b), or op(x) when b is NULL. */
static void apply(struct export *x, const char *op, const char *b, const char *out)
{
    onnx_node(&x->graph, &(struct onnx_node){.op = op, .in = {x->x.text, b}, .out = out});
    x->x = named("%s", out);
}

static void reshape(struct export *x, const char *out, size_t n, const int64_t *shape)
{
    struct name to = named("%s.shape", out);
    onnx_integers(&x->graph, to.text, n, shape);
    apply(x, "Reshape", to.text, out);
}

static void transpose(struct export *x, const char *in, const char *out, const int64_t order[4])
{
    onnx_node(&x->graph, &(struct onnx_node){.op = "Transpose",
                                             .in = {in},
                                             .out = out,
                                             .attributes = {{.name = "perm", .integers = order, .n = 4}}});
}

static void scalar(struct export *x, const char *name, double value)
{
    const float v = (float)value;
    onnx_floats(&x->graph, name, 1, (const int64_t[]){1}, &v);
}

/* x Phi(x), by erf. */
static void gelu(struct export *x, const char *prefix)
{
    struct name in = x->x, scaled = named("%s.gelu.scaled", prefix), erf = named("%s.gelu.erf", prefix);
    struct name shifted = named("%s.gelu.shifted", prefix), both = named("%s.gelu.product", prefix);
    apply(x, "Mul", "root_half", scaled.text);
    apply(x, "Erf", NULL, erf.text);
    apply(x, "Add", "one", shifted.text);
    apply(x, "Mul", in.text, both.text);
    apply(x, "Mul", "half", named("%s.gelu", prefix).text);
}

/* ---- convolutions ---- */

struct convolution {
    const char *prefix; /* of its weight, and of what comes out */
    uint32_t out, in, side;
    int64_t stride, pad;
    const float *scale, *bias; /* (out) each, of what comes out; NULL: 1, none */
};

/* (out, side, side, in) as ours to (out, in, side, side). */
static void convolution(struct export *x, const struct convolution *c)
{
    size_t taps = (size_t)c->side * c->side;
    const float *from = parameter(x, named("%s.weight", c->prefix).text);
    float *to = take_floats(x, c->out * c->in * taps);
    if (to == NULL)
        return;
    for (size_t o = 0; o < c->out; o++)
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < c->in; i++)
                to[(o * c->in + i) * taps + t] = from[(o * taps + t) * c->in + i] * (c->scale ? c->scale[o] : 1);
    struct name weight = named("%s.weight", c->prefix), added = named("%s.bias", c->prefix);
    onnx_floats(&x->graph, weight.text, 4, (const int64_t[]){c->out, c->in, c->side, c->side}, to);
    if (c->bias)
        onnx_floats(&x->graph, added.text, 1, (const int64_t[]){c->out}, c->bias);
    const int64_t kernel[2] = {c->side, c->side}, strides[2] = {c->stride, c->stride},
                  pads[4] = {c->pad, c->pad, c->pad, c->pad};
    onnx_node(&x->graph, &(struct onnx_node){.op = "Conv",
                                             .in = {x->x.text, weight.text, c->bias ? added.text : NULL},
                                             .out = c->prefix,
                                             .attributes = {{.name = "kernel_shape", .integers = kernel, .n = 2},
                                                            {.name = "strides", .integers = strides, .n = 2},
                                                            {.name = "pads", .integers = pads, .n = 4}}});
    x->x = named("%s", c->prefix);
    free(to);
}

/* ---- normalisation ---- */

static void repeated(struct export *x, const char *name, uint32_t n, float value)
{
    float *data = take_floats(x, n);
    for (uint32_t i = 0; data && i < n; i++)
        data[i] = value;
    if (data)
        onnx_floats(&x->graph, name, 1, (const int64_t[]){n}, data);
    free(data);
}

/* Mean 0 and variance 1 of everything behind the second dimension. ones, zeros: constants as long as that one. */
static void instance_norm(struct export *x, const char *ones, const char *zeros, const char *out)
{
    onnx_node(&x->graph, &(struct onnx_node){.op = "InstanceNormalization",
                                             .in = {x->x.text, ones, zeros},
                                             .out = out,
                                             .attributes = {{.name = "epsilon", .is_float = true, .number = epsilon}}});
    x->x = named("%s", out);
}

/* What group_norm scales with and adds. */
static void group_constants(struct export *x)
{
    repeated(x, "group.ones", x->spec.groups, 1);
    repeated(x, "group.zeros", x->spec.groups, 0);
}

/* GroupNorm, which opset 13 does not have: instance normalisation of each group as one long row. */
static void group_norm(struct export *x, const char *prefix, uint32_t channels, uint32_t height, uint32_t width)
{
    struct name gamma = named("%s.weight", prefix), beta = named("%s.bias", prefix);
    reshape(x, named("%s.rows", prefix).text, 3, (const int64_t[]){0, x->spec.groups, -1});
    instance_norm(x, "group.ones", "group.zeros", named("%s.normal", prefix).text);
    reshape(x, named("%s.pixels", prefix).text, 4, (const int64_t[]){0, channels, height, width});
    onnx_floats(&x->graph, gamma.text, 3, (const int64_t[]){channels, 1, 1}, parameter(x, gamma.text));
    onnx_floats(&x->graph, beta.text, 3, (const int64_t[]){channels, 1, 1}, parameter(x, beta.text));
    apply(x, "Mul", gamma.text, named("%s.scaled", prefix).text);
    apply(x, "Add", beta.text, prefix);
}

static void conv_encoder(struct export *x)
{
    const struct model_spec *s = &x->spec;
    uint32_t height = s->height, width = s->width, channels = s->channels;
    group_constants(x);
    for (uint32_t i = 0; i < s->stages; i++) {
        convolution(x, &(struct convolution){named("conv%u", i + 1).text, s->widths[i], channels, 3, 2, 1, NULL, NULL});
        height = (height + 1) / 2;
        width = (width + 1) / 2;
        channels = s->widths[i];
        group_norm(x, named("norm%u", i + 1).text, channels, height, width);
        apply(x, "Relu", NULL, named("relu%u", i + 1).text);
    }
    apply(x, "GlobalAveragePool", NULL, "pool");
    reshape(x, "features", 2, (const int64_t[]){0, channels});
}

/* ---- residual networks ---- */

/* An image on its way through the stages. */
struct plane {
    uint32_t height, width, channels;
};

/* What BatchNorm by running statistics does to the convolution before it: scale and shift, (channels) each. */
static void fold_batch_norm(const struct export *x, const char *norm, uint32_t channels, float *scale, float *shift)
{
    const float *gamma = parameter(x, named("%s.weight", norm).text), *beta = parameter(x, named("%s.bias", norm).text);
    const float *mean = buffer(x, named("%s.mean", norm).text), *variance = buffer(x, named("%s.var", norm).text);
    for (uint32_t c = 0; c < channels; c++) {
        double s = (double)gamma[c] / sqrt((double)variance[c] + epsilon);
        scale[c] = (float)s;
        shift[c] = (float)((double)beta[c] - s * (double)mean[c]);
    }
}

/* A convolution and the norm after it, which BatchNorm needs no node for. */
static void conv_norm(struct export *x, struct convolution c, const char *norm, struct plane *image)
{
    const uint32_t stride = (uint32_t)c.stride;
    bool batch = x->spec.norm == ENCODER_NORM_BATCH;
    float *scale = batch ? take_floats(x, c.out) : NULL, *shift = batch ? take_floats(x, c.out) : NULL;
    if (scale && shift)
        fold_batch_norm(x, norm, c.out, scale, shift);
    c.scale = scale;
    c.bias = shift;
    *image = (struct plane){(image->height + stride - 1) / stride, (image->width + stride - 1) / stride, c.out};
    convolution(x, &c);
    if (!batch)
        group_norm(x, norm, image->channels, image->height, image->width);
    free(scale);
    free(shift);
}

/* Of a basic block: its input, or that on every second pixel through weights and a norm of its own. */
static struct name shortcut(struct export *x, const char *block, struct plane image, uint32_t out, int64_t stride)
{
    struct name in = x->x, prefix = named("%s.shortcut", block);
    if (stride == 1 && out == image.channels)
        return in;
    conv_norm(x, (struct convolution){prefix.text, out, image.channels, 1, stride, 0, NULL, NULL},
              named("%s.norm3", block).text, &image);
    struct name through = x->x;
    x->x = in;
    return through;
}

static void basic_block(struct export *x, uint32_t number, uint32_t out, int64_t stride, struct plane *image)
{
    struct name name = named("block%u", number), beside = shortcut(x, name.text, *image, out, stride);
    const char *b = name.text;
    struct name conv1 = named("%s.conv1", b), conv2 = named("%s.conv2", b);
    conv_norm(x, (struct convolution){conv1.text, out, image->channels, 3, stride, 1, NULL, NULL},
              named("%s.norm1", b).text, image);
    apply(x, "Relu", NULL, named("%s.relu1", b).text);
    conv_norm(x, (struct convolution){conv2.text, out, out, 3, 1, 1, NULL, NULL}, named("%s.norm2", b).text, image);
    apply(x, "Add", beside.text, named("%s.sum", b).text);
    apply(x, "Relu", NULL, b);
}

/* Channels that a block puts out; 0: there is no such block. */
static uint32_t block_width(const struct export *x, uint32_t number)
{
    const struct manifest *m = model_manifest(x->encoder->model);
    const struct manifest_entry *conv =
        entry_of(m->parameters, m->parameter_count, named("block%u.conv1.weight", number).text);
    return conv ? (uint32_t)conv->shape[0] : 0;
}

/* Where a block doubles the channels, it halves the image. */
static void resnet_encoder(struct export *x)
{
    const struct model_spec *s = &x->spec;
    struct plane image = {s->height, s->width, s->channels};
    uint32_t blocks = 0, width;
    group_constants(x);
    conv_norm(x, (struct convolution){"stem.conv", s->base, s->channels, 3, 1, 1, NULL, NULL}, "stem.norm", &image);
    apply(x, "Relu", NULL, "stem");
    while ((width = block_width(x, blocks + 1)) > 0)
        basic_block(x, ++blocks, width, width == image.channels ? 1 : 2, &image);
    apply(x, "GlobalAveragePool", NULL, "pool");
    reshape(x, "features", 2, (const int64_t[]){0, image.channels});
}

/* ---- transformers ---- */

/* Matrices (dim, dim): x times the first is x without the mean of its row, x times the second that mean, dim times. */
static void norm_matrices(struct export *x)
{
    const size_t dim = x->spec.dim;
    float *centre = take_floats(x, dim * dim), *mean = take_floats(x, dim * dim);
    for (size_t i = 0; centre && mean && i < dim * dim; i++) {
        mean[i] = 1 / (float)dim;
        centre[i] = (i % (dim + 1) == 0 ? 1 : 0) - mean[i];
    }
    const int64_t shape[2] = {(int64_t)dim, (int64_t)dim};
    if (centre && mean) {
        onnx_floats(&x->graph, "centre", 2, shape, centre);
        onnx_floats(&x->graph, "row_mean", 2, shape, mean);
    }
    free(centre);
    free(mean);
}

/* LayerNorm, which opset 13 does not have. Its gamma and beta are folded into what follows. As products of matrices, which
 * every engine computes alike: OpenCV 4.6 adds InstanceNormalization's epsilon to the deviation, and does not broadcast a
 * mean to the tokens of several images. */
static void layer_norm(struct export *x, const char *prefix)
{
    struct name centred = named("%s.centred", prefix);
    apply(x, "MatMul", "centre", centred.text);
    apply(x, "Mul", centred.text, named("%s.squares", prefix).text);
    apply(x, "MatMul", "row_mean", named("%s.variance", prefix).text);
    apply(x, "Add", "epsilon", named("%s.shifted", prefix).text);
    apply(x, "Sqrt", NULL, named("%s.deviation", prefix).text);
    struct name deviation = x->x;
    x->x = centred;
    apply(x, "Div", deviation.text, prefix);
}

/* Rows of a matrix (.., in), of which `first` is the first. */
struct rows {
    const char *prefix; /* of its weight and bias */
    uint32_t first, rows, in;
    const char *norm; /* LayerNorm that x has gone through but for gamma and beta; NULL: none */
    double scale;     /* of all that comes out */
};

/* scale (b + W beta) and scale W diag(gamma), in double. */
static void fold_norm(const struct export *x, const struct rows *l, const float *weight, const float *bias, float *w,
                      float *b)
{
    const float *gamma = l->norm ? parameter(x, named("%s.weight", l->norm).text) : NULL;
    const float *beta = l->norm ? parameter(x, named("%s.bias", l->norm).text) : NULL;
    for (size_t r = 0; r < l->rows; r++) {
        double shift = (double)bias[r];
        for (size_t i = 0; i < l->in; i++) {
            double value = (double)weight[r * l->in + i];
            w[i * l->rows + r] = (float)(l->scale * (gamma ? value * (double)gamma[i] : value));
            shift += beta ? value * (double)beta[i] : 0;
        }
        b[r] = (float)(l->scale * shift);
    }
}

/* y = x W^T + b, named out. */
static void linear_rows(struct export *x, const struct rows *l, const char *out)
{
    const float *weight = parameter(x, named("%s.weight", l->prefix).text) + (size_t)l->first * l->in;
    const float *bias = parameter(x, named("%s.bias", l->prefix).text) + l->first;
    float *w = take_floats(x, (size_t)l->rows * l->in), *b = take_floats(x, l->rows);
    struct name matrix = named("%s.weight", out), added = named("%s.bias", out);
    if (w && b) {
        fold_norm(x, l, weight, bias, w, b);
        onnx_floats(&x->graph, matrix.text, 2, (const int64_t[]){l->in, l->rows}, w);
        onnx_floats(&x->graph, added.text, 1, (const int64_t[]){l->rows}, b);
    }
    apply(x, "MatMul", matrix.text, named("%s.product", out).text);
    apply(x, "Add", added.text, out);
    free(w);
    free(b);
}

static uint32_t tokens_of(const struct model_spec *s)
{
    return s->height / s->patch * (s->width / s->patch) + (s->pool == VIT_POOL_CLS);
}

static void embed_patches(struct export *x)
{
    const struct model_spec *s = &x->spec;
    const int64_t tokens = tokens_of(s), patches = tokens - (s->pool == VIT_POOL_CLS), dim = s->dim;
    const float *positions = parameter(x, "embed.positions");
    convolution(x, &(struct convolution){"embed", s->dim, s->channels, s->patch, s->patch, 0, NULL,
                                         parameter(x, "embed.bias")});
    reshape(x, "embed.rows", 3, (const int64_t[]){0, dim, patches});
    onnx_node(&x->graph,
              &(struct onnx_node){.op = "Transpose",
                                  .in = {x->x.text},
                                  .out = "embed.patches",
                                  .attributes = {{.name = "perm", .integers = (const int64_t[]){0, 2, 1}, .n = 3}}});
    x->x = named("embed.patches");
    float *added = take_floats(x, (size_t)(tokens * dim));
    if (added == NULL)
        return;
    memcpy(added, positions, (size_t)(tokens * dim) * sizeof *added);
    if (s->pool == VIT_POOL_CLS) { /* a token of zeros comes first, to which cls is added with its position */
        onnx_integers(&x->graph, "embed.pads", 6, (const int64_t[]){0, 1, 0, 0, 0, 0});
        apply(x, "Pad", "embed.pads", "embed.padded");
        const float *cls = parameter(x, "embed.cls");
        for (int64_t i = 0; i < dim; i++)
            added[i] += cls[i];
    }
    onnx_floats(&x->graph, "embed.positions", 2, (const int64_t[]){tokens, dim}, added);
    apply(x, "Add", "embed.positions", "embed.tokens");
    free(added);
}

/* Rows `part` of qkv, cut into heads (N, heads, T, width), or (N, heads, width, T) for keys. */
static struct name heads_of(struct export *x, const char *block, uint32_t part, const char *letter)
{
    const struct model_spec *s = &x->spec;
    const int64_t plain[4] = {0, 2, 1, 3}, turned[4] = {0, 2, 3, 1};
    struct name before = x->x, rows = named("%s.%s", block, letter), heads = named("%s.%s.heads", block, letter);
    struct name qkv = named("%s.qkv", block), norm = named("%s.norm1", block);
    const double scale = part == 0 ? 1 / sqrt((double)s->dim / s->heads) : 1; /* of the scores, which queries begin */
    linear_rows(x, &(struct rows){qkv.text, part * s->dim, s->dim, s->dim, norm.text, scale}, rows.text);
    reshape(x, named("%s.%s.cut", block, letter).text, 4, (const int64_t[]){0, -1, s->heads, s->dim / s->heads});
    transpose(x, x->x.text, heads.text, part == 1 ? turned : plain);
    x->x = before;
    return heads;
}

static void attention(struct export *x, const char *block)
{
    const struct model_spec *s = &x->spec;
    struct name q = heads_of(x, block, 0, "q"), k = heads_of(x, block, 1, "k"), v = heads_of(x, block, 2, "v");
    struct name softmax = named("%s.softmax", block), rows = named("%s.mixed.rows", block);
    x->x = q;
    apply(x, "MatMul", k.text, named("%s.scores", block).text);
    onnx_node(&x->graph, &(struct onnx_node){.op = "Softmax",
                                             .in = {x->x.text},
                                             .out = softmax.text,
                                             .attributes = {{.name = "axis", .number = 3}}});
    x->x = softmax;
    apply(x, "MatMul", v.text, named("%s.mixed", block).text);
    transpose(x, x->x.text, rows.text, (const int64_t[]){0, 2, 1, 3});
    x->x = rows;
    reshape(x, named("%s.attended", block).text, 3, (const int64_t[]){0, -1, s->dim});
    struct name out = named("%s.out", block);
    linear_rows(x, &(struct rows){out.text, 0, s->dim, s->dim, NULL, 1}, out.text);
}

static void block(struct export *x, uint32_t number)
{
    const struct model_spec *s = &x->spec;
    struct name name = named("block%u", number), in = x->x;
    const char *b = name.text;
    layer_norm(x, named("%s.norm1", b).text);
    attention(x, b);
    apply(x, "Add", in.text, named("%s.mid", b).text);
    struct name mid = x->x;
    struct name norm = named("%s.norm2", b), mlp1 = named("%s.mlp1", b), mlp2 = named("%s.mlp2", b);
    layer_norm(x, norm.text);
    linear_rows(x, &(struct rows){mlp1.text, 0, s->mlp * s->dim, s->dim, norm.text, 1}, mlp1.text);
    gelu(x, mlp1.text);
    linear_rows(x, &(struct rows){mlp2.text, 0, s->dim, s->mlp * s->dim, NULL, 1}, mlp2.text);
    apply(x, "Add", mid.text, b);
}

static void first_token(struct export *x)
{
    onnx_integers(&x->graph, "cls.first", 1, (const int64_t[]){0});
    onnx_integers(&x->graph, "cls.end", 1, (const int64_t[]){1});
    onnx_integers(&x->graph, "cls.axis", 1, (const int64_t[]){1});
    onnx_node(&x->graph,
              &(struct onnx_node){.op = "Slice", .in = {x->x.text, "cls.first", "cls.end", "cls.axis"}, .out = "cls"});
    x->x = named("cls");
}

/* As the mean over the pixels of an image. */
static void mean_tokens(struct export *x)
{
    struct name turned = named("pool.turned");
    onnx_node(&x->graph,
              &(struct onnx_node){.op = "Transpose",
                                  .in = {x->x.text},
                                  .out = turned.text,
                                  .attributes = {{.name = "perm", .integers = (const int64_t[]){0, 2, 1}, .n = 3}}});
    x->x = turned;
    reshape(x, "pool.pixels", 4, (const int64_t[]){0, x->spec.dim, tokens_of(&x->spec), 1});
    apply(x, "GlobalAveragePool", NULL, "pool");
}

static void vit_encoder(struct export *x)
{
    const struct model_spec *s = &x->spec;
    norm_matrices(x);
    scalar(x, "epsilon", epsilon);
    embed_patches(x);
    for (uint32_t i = 0; i < s->depth; i++)
        block(x, i + 1);
    layer_norm(x, "norm");
    if (s->pool == VIT_POOL_MEAN)
        mean_tokens(x);
    else
        first_token(x);
    reshape(x, "pooled", 2, (const int64_t[]){0, s->dim});
    onnx_floats(&x->graph, "norm.weight", 1, (const int64_t[]){s->dim}, parameter(x, "norm.weight"));
    onnx_floats(&x->graph, "norm.bias", 1, (const int64_t[]){s->dim}, parameter(x, "norm.bias"));
    apply(x, "Mul", "norm.weight", "norm.scaled");
    apply(x, "Add", "norm.bias", "features");
}

/* ---- the head ---- */

/* Layer `number` with the BatchNorm that follows it, if there is one, folded in: s (W x + b - mean) + beta. */
static void head_layer(struct export *x, int number, uint32_t out, uint32_t in, bool normalised)
{
    struct name prefix = named("head.linear%d", number), bn = named("head.bn%d", number);
    const float *weight = parameter(x, named("%s.weight", prefix.text).text);
    const float *bias = parameter(x, named("%s.bias", prefix.text).text);
    float *w = take_floats(x, (size_t)out * in), *b = take_floats(x, out);
    for (uint32_t o = 0; w && b && o < out; o++) {
        double scale = 1, shift = bias[o];
        if (normalised) {
            scale = (double)parameter(x, named("%s.weight", bn.text).text)[o] /
                    sqrt((double)buffer(x, named("%s.var", bn.text).text)[o] + epsilon);
            shift = scale * ((double)bias[o] - (double)buffer(x, named("%s.mean", bn.text).text)[o]) +
                    (double)parameter(x, named("%s.bias", bn.text).text)[o];
        }
        for (size_t i = 0; i < in; i++)
            w[o * (size_t)in + i] = (float)(scale * (double)weight[o * (size_t)in + i]);
        b[o] = (float)shift;
    }
    struct name folded = named("%s.weight", prefix.text), added = named("%s.bias", prefix.text);
    if (w && b) {
        onnx_floats(&x->graph, folded.text, 2, (const int64_t[]){out, in}, w);
        onnx_floats(&x->graph, added.text, 1, (const int64_t[]){out}, b);
    }
    const char *to = normalised ? prefix.text : "projections";
    onnx_node(&x->graph, &(struct onnx_node){.op = "Gemm",
                                             .in = {x->x.text, folded.text, added.text},
                                             .out = to,
                                             .attributes = {{.name = "transB", .number = 1}}});
    x->x = named("%s", to);
    if (normalised)
        gelu(x, prefix.text);
    free(w);
    free(b);
}

/* ---- the whole ---- */

/* One number where it does for all channels: OpenCV 4.6 broadcasts nothing else to several images at once. */
static void per_channel(struct export *x, const char *name, const float *values)
{
    const int64_t C = x->spec.channels;
    bool even = true;
    for (int64_t c = 1; c < C; c++)
        even = even && values[c] == values[0];
    if (even)
        onnx_floats(&x->graph, name, 1, (const int64_t[]){1}, values);
    else
        onnx_floats(&x->graph, name, 4, (const int64_t[]){1, C, 1, 1}, values);
}

static void build(struct export *x)
{
    const struct model_spec *s = &x->spec;
    const struct encoder *enc = x->encoder;
    onnx_input(&x->graph, "images", 4, (const int64_t[]){ONNX_BATCH, s->channels, s->height, s->width});
    onnx_output(&x->graph, "features", 2, (const int64_t[]){ONNX_BATCH, enc->features});
    onnx_output(&x->graph, "projections", 2, (const int64_t[]){ONNX_BATCH, enc->projection});
    per_channel(x, "mean", enc->scale.mean);
    per_channel(x, "deviation", enc->scale.deviation);
    scalar(x, "root_half", sqrt(0.5));
    scalar(x, "half", 0.5);
    scalar(x, "one", 1);
    x->x = named("images");
    apply(x, "Sub", "mean", "images.centred");
    apply(x, "Div", "deviation", "images.standardised");
    switch (s->family) {
    case ENCODER_VIT:
        vit_encoder(x);
        break;
    case ENCODER_RESNET:
        resnet_encoder(x);
        break;
    case ENCODER_CONV:
        conv_encoder(x);
        break;
    }
    head_layer(x, 1, s->hidden, enc->features, true);
    head_layer(x, 2, s->hidden, s->hidden, true);
    head_layer(x, 3, s->projection, s->hidden, false);
}

/* height, width and channels of shape: the run's own images', or a square of that side. */
static int image_shape(const struct run_config *c, uint32_t side, struct dataset *shape, struct error *e)
{
    struct dataset_options o = dataset_options_of(c);
    struct dataset first;
    struct error why = {0};
    *shape = (struct dataset){.height = o.side, .width = o.side, .channels = o.channels};
    if (o.side == 0 || o.channels == 0) {
        o.limit = 1;
        int rc = dataset_load(&o, DATASET_TRAIN, &first, &why);
        if (rc != 0)
            return error_set(e, ERR_CONFIG,
                             "data.side and data.channels leave the size to the run's images, and those cannot be read "
                             "(%.200s): bring them back for the export",
                             why.text);
        *shape = (struct dataset){.height = first.height, .width = first.width, .channels = first.channels};
        dataset_fini(&first);
    }
    if (side > 0)
        shape->height = shape->width = side;
    return 0;
}

static int write_graph(struct export *x, const struct checkpoint *c, const char *path, struct error *e)
{
    char step[24];
    snprintf(step, sizeof step, "%" PRIu64, c->step);
    const struct onnx_model model = {
        .name = "encoder",
        .producer_version = DECANT_VERSION,
        .description = "images (N,C,H,W), 0..1 -> features of the backbone, projections of the head",
        .keys = {"run", "step"},
        .values = {c->config.run.name, step},
    };
    build(x);
    return x->failed ? error_set(e, ERR_MEMORY, "%s: out of memory", path)
                     : onnx_graph_write(&x->graph, path, &model, e);
}

int onnx_export(const struct checkpoint *c, uint32_t side, const char *path, struct onnx_summary *out, struct error *e)
{
    struct export x = {.failed = false};
    struct dataset shape;
    struct encoder encoder;
    int rc = image_shape(&c->config, side, &shape, e);
    if (rc == 0)
        rc = model_spec_of(&c->config, &shape, &x.spec, e);
    if (rc == 0)
        rc = encoder_load(c, &shape, &encoder, e);
    if (rc != 0)
        return rc;
    x.encoder = &encoder;
    *out = (struct onnx_summary){shape.height, shape.width, shape.channels, encoder.features, encoder.projection};
    onnx_graph_init(&x.graph);
    rc = write_graph(&x, c, path, e);
    onnx_graph_fini(&x.graph);
    encoder_fini(&encoder);
    return rc;
}
