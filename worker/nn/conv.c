/* Geometry of the three products of a convolution; see conv.h. */
#include "worker/nn/conv.h"

#include "common/error.h"

/* One block's input, output and weights panel should fit the second-level cache (512 KiB on small cores) with room
 * left; half of it for activations is a choice that measured well. */
enum { BLOCK_BYTES = 192 * 1024, BLOCK_MULTIPLE = 2, BLOCK_MAX = 64 };

size_t conv_padded_size(const struct conv *c)
{
    return (size_t)(2 * c->out_height + 1) * c->padded_width * c->in;
}

size_t conv_output_size(const struct conv *c)
{
    return (size_t)c->out_height * c->out_width * c->out;
}

size_t conv_delta_size(const struct conv *c)
{
    return (size_t)(c->out_height + 1) * (c->out_width + 1) * c->out;
}

size_t conv_packed_forward_size(const struct conv *c)
{
    return tile_packed_size((size_t)9 * c->in, c->out);
}

static uint32_t parity_taps(int parity)
{
    return (uint32_t)((1 + parity / 2) * (1 + parity % 2));
}

size_t conv_packed_backward_size(const struct conv *c)
{
    size_t size = 0;
    for (int p = 0; p < CONV_PARITIES; p++)
        size += tile_packed_size(parity_taps(p) * c->out, c->in);
    return size;
}

size_t conv_gradient_size(const struct conv *c)
{
    return tile_gradient_size(9 * c->in, c->out);
}

/* Offsets of output pixels: where their window starts in the padded input, where they are in the output, in the delta.
 */
static void fill_forward(struct conv *c)
{
    size_t p = 0;
    for (uint32_t s = 0; s < c->block; s++)
        for (uint32_t y = 0; y < c->out_height; y++)
            for (uint32_t x = 0; x < c->out_width; x++, p++) {
                c->forward.in[p] = (uint32_t)(s * conv_padded_size(c) + (2 * y * c->padded_width + 2 * x) * c->in);
                c->forward.out[p] = (uint32_t)p * c->out;
                c->weight.d[p] = (uint32_t)(s * conv_delta_size(c) + (y * (c->out_width + 1) + x) * c->out);
            }
}

/* Offsets of the input pixels of one parity: of the first delta they read, and of themselves. */
static void fill_input(struct conv *c, int parity)
{
    struct gather *g = &c->input[parity];
    size_t p = 0;
    for (uint32_t s = 0; s < c->block; s++)
        for (uint32_t y = parity / 2; y < c->height; y += 2)
            for (uint32_t x = parity % 2; x < c->width; x += 2, p++) {
                g->in[p] = (uint32_t)(s * conv_delta_size(c) + (y / 2 * (c->out_width + 1) + x / 2) * c->out);
                g->out[p] = ((s * c->height + y) * c->width + x) * c->in;
            }
}

/* Offset of weight k's operand from the start of a window. */
static void fill_taps(struct conv *c)
{
    uint32_t *left = c->weight.left;
    uint32_t run = 3 * c->in, K = 3 * run;
    for (uint32_t k = 0; k < K; k++)
        left[k] = k / run * c->padded_width * c->in + k % run;
}

static void describe_products(struct conv *c)
{
    c->forward =
        (struct gather){.runs = 3, .run = 3 * c->in, .stride = (size_t)c->padded_width * c->in, .columns = c->out};
    c->weight = (struct outer){.columns = c->out, .left_count = 9 * c->in};
    size_t packed = 0;
    for (int p = 0; p < CONV_PARITIES; p++) {
        uint32_t rows = 1 + p / 2, columns = 1 + p % 2;
        c->input[p] = (struct gather){
            .runs = rows, .run = columns * c->out, .columns = c->in, .stride = (size_t)(c->out_width + 1) * c->out};
        c->input_rows[p] = (size_t)((c->height + 1 - p / 2) / 2) * ((c->width + 1 - p % 2) / 2);
        c->input_packed[p] = packed;
        packed += tile_packed_size(parity_taps(p) * c->out, c->in);
    }
}

static void carve_tables(struct conv *c)
{
    size_t pixels = (size_t)c->block * c->out_height * c->out_width;
    c->forward.in = c->weight.a = arena_offsets(&c->tables, pixels);
    c->forward.out = arena_offsets(&c->tables, pixels);
    c->weight.d = arena_offsets(&c->tables, pixels);
    c->weight.left = arena_offsets(&c->tables, c->weight.left_count);
    for (int p = 0; p < CONV_PARITIES; p++) {
        c->input[p].in = arena_offsets(&c->tables, c->block * c->input_rows[p]);
        c->input[p].out = arena_offsets(&c->tables, c->block * c->input_rows[p]);
    }
}

static uint32_t block_samples(const struct conv *c)
{
    size_t samples = BLOCK_BYTES / ((conv_padded_size(c) + conv_output_size(c)) * sizeof(real));
    samples = samples / BLOCK_MULTIPLE * BLOCK_MULTIPLE;
    return samples < 1 ? 1 : samples > BLOCK_MAX ? BLOCK_MAX : (uint32_t)samples;
}

int conv_init(struct conv *c, uint32_t height, uint32_t width, uint32_t in, uint32_t out)
{
    *c = (struct conv){.height = height,
                       .width = width,
                       .in = in,
                       .out = out,
                       .out_height = (height + 1) / 2,
                       .out_width = (width + 1) / 2};
    c->padded_width = 2 * c->out_width + 1;
    c->block = block_samples(c);
    describe_products(c);
    carve_tables(c);
    if (arena_allocate(&c->tables) != 0)
        return ERR_MEMORY;
    carve_tables(c);
    fill_forward(c);
    fill_taps(c);
    for (int p = 0; p < CONV_PARITIES; p++)
        fill_input(c, p);
    return 0;
}

void conv_fini(struct conv *c)
{
    arena_free(&c->tables);
}

static struct pack forward_pack(const struct conv *c)
{
    uint32_t K = 9 * c->in;
    return (struct pack){.K = K, .columns = c->out, .n = K, .row_stride = 1, .column_stride = K};
}

void conv_pack_forward(const struct conv *c, const real *weight, real *packed)
{
    struct pack p = forward_pack(c);
    tile_pack(&p, weight, packed);
    tile_pack_bias(p.K, p.columns, NULL, packed);
}

void conv_unpack_gradient(const struct conv *c, const real *gradient, real *weight_gradient)
{
    struct pack p = forward_pack(c);
    tile_unpack_gradient(&p, gradient, weight_gradient);
}

/* Input row 2a + 1 hears tap 2 of output row a and tap 0 of output row a + 1; row 2a hears tap 1 of row a. */
static size_t tap_of(int odd, size_t i)
{
    return odd ? (i == 0 ? 2 : 0) : 1;
}

static void pack_parity(const struct conv *c, int parity, const real *weight, real *packed)
{
    uint32_t columns = 1 + parity % 2, taps = parity_taps(parity);
    struct pack p = {
        .K = taps * c->out, .columns = c->in, .n = c->out, .row_stride = (size_t)9 * c->in, .column_stride = 1};
    for (uint32_t t = 0; t < taps; t++) {
        size_t tap = tap_of(parity / 2, t / columns) * 3 + tap_of(parity % 2, t % columns);
        p.k0 = (size_t)t * c->out;
        tile_pack(&p, weight + tap * c->in, packed);
    }
    tile_pack_bias(p.K, p.columns, NULL, packed);
}

void conv_pack_backward(const struct conv *c, const real *weight, real *packed)
{
    for (int p = 0; p < CONV_PARITIES; p++)
        pack_parity(c, p, weight, packed + c->input_packed[p]);
}

void conv_forward(const struct conv *c, size_t n, const real *input, const real *packed, real *output)
{
    ASSERT(n <= c->block);
    gather_product(&c->forward, n * c->out_height * c->out_width, input, packed, output);
}

void conv_backward_input(const struct conv *c, size_t n, const real *delta, const real *packed, real *d_input)
{
    ASSERT(n <= c->block);
    for (int p = 0; p < CONV_PARITIES; p++)
        gather_product(&c->input[p], n * c->input_rows[p], delta, packed + c->input_packed[p], d_input);
}

void conv_backward_weight(const struct conv *c, size_t n, const real *input, const real *delta, real *gradient)
{
    ASSERT(n <= c->block);
    gather_outer(&c->weight, n * c->out_height * c->out_width, input, delta, gradient);
}
