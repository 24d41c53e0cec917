/* Geometry of the three products of a convolution; see conv.h. */
#include "worker/nn/conv.h"

#include <string.h>
#include "common/error.h"

/* One block's input, output and weights panel should fit the second-level cache (512 KiB on small cores) with room
 * left; half of it for activations is a choice that measured well. */
enum { BLOCK_BYTES = 192 * 1024, BLOCK_MULTIPLE = 2, BLOCK_MAX = 64 };

size_t conv_padded_size(const struct conv *c)
{
    return (size_t)c->padded_height * c->padded_width * c->shape.in;
}

size_t conv_output_size(const struct conv *c)
{
    return (size_t)c->out_height * c->out_width * c->shape.out;
}

size_t conv_delta_size(const struct conv *c)
{
    return (size_t)(c->out_height + 1 + c->delta_margin) * c->delta_width * c->shape.out;
}

real *conv_padded_image(const struct conv *c, real *input, size_t i)
{
    return input + i * conv_padded_size(c) + ((size_t)c->padded_width + 1) * c->shape.in;
}

real *conv_delta_image(const struct conv *c, real *delta, size_t i)
{
    return delta + i * conv_delta_size(c) + ((size_t)c->delta_width + 1) * c->delta_margin * c->shape.out;
}

void conv_frame_images(const struct conv *c, const real *images, size_t n, real *input)
{
    size_t line = (size_t)c->shape.width * c->shape.in;
    for (size_t i = 0; i < n; i++)
        for (size_t y = 0; y < c->shape.height; y++, images += line)
            memcpy(conv_padded_image(c, input, i) + y * c->padded_width * c->shape.in, images, line * sizeof(real));
}

size_t conv_scratch_size(const struct conv *c)
{
    return c->short_cut ? winograd_scratch_size(&c->winograd) : 0;
}

size_t conv_packed_forward_size(const struct conv *c)
{
    if (c->short_cut)
        return winograd_packed_forward_size(&c->winograd);
    return tile_packed_size_in(c->precision, (size_t)9 * c->shape.in, c->shape.out);
}

/* Taps that a coordinate hears: all three with stride 1; with stride 2 one when it is even, two when it is odd. */
static uint32_t coordinate_taps(const struct conv *c, uint32_t remainder)
{
    return c->shape.stride == 1 ? 3 : 1 + remainder;
}

static uint32_t phase_row(const struct conv *c, uint32_t phase)
{
    return phase / c->shape.stride;
}

static uint32_t phase_column(const struct conv *c, uint32_t phase)
{
    return phase % c->shape.stride;
}

static uint32_t phase_taps(const struct conv *c, uint32_t phase)
{
    return coordinate_taps(c, phase_row(c, phase)) * coordinate_taps(c, phase_column(c, phase));
}

size_t conv_packed_backward_size(const struct conv *c)
{
    size_t size = 0;
    if (c->short_cut)
        return winograd_packed_backward_size(&c->winograd);
    for (uint32_t p = 0; p < c->phases; p++)
        size += tile_packed_size_in(c->precision, phase_taps(c, p) * c->shape.out, c->shape.in);
    return size;
}

size_t conv_gradient_size(const struct conv *c)
{
    if (c->short_cut)
        return winograd_gradient_size(&c->winograd);
    return tile_gradient_size_in(c->precision, 9 * c->shape.in, c->shape.out);
}

/* Offsets of output pixels: where their window starts in the padded input, where they are in the output, in the delta.
 */
static void fill_forward(struct conv *c)
{
    const struct conv_shape *s = &c->shape;
    size_t p = 0, margin = c->delta_margin;
    for (uint32_t i = 0; i < c->block; i++)
        for (uint32_t y = 0; y < c->out_height; y++)
            for (uint32_t x = 0; x < c->out_width; x++, p++) {
                c->forward.in[p] = (uint32_t)(i * conv_padded_size(c) + (y * c->padded_width + x) * s->stride * s->in);
                c->forward.out[p] = (uint32_t)p * s->out;
                c->weight.d[p] =
                    (uint32_t)(i * conv_delta_size(c) + ((y + margin) * c->delta_width + x + margin) * s->out);
            }
}

/* Offsets of the input pixels of one phase: of the first delta they read, and of themselves. */
static void fill_input(struct conv *c, uint32_t phase)
{
    const struct conv_shape *s = &c->shape;
    struct gather *g = &c->input[phase];
    size_t p = 0;
    for (uint32_t i = 0; i < c->block; i++)
        for (uint32_t y = phase_row(c, phase); y < s->height; y += s->stride)
            for (uint32_t x = phase_column(c, phase); x < s->width; x += s->stride, p++) {
                g->in[p] =
                    (uint32_t)(i * conv_delta_size(c) + (y / s->stride * c->delta_width + x / s->stride) * s->out);
                g->out[p] = ((i * s->height + y) * s->width + x) * s->in;
            }
}

/* Offset of weight k's operand from the start of a window. */
static void fill_taps(struct conv *c)
{
    uint32_t *left = c->weight.left;
    uint32_t run = 3 * c->shape.in, K = 3 * run;
    for (uint32_t k = 0; k < K; k++)
        left[k] = k / run * c->padded_width * c->shape.in + k % run;
}

static void describe_products(struct conv *c)
{
    const struct conv_shape *s = &c->shape;
    c->forward = (struct gather){.runs = 3,
                                 .run = 3 * s->in,
                                 .stride = (size_t)c->padded_width * s->in,
                                 .columns = s->out,
                                 .precision = c->precision};
    c->weight = (struct outer){.columns = s->out, .left_count = 9 * s->in, .precision = c->precision};
    size_t packed = 0;
    for (uint32_t p = 0; p < c->phases; p++) {
        uint32_t row = phase_row(c, p), column = phase_column(c, p);
        c->input[p] = (struct gather){.runs = coordinate_taps(c, row),
                                      .run = coordinate_taps(c, column) * s->out,
                                      .columns = s->in,
                                      .stride = (size_t)c->delta_width * s->out,
                                      .precision = c->precision};
        c->input_rows[p] =
            (size_t)((s->height + s->stride - 1 - row) / s->stride) * ((s->width + s->stride - 1 - column) / s->stride);
        c->input_packed[p] = packed;
        packed += tile_packed_size_in(c->precision, phase_taps(c, p) * s->out, s->in);
    }
}

static void carve_tables(struct conv *c)
{
    size_t pixels = (size_t)c->block * c->out_height * c->out_width;
    c->forward.in = c->weight.a = arena_offsets(&c->tables, pixels);
    c->forward.out = arena_offsets(&c->tables, pixels);
    c->weight.d = arena_offsets(&c->tables, pixels);
    c->weight.left = arena_offsets(&c->tables, c->weight.left_count);
    for (uint32_t p = 0; p < c->phases; p++) {
        c->input[p].in = arena_offsets(&c->tables, c->block * c->input_rows[p]);
        c->input[p].out = arena_offsets(&c->tables, c->block * c->input_rows[p]);
    }
}

static uint32_t block_samples(const struct conv *c)
{
    size_t samples = BLOCK_BYTES / ((conv_padded_size(c) + conv_output_size(c)) * sizeof(real));
    samples = samples / BLOCK_MULTIPLE * BLOCK_MULTIPLE;
    if (c->short_cut && samples < winograd_samples(&c->winograd))
        samples = winograd_samples(&c->winograd);
    return samples < 1 ? 1 : samples > BLOCK_MAX ? BLOCK_MAX : (uint32_t)samples;
}

/* Fills the tables of the plain products. */
static int init_products(struct conv *c)
{
    describe_products(c);
    carve_tables(c);
    if (arena_allocate(&c->tables) != 0)
        return ERR_MEMORY;
    carve_tables(c);
    fill_forward(c);
    fill_taps(c);
    for (uint32_t p = 0; p < c->phases; p++)
        fill_input(c, p);
    return 0;
}

int conv_init(struct conv *c, struct conv_shape shape, enum encoder_precision precision)
{
    ASSERT(shape.stride == 1 || shape.stride == 2);
    uint32_t stride = shape.stride;
    *c = (struct conv){.shape = shape,
                       .precision = precision,
                       .out_height = (shape.height + stride - 1) / stride,
                       .out_width = (shape.width + stride - 1) / stride,
                       .delta_margin = stride == 1 ? 1 : 0,
                       .phases = stride * stride};
    c->padded_height = stride * (c->out_height - 1) + 3;
    c->padded_width = stride * (c->out_width - 1) + 3;
    c->delta_width = c->out_width + 1 + c->delta_margin;
    c->short_cut = stride == 1 && precision == PRECISION_FLOAT32 && winograd_pays(shape.in, shape.out);
    if (c->short_cut && winograd_init(&c->winograd, shape.height, shape.width, shape.in, shape.out) != 0)
        return ERR_MEMORY;
    c->block = block_samples(c);
    return c->short_cut ? 0 : init_products(c);
}

void conv_fini(struct conv *c)
{
    arena_free(&c->tables);
    winograd_fini(&c->winograd);
}

static struct pack forward_pack(const struct conv *c)
{
    uint32_t K = 9 * c->shape.in;
    return (struct pack){
        .K = K, .columns = c->shape.out, .n = K, .row_stride = 1, .column_stride = K, .precision = c->precision};
}

void conv_pack_forward(const struct conv *c, const real *weight, real *packed)
{
    struct pack p = forward_pack(c);
    if (c->short_cut) {
        winograd_pack_forward(&c->winograd, weight, packed);
        return;
    }
    tile_pack(&p, weight, packed);
    tile_pack_bias_in(c->precision, p.K, p.columns, NULL, packed);
}

void conv_unpack_gradient(const struct conv *c, real *gradient, real *weight_gradient)
{
    struct pack p = forward_pack(c);
    if (c->short_cut)
        winograd_unpack_gradient(&c->winograd, gradient, weight_gradient);
    else
        tile_unpack_gradient(&p, gradient, weight_gradient);
}

/* The tap by which a coordinate hears the i-th output that it reads. Stride 1: taps 2, 1, 0 of outputs y - 1, y, y + 1.
 * Stride 2: 2a + 1 hears tap 2 of output a and tap 0 of output a + 1; 2a hears tap 1 of output a. */
static size_t tap_of(const struct conv *c, uint32_t remainder, size_t i)
{
    if (c->shape.stride == 1)
        return 2 - i;
    return remainder ? (i == 0 ? 2 : 0) : 1;
}

static void pack_phase(const struct conv *c, uint32_t phase, const real *weight, real *packed)
{
    uint32_t row = phase_row(c, phase), column = phase_column(c, phase);
    uint32_t columns = coordinate_taps(c, column), taps = phase_taps(c, phase);
    struct pack p = {.K = taps * c->shape.out,
                     .columns = c->shape.in,
                     .n = c->shape.out,
                     .row_stride = (size_t)9 * c->shape.in,
                     .column_stride = 1,
                     .precision = c->precision};
    for (uint32_t t = 0; t < taps; t++) {
        size_t tap = tap_of(c, row, t / columns) * 3 + tap_of(c, column, t % columns);
        p.k0 = (size_t)t * c->shape.out;
        tile_pack(&p, weight + tap * c->shape.in, packed);
    }
    tile_pack_bias_in(c->precision, p.K, p.columns, NULL, packed);
}

void conv_pack_backward(const struct conv *c, const real *weight, real *packed)
{
    if (c->short_cut)
        winograd_pack_backward(&c->winograd, weight, packed);
    for (uint32_t p = 0; !c->short_cut && p < c->phases; p++)
        pack_phase(c, p, weight, packed + c->input_packed[p]);
}

void conv_forward(const struct conv *c, size_t n, const real *input, const real *packed, real *scratch, real *output)
{
    ASSERT(n <= c->block);
    if (c->short_cut)
        winograd_forward(&c->winograd, n, input, packed, scratch, output);
    else
        gather_product(&c->forward, n * c->out_height * c->out_width, input, packed, output);
}

void conv_backward_input(const struct conv *c, size_t n, const real *delta, const real *packed, real *scratch,
                         real *d_input)
{
    ASSERT(n <= c->block);
    if (c->short_cut)
        winograd_backward_input(&c->winograd, n, delta, packed, scratch, d_input);
    for (uint32_t p = 0; !c->short_cut && p < c->phases; p++)
        gather_product(&c->input[p], n * c->input_rows[p], delta, packed + c->input_packed[p], d_input);
}

void conv_backward_weight(const struct conv *c, size_t n, const real *input, const real *delta, real *scratch,
                          real *gradient)
{
    ASSERT(n <= c->block);
    if (c->short_cut)
        winograd_backward_weight(&c->winograd, n, input, delta, scratch, gradient);
    else
        gather_outer(&c->weight, n * c->out_height * c->out_width, input, delta, gradient);
}
