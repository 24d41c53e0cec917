/* What the ONNX files of all encoder families are made of: the trained tensors by name, and layers that opset 13 has no
 * operator for. Layers stand in the order of the forward pass; what comes out of one is named after it.
 *
 * Lack of memory is remembered, in the graph and here (failed), and reported when the file is written. */
#ifndef DECANT_CLI_ONNX_LAYERS_H
#define DECANT_CLI_ONNX_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cli/encoder_load.h"
#include "cli/onnx_graph.h"

enum { ONNX_NAME_BYTES = 96 };

struct onnx_name {
    char text[ONNX_NAME_BYTES];
};

struct onnx_layers {
    struct onnx_graph graph;
    const struct encoder *encoder;
    struct model_spec spec;
    struct onnx_name x; /* what the newest layer puts out */
    bool failed;        /* out of memory for a reordered tensor */
};

extern const double onnx_epsilon; /* of every normalisation (worker/nn) */

struct onnx_name onnx_named(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Of the model, by its name in the manifest, which has to have it. Valid as long as the encoder. */
const float *onnx_parameter(const struct onnx_layers *x, const char *name);
const float *onnx_buffer(const struct onnx_layers *x, const char *name);
/* NULL when the model has no parameter of that name. */
const struct manifest_entry *onnx_parameter_entry(const struct onnx_layers *x, const char *name);
/* To be freed; NULL out of memory, which is remembered. */
float *onnx_take_floats(struct onnx_layers *x, size_t n);

/* x = op(x, b), or op(x) when b is NULL. */
void onnx_apply(struct onnx_layers *x, const char *op, const char *b, const char *out);
void onnx_reshape(struct onnx_layers *x, const char *out, size_t n, const int64_t *shape);
/* Leaves x alone. n dimensions. */
void onnx_transpose(struct onnx_layers *x, const char *in, const char *out, size_t n, const int64_t *order);
/* A constant. */
void onnx_scalar(struct onnx_layers *x, const char *name, double value);
/* x Phi(x), by erf; needs the constants root_half, half and one. */
void onnx_gelu(struct onnx_layers *x, const char *prefix);

struct onnx_convolution {
    const char *prefix; /* of its weight, and of what comes out */
    uint32_t out, in, side;
    int64_t stride, pad;
    const float *scale, *bias; /* (out) each, of what comes out; NULL: 1, none */
};

/* (out, side, side, in) as ours to (out, in, side, side). */
void onnx_convolution(struct onnx_layers *x, const struct onnx_convolution *c);

/* What onnx_group_norm scales with and adds; once, before the first. */
void onnx_group_constants(struct onnx_layers *x);
/* GroupNorm, which opset 13 does not have: instance normalisation of each group as one long row. */
void onnx_group_norm(struct onnx_layers *x, const char *prefix, uint32_t channels, uint32_t height, uint32_t width);

#endif
