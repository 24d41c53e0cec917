/* Vision transformers as ONNX. */
#include "cli/onnx_encoders.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Matrices (dim, dim): x times the first is x without the mean of its row, x times the second that mean, dim times. */
static void norm_matrices(struct onnx_layers *x)
{
    const size_t dim = x->spec.dim;
    float *centre = onnx_take_floats(x, dim * dim), *mean = onnx_take_floats(x, dim * dim);
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

/* LayerNorm, which opset 13 does not have. Its gamma and beta are folded into what follows. As products of matrices,
 * which every engine computes alike: OpenCV 4.6 adds InstanceNormalization's onnx_epsilon to the deviation, and does
 * not broadcast a mean to the tokens of several images. */
static void layer_norm(struct onnx_layers *x, const char *prefix)
{
    struct onnx_name centred = onnx_named("%s.centred", prefix);
    onnx_apply(x, "MatMul", "centre", centred.text);
    onnx_apply(x, "Mul", centred.text, onnx_named("%s.squares", prefix).text);
    onnx_apply(x, "MatMul", "row_mean", onnx_named("%s.variance", prefix).text);
    onnx_apply(x, "Add", "epsilon", onnx_named("%s.shifted", prefix).text);
    onnx_apply(x, "Sqrt", NULL, onnx_named("%s.deviation", prefix).text);
    struct onnx_name deviation = x->x;
    x->x = centred;
    onnx_apply(x, "Div", deviation.text, prefix);
}

/* Rows of a matrix (.., in), of which `first` is the first. */
struct rows {
    const char *prefix; /* of its weight and bias */
    uint32_t first, rows, in;
    const char *norm; /* LayerNorm that x has gone through but for gamma and beta; NULL: none */
    double scale;     /* of all that comes out */
};

/* scale (b + W beta) and scale W diag(gamma), in double. */
static void fold_norm(const struct onnx_layers *x, const struct rows *l, const float *weight, const float *bias,
                      float *w, float *b)
{
    const float *gamma = l->norm ? onnx_parameter(x, onnx_named("%s.weight", l->norm).text) : NULL;
    const float *beta = l->norm ? onnx_parameter(x, onnx_named("%s.bias", l->norm).text) : NULL;
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
static void linear_rows(struct onnx_layers *x, const struct rows *l, const char *out)
{
    const float *weight = onnx_parameter(x, onnx_named("%s.weight", l->prefix).text) + (size_t)l->first * l->in;
    const float *bias = onnx_parameter(x, onnx_named("%s.bias", l->prefix).text) + l->first;
    float *w = onnx_take_floats(x, (size_t)l->rows * l->in), *b = onnx_take_floats(x, l->rows);
    struct onnx_name matrix = onnx_named("%s.weight", out), added = onnx_named("%s.bias", out);
    if (w && b) {
        fold_norm(x, l, weight, bias, w, b);
        onnx_floats(&x->graph, matrix.text, 2, (const int64_t[]){l->in, l->rows}, w);
        onnx_floats(&x->graph, added.text, 1, (const int64_t[]){l->rows}, b);
    }
    onnx_apply(x, "MatMul", matrix.text, onnx_named("%s.product", out).text);
    onnx_apply(x, "Add", added.text, out);
    free(w);
    free(b);
}

static uint32_t tokens_of(const struct model_spec *s)
{
    return s->height / s->patch * (s->width / s->patch) + (s->pool == VIT_POOL_CLS);
}

static void embed_patches(struct onnx_layers *x)
{
    const struct model_spec *s = &x->spec;
    const int64_t tokens = tokens_of(s), patches = tokens - (s->pool == VIT_POOL_CLS), dim = s->dim;
    const float *positions = onnx_parameter(x, "embed.positions");
    onnx_convolution(x, &(struct onnx_convolution){"embed", s->dim, s->channels, s->patch, s->patch, 0, NULL,
                                                   onnx_parameter(x, "embed.bias")});
    onnx_reshape(x, "embed.rows", 3, (const int64_t[]){0, dim, patches});
    onnx_transpose(x, x->x.text, "embed.patches", 3, (const int64_t[]){0, 2, 1});
    x->x = onnx_named("embed.patches");
    float *added = onnx_take_floats(x, (size_t)(tokens * dim));
    if (added == NULL)
        return;
    memcpy(added, positions, (size_t)(tokens * dim) * sizeof *added);
    if (s->pool == VIT_POOL_CLS) { /* a token of zeros comes first, to which cls is added with its position */
        onnx_integers(&x->graph, "embed.pads", 6, (const int64_t[]){0, 1, 0, 0, 0, 0});
        onnx_apply(x, "Pad", "embed.pads", "embed.padded");
        const float *cls = onnx_parameter(x, "embed.cls");
        for (int64_t i = 0; i < dim; i++)
            added[i] += cls[i];
    }
    onnx_floats(&x->graph, "embed.positions", 2, (const int64_t[]){tokens, dim}, added);
    onnx_apply(x, "Add", "embed.positions", "embed.tokens");
    free(added);
}

/* Rows `part` of qkv, cut into heads (N, heads, T, width), or (N, heads, width, T) for keys. */
static struct onnx_name heads_of(struct onnx_layers *x, const char *block, uint32_t part, const char *letter)
{
    const struct model_spec *s = &x->spec;
    const int64_t plain[4] = {0, 2, 1, 3}, turned[4] = {0, 2, 3, 1};
    struct onnx_name before = x->x, rows = onnx_named("%s.%s", block, letter),
                     heads = onnx_named("%s.%s.heads", block, letter);
    struct onnx_name qkv = onnx_named("%s.qkv", block), norm = onnx_named("%s.norm1", block);
    const double scale = part == 0 ? 1 / sqrt((double)s->dim / s->heads) : 1; /* of the scores, which queries begin */
    linear_rows(x, &(struct rows){qkv.text, part * s->dim, s->dim, s->dim, norm.text, scale}, rows.text);
    onnx_reshape(x, onnx_named("%s.%s.cut", block, letter).text, 4,
                 (const int64_t[]){0, -1, s->heads, s->dim / s->heads});
    onnx_transpose(x, x->x.text, heads.text, 4, part == 1 ? turned : plain);
    x->x = before;
    return heads;
}

static void attention(struct onnx_layers *x, const char *block)
{
    const struct model_spec *s = &x->spec;
    struct onnx_name q = heads_of(x, block, 0, "q"), k = heads_of(x, block, 1, "k"), v = heads_of(x, block, 2, "v");
    struct onnx_name softmax = onnx_named("%s.softmax", block), rows = onnx_named("%s.mixed.rows", block);
    x->x = q;
    onnx_apply(x, "MatMul", k.text, onnx_named("%s.scores", block).text);
    onnx_node(&x->graph, &(struct onnx_node){.op = "Softmax",
                                             .in = {x->x.text},
                                             .out = softmax.text,
                                             .attributes = {{.name = "axis", .number = 3}}});
    x->x = softmax;
    onnx_apply(x, "MatMul", v.text, onnx_named("%s.mixed", block).text);
    onnx_transpose(x, x->x.text, rows.text, 4, (const int64_t[]){0, 2, 1, 3});
    x->x = rows;
    onnx_reshape(x, onnx_named("%s.attended", block).text, 3, (const int64_t[]){0, -1, s->dim});
    struct onnx_name out = onnx_named("%s.out", block);
    linear_rows(x, &(struct rows){out.text, 0, s->dim, s->dim, NULL, 1}, out.text);
}

static void block(struct onnx_layers *x, uint32_t number)
{
    const struct model_spec *s = &x->spec;
    struct onnx_name name = onnx_named("block%u", number), in = x->x;
    const char *b = name.text;
    layer_norm(x, onnx_named("%s.norm1", b).text);
    attention(x, b);
    onnx_apply(x, "Add", in.text, onnx_named("%s.mid", b).text);
    struct onnx_name mid = x->x;
    struct onnx_name norm = onnx_named("%s.norm2", b), mlp1 = onnx_named("%s.mlp1", b), mlp2 = onnx_named("%s.mlp2", b);
    layer_norm(x, norm.text);
    linear_rows(x, &(struct rows){mlp1.text, 0, s->mlp * s->dim, s->dim, norm.text, 1}, mlp1.text);
    onnx_gelu(x, mlp1.text);
    linear_rows(x, &(struct rows){mlp2.text, 0, s->dim, s->mlp * s->dim, NULL, 1}, mlp2.text);
    onnx_apply(x, "Add", mid.text, b);
}

static void first_token(struct onnx_layers *x)
{
    onnx_integers(&x->graph, "cls.first", 1, (const int64_t[]){0});
    onnx_integers(&x->graph, "cls.end", 1, (const int64_t[]){1});
    onnx_integers(&x->graph, "cls.axis", 1, (const int64_t[]){1});
    onnx_node(&x->graph,
              &(struct onnx_node){.op = "Slice", .in = {x->x.text, "cls.first", "cls.end", "cls.axis"}, .out = "cls"});
    x->x = onnx_named("cls");
}

/* As the mean over the pixels of an image. */
static void mean_tokens(struct onnx_layers *x)
{
    struct onnx_name turned = onnx_named("pool.turned");
    onnx_transpose(x, x->x.text, turned.text, 3, (const int64_t[]){0, 2, 1});
    x->x = turned;
    onnx_reshape(x, "pool.pixels", 4, (const int64_t[]){0, x->spec.dim, tokens_of(&x->spec), 1});
    onnx_apply(x, "GlobalAveragePool", NULL, "pool");
}

void onnx_vit_encoder(struct onnx_layers *x)
{
    const struct model_spec *s = &x->spec;
    norm_matrices(x);
    onnx_scalar(x, "epsilon", onnx_epsilon);
    embed_patches(x);
    for (uint32_t i = 0; i < s->depth; i++)
        block(x, i + 1);
    layer_norm(x, "norm");
    if (s->pool == VIT_POOL_MEAN)
        mean_tokens(x);
    else
        first_token(x);
    onnx_reshape(x, "pooled", 2, (const int64_t[]){0, s->dim});
    onnx_floats(&x->graph, "norm.weight", 1, (const int64_t[]){s->dim}, onnx_parameter(x, "norm.weight"));
    onnx_floats(&x->graph, "norm.bias", 1, (const int64_t[]){s->dim}, onnx_parameter(x, "norm.bias"));
    onnx_apply(x, "Mul", "norm.weight", "norm.scaled");
    onnx_apply(x, "Add", "norm.bias", "features");
}
