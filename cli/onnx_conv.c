/* Convolutional encoders as ONNX: plain ones with GroupNorm, and residual networks, whose BatchNorm is folded away. */
#include "cli/onnx_encoders.h"

#include <math.h>
#include <stdlib.h>

void onnx_conv_encoder(struct onnx_layers *x)
{
    const struct model_spec *s = &x->spec;
    uint32_t height = s->height, width = s->width, channels = s->channels;
    onnx_group_constants(x);
    for (uint32_t i = 0; i < s->stages; i++) {
        onnx_convolution(x, &(struct onnx_convolution){onnx_named("conv%u", i + 1).text, s->widths[i], channels, 3, 2,
                                                       1, NULL, NULL});
        height = (height + 1) / 2;
        width = (width + 1) / 2;
        channels = s->widths[i];
        onnx_group_norm(x, onnx_named("norm%u", i + 1).text, channels, height, width);
        onnx_apply(x, "Relu", NULL, onnx_named("relu%u", i + 1).text);
    }
    onnx_apply(x, "GlobalAveragePool", NULL, "pool");
    onnx_reshape(x, "features", 2, (const int64_t[]){0, channels});
}

/* ---- residual networks ---- */

/* An image on its way through the stages. */
struct plane {
    uint32_t height, width, channels;
};

/* What BatchNorm by running statistics does to the convolution before it: scale and shift, (channels) each. */
static void fold_batch_norm(const struct onnx_layers *x, const char *norm, uint32_t channels, float *scale,
                            float *shift)
{
    const float *gamma = onnx_parameter(x, onnx_named("%s.weight", norm).text),
                *beta = onnx_parameter(x, onnx_named("%s.bias", norm).text);
    const float *mean = onnx_buffer(x, onnx_named("%s.mean", norm).text),
                *variance = onnx_buffer(x, onnx_named("%s.var", norm).text);
    for (uint32_t c = 0; c < channels; c++) {
        double s = (double)gamma[c] / sqrt((double)variance[c] + onnx_epsilon);
        scale[c] = (float)s;
        shift[c] = (float)((double)beta[c] - s * (double)mean[c]);
    }
}

/* A convolution and the norm after it, which BatchNorm needs no node for. */
static void conv_norm(struct onnx_layers *x, struct onnx_convolution c, const char *norm, struct plane *image)
{
    const uint32_t stride = (uint32_t)c.stride;
    bool batch = x->spec.norm == ENCODER_NORM_BATCH;
    float *scale = batch ? onnx_take_floats(x, c.out) : NULL, *shift = batch ? onnx_take_floats(x, c.out) : NULL;
    if (scale && shift)
        fold_batch_norm(x, norm, c.out, scale, shift);
    c.scale = scale;
    c.bias = shift;
    *image = (struct plane){(image->height + stride - 1) / stride, (image->width + stride - 1) / stride, c.out};
    onnx_convolution(x, &c);
    if (!batch)
        onnx_group_norm(x, norm, image->channels, image->height, image->width);
    free(scale);
    free(shift);
}

/* Of a basic block: its input, or that on every second pixel through weights and a norm of its own. */
static struct onnx_name shortcut(struct onnx_layers *x, const char *block, struct plane image, uint32_t out,
                                 int64_t stride)
{
    struct onnx_name in = x->x, prefix = onnx_named("%s.shortcut", block);
    if (stride == 1 && out == image.channels)
        return in;
    conv_norm(x, (struct onnx_convolution){prefix.text, out, image.channels, 1, stride, 0, NULL, NULL},
              onnx_named("%s.norm3", block).text, &image);
    struct onnx_name through = x->x;
    x->x = in;
    return through;
}

static void basic_block(struct onnx_layers *x, uint32_t number, uint32_t out, int64_t stride, struct plane *image)
{
    struct onnx_name name = onnx_named("block%u", number), beside = shortcut(x, name.text, *image, out, stride);
    const char *b = name.text;
    struct onnx_name conv1 = onnx_named("%s.conv1", b), conv2 = onnx_named("%s.conv2", b);
    conv_norm(x, (struct onnx_convolution){conv1.text, out, image->channels, 3, stride, 1, NULL, NULL},
              onnx_named("%s.norm1", b).text, image);
    onnx_apply(x, "Relu", NULL, onnx_named("%s.relu1", b).text);
    conv_norm(x, (struct onnx_convolution){conv2.text, out, out, 3, 1, 1, NULL, NULL}, onnx_named("%s.norm2", b).text,
              image);
    onnx_apply(x, "Add", beside.text, onnx_named("%s.sum", b).text);
    onnx_apply(x, "Relu", NULL, b);
}

/* Channels that a block puts out; 0: there is no such block. */
static uint32_t block_width(const struct onnx_layers *x, uint32_t number)
{
    const struct manifest_entry *conv = onnx_parameter_entry(x, onnx_named("block%u.conv1.weight", number).text);
    return conv ? (uint32_t)conv->shape[0] : 0;
}

/* Where a block doubles the channels, it halves the image. */
void onnx_resnet_encoder(struct onnx_layers *x)
{
    const struct model_spec *s = &x->spec;
    struct plane image = {s->height, s->width, s->channels};
    uint32_t blocks = 0, width;
    onnx_group_constants(x);
    conv_norm(x, (struct onnx_convolution){"stem.conv", s->base, s->channels, 3, 1, 1, NULL, NULL}, "stem.norm",
              &image);
    onnx_apply(x, "Relu", NULL, "stem");
    while ((width = block_width(x, blocks + 1)) > 0)
        basic_block(x, ++blocks, width, width == image.channels ? 1 : 2, &image);
    onnx_apply(x, "GlobalAveragePool", NULL, "pool");
    onnx_reshape(x, "features", 2, (const int64_t[]){0, image.channels});
}
