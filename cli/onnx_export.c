/* What families have in common: standardisation in front, the projection head behind, and the file. */
#include "cli/onnx_export.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cli/encoder_load.h"
#include "cli/onnx_encoders.h"
#include "common/version.h"
#include "worker/model_spec.h"

/* ---- the head ---- */

/* Layer `number` with the BatchNorm that follows it, if there is one, folded in: s (W x + b - mean) + beta. */
static void head_layer(struct onnx_layers *x, int number, uint32_t out, uint32_t in, bool normalised)
{
    struct onnx_name prefix = onnx_named("head.linear%d", number), bn = onnx_named("head.bn%d", number);
    const float *weight = onnx_parameter(x, onnx_named("%s.weight", prefix.text).text);
    const float *bias = onnx_parameter(x, onnx_named("%s.bias", prefix.text).text);
    float *w = onnx_take_floats(x, (size_t)out * in), *b = onnx_take_floats(x, out);
    for (uint32_t o = 0; w && b && o < out; o++) {
        double scale = 1, shift = bias[o];
        if (normalised) {
            scale = (double)onnx_parameter(x, onnx_named("%s.weight", bn.text).text)[o] /
                    sqrt((double)onnx_buffer(x, onnx_named("%s.var", bn.text).text)[o] + onnx_epsilon);
            shift = scale * ((double)bias[o] - (double)onnx_buffer(x, onnx_named("%s.mean", bn.text).text)[o]) +
                    (double)onnx_parameter(x, onnx_named("%s.bias", bn.text).text)[o];
        }
        for (size_t i = 0; i < in; i++)
            w[o * (size_t)in + i] = (float)(scale * (double)weight[o * (size_t)in + i]);
        b[o] = (float)shift;
    }
    struct onnx_name folded = onnx_named("%s.weight", prefix.text), added = onnx_named("%s.bias", prefix.text);
    if (w && b) {
        onnx_floats(&x->graph, folded.text, 2, (const int64_t[]){out, in}, w);
        onnx_floats(&x->graph, added.text, 1, (const int64_t[]){out}, b);
    }
    const char *to = normalised ? prefix.text : "projections";
    onnx_node(&x->graph, &(struct onnx_node){.op = "Gemm",
                                             .in = {x->x.text, folded.text, added.text},
                                             .out = to,
                                             .attributes = {{.name = "transB", .number = 1}}});
    x->x = onnx_named("%s", to);
    if (normalised)
        onnx_gelu(x, prefix.text);
    free(w);
    free(b);
}

/* ---- the whole ---- */

/* (x - mean) / deviation of each channel as a convolution of 1 x 1: OpenCV 4.6 does not broadcast a number for each
 * channel to several images at once. */
static void standardise(struct onnx_layers *x)
{
    const size_t C = x->spec.channels;
    const struct pixel_scale *scale = &x->encoder->scale;
    float weights[DATASET_CHANNELS_MAX * DATASET_CHANNELS_MAX] = {0}, bias[DATASET_CHANNELS_MAX];
    for (size_t c = 0; c < C; c++) {
        weights[c * C + c] = 1 / scale->deviation[c];
        bias[c] = -scale->mean[c] / scale->deviation[c];
    }
    onnx_floats(&x->graph, "images.scale", 4, (const int64_t[]){(int64_t)C, (int64_t)C, 1, 1}, weights);
    onnx_floats(&x->graph, "images.shift", 1, (const int64_t[]){(int64_t)C}, bias);
    const int64_t once[2] = {1, 1}, none[4] = {0};
    onnx_node(&x->graph, &(struct onnx_node){.op = "Conv",
                                             .in = {"images", "images.scale", "images.shift"},
                                             .out = "images.standardised",
                                             .attributes = {{.name = "kernel_shape", .integers = once, .n = 2},
                                                            {.name = "strides", .integers = once, .n = 2},
                                                            {.name = "pads", .integers = none, .n = 4}}});
    x->x = onnx_named("images.standardised");
}

static void build(struct onnx_layers *x)
{
    const struct model_spec *s = &x->spec;
    const struct encoder *enc = x->encoder;
    onnx_input(&x->graph, "images", 4, (const int64_t[]){ONNX_BATCH, s->channels, s->height, s->width});
    onnx_output(&x->graph, "features", 2, (const int64_t[]){ONNX_BATCH, enc->features});
    onnx_output(&x->graph, "projections", 2, (const int64_t[]){ONNX_BATCH, enc->projection});
    onnx_scalar(x, "root_half", sqrt(0.5));
    onnx_scalar(x, "half", 0.5);
    onnx_scalar(x, "one", 1);
    standardise(x);
    switch (s->family) {
    case ENCODER_VIT:
        onnx_vit_encoder(x);
        break;
    case ENCODER_RESNET:
        onnx_resnet_encoder(x);
        break;
    case ENCODER_CONV:
        onnx_conv_encoder(x);
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
    if (side > 0 && c->encoder.model == ENCODER_VIT && (shape->height != side || shape->width != side))
        return error_set(
            e, ERR_CONFIG,
            "--side %u: this vision transformer has learnt positions for %u x %u pixels and takes no other "
            "size; leave --side out",
            side, shape->height, shape->width);
    if (side > 0)
        shape->height = shape->width = side;
    return 0;
}

static int write_graph(struct onnx_layers *x, const struct checkpoint *c, const char *path, struct error *e)
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
    struct onnx_layers x = {.failed = false};
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
