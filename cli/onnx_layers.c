/* Nodes are made in the order in which they are computed. */
#include "cli/onnx_layers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double onnx_epsilon = 1e-5;

struct onnx_name onnx_named(const char *format, ...)
{
    struct onnx_name n;
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

const struct manifest_entry *onnx_parameter_entry(const struct onnx_layers *x, const char *name)
{
    const struct manifest *m = model_manifest(x->encoder->model);
    return entry_of(m->parameters, m->parameter_count, name);
}

const float *onnx_parameter(const struct onnx_layers *x, const char *name)
{
    const struct manifest_entry *entry = onnx_parameter_entry(x, name);
    ASSERT(entry != NULL);
    return x->encoder->params + entry->offset;
}

const float *onnx_buffer(const struct onnx_layers *x, const char *name)
{
    const struct manifest *m = model_manifest(x->encoder->model);
    const struct manifest_entry *entry = entry_of(m->buffers, m->buffer_count, name);
    ASSERT(entry != NULL);
    return x->encoder->buffers + entry->offset;
}

float *onnx_take_floats(struct onnx_layers *x, size_t n)
{
    float *data = malloc(n * sizeof *data);
    x->failed = x->failed || data == NULL;
    return data;
}

/* ---- nodes ---- */

void onnx_apply(struct onnx_layers *x, const char *op, const char *b, const char *out)
{
    onnx_node(&x->graph, &(struct onnx_node){.op = op, .in = {x->x.text, b}, .out = out});
    x->x = onnx_named("%s", out);
}

void onnx_reshape(struct onnx_layers *x, const char *out, size_t n, const int64_t *shape)
{
    struct onnx_name to = onnx_named("%s.shape", out);
    onnx_integers(&x->graph, to.text, n, shape);
    onnx_apply(x, "Reshape", to.text, out);
}

void onnx_transpose(struct onnx_layers *x, const char *in, const char *out, size_t n, const int64_t *order)
{
    onnx_node(&x->graph, &(struct onnx_node){.op = "Transpose",
                                             .in = {in},
                                             .out = out,
                                             .attributes = {{.name = "perm", .integers = order, .n = n}}});
}

void onnx_scalar(struct onnx_layers *x, const char *name, double value)
{
    const float v = (float)value;
    onnx_floats(&x->graph, name, 1, (const int64_t[]){1}, &v);
}

void onnx_gelu(struct onnx_layers *x, const char *prefix)
{
    struct onnx_name in = x->x, scaled = onnx_named("%s.gelu.scaled", prefix), erf = onnx_named("%s.gelu.erf", prefix);
    struct onnx_name shifted = onnx_named("%s.gelu.shifted", prefix), both = onnx_named("%s.gelu.product", prefix);
    onnx_apply(x, "Mul", "root_half", scaled.text);
    onnx_apply(x, "Erf", NULL, erf.text);
    onnx_apply(x, "Add", "one", shifted.text);
    onnx_apply(x, "Mul", in.text, both.text);
    onnx_apply(x, "Mul", "half", onnx_named("%s.gelu", prefix).text);
}

/* ---- convolutions ---- */

void onnx_convolution(struct onnx_layers *x, const struct onnx_convolution *c)
{
    size_t taps = (size_t)c->side * c->side;
    const float *from = onnx_parameter(x, onnx_named("%s.weight", c->prefix).text);
    float *to = onnx_take_floats(x, c->out * c->in * taps);
    if (to == NULL)
        return;
    for (size_t o = 0; o < c->out; o++)
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < c->in; i++)
                to[(o * c->in + i) * taps + t] = from[(o * taps + t) * c->in + i] * (c->scale ? c->scale[o] : 1);
    struct onnx_name weight = onnx_named("%s.weight", c->prefix), added = onnx_named("%s.bias", c->prefix);
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
    x->x = onnx_named("%s", c->prefix);
    free(to);
}

/* ---- normalisation ---- */

static void repeated(struct onnx_layers *x, const char *name, uint32_t n, float value)
{
    float *data = onnx_take_floats(x, n);
    for (uint32_t i = 0; data && i < n; i++)
        data[i] = value;
    if (data)
        onnx_floats(&x->graph, name, 1, (const int64_t[]){n}, data);
    free(data);
}

/* Mean 0 and variance 1 of everything behind the second dimension. ones, zeros: constants as long as that one. */
static void instance_norm(struct onnx_layers *x, const char *ones, const char *zeros, const char *out)
{
    onnx_node(&x->graph,
              &(struct onnx_node){.op = "InstanceNormalization",
                                  .in = {x->x.text, ones, zeros},
                                  .out = out,
                                  .attributes = {{.name = "epsilon", .is_float = true, .number = onnx_epsilon}}});
    x->x = onnx_named("%s", out);
}

void onnx_group_constants(struct onnx_layers *x)
{
    repeated(x, "group.ones", x->spec.groups, 1);
    repeated(x, "group.zeros", x->spec.groups, 0);
}

void onnx_group_norm(struct onnx_layers *x, const char *prefix, uint32_t channels, uint32_t height, uint32_t width)
{
    struct onnx_name gamma = onnx_named("%s.weight", prefix), beta = onnx_named("%s.bias", prefix);
    onnx_reshape(x, onnx_named("%s.rows", prefix).text, 3, (const int64_t[]){0, x->spec.groups, -1});
    instance_norm(x, "group.ones", "group.zeros", onnx_named("%s.normal", prefix).text);
    onnx_reshape(x, onnx_named("%s.pixels", prefix).text, 4, (const int64_t[]){0, channels, height, width});
    onnx_floats(&x->graph, gamma.text, 3, (const int64_t[]){channels, 1, 1}, onnx_parameter(x, gamma.text));
    onnx_floats(&x->graph, beta.text, 3, (const int64_t[]){channels, 1, 1}, onnx_parameter(x, beta.text));
    onnx_apply(x, "Mul", gamma.text, onnx_named("%s.scaled", prefix).text);
    onnx_apply(x, "Add", beta.text, prefix);
}
