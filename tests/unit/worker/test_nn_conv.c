/* Convolutions against loops in double: products, both gradients, and that an image's results are its own. */
#include "tests/unit/worker/nn_support.h"

#include <string.h>
#include "tests/unit/kernels_each.h"
#include "worker/nn/conv.h"

/* Calls visit(weight index, input index or -1, output index) for every product of the convolution of n samples. */
struct tap {
    size_t weight, input, output;
};

static bool tap_at(const struct conv *c, size_t sample, size_t y, size_t x, size_t tap, size_t ci, size_t o,
                   struct tap *t)
{
    size_t iy = c->shape.stride * y + tap / 3,
           ix = c->shape.stride * x + tap % 3; /* one more than the input's coordinates */
    if (iy == 0 || ix == 0 || iy > c->shape.height || ix > c->shape.width)
        return false;
    t->weight = (o * 9 + tap) * c->shape.in + ci;
    t->input = ((sample * c->shape.height + iy - 1) * c->shape.width + ix - 1) * c->shape.in + ci;
    t->output = ((sample * c->out_height + y) * c->out_width + x) * c->shape.out + o;
    return true;
}

struct conv_reference {
    double *output, *d_input, *d_weight;
};

static void slow_conv(const struct conv *c, size_t n, const real *input, const real *weight, const real *delta,
                      struct conv_reference *r)
{
    r->output = nn_zeros(n * conv_output_size(c));
    r->d_input = nn_zeros(n * c->shape.height * c->shape.width * c->shape.in);
    r->d_weight = nn_zeros((size_t)9 * c->shape.in * c->shape.out);
    struct tap t;
    for (size_t s = 0; s < n; s++)
        for (size_t p = 0; p < (size_t)c->out_height * c->out_width; p++)
            for (size_t k = 0; k < (size_t)9 * c->shape.in; k++)
                for (size_t o = 0; o < c->shape.out; o++)
                    if (tap_at(c, s, p / c->out_width, p % c->out_width, k / c->shape.in, k % c->shape.in, o, &t)) {
                        r->output[t.output] += (double)weight[t.weight] * (double)input[t.input];
                        r->d_input[t.input] += (double)weight[t.weight] * (double)delta[t.output];
                        r->d_weight[t.weight] += (double)input[t.input] * (double)delta[t.output];
                    }
}

/* rows x columns pixels of `channels`, into frames of frame_rows x frame_columns starting at (at, at). */
static real *frame(const real *x, size_t n, size_t rows, size_t columns, size_t channels, size_t frame_rows,
                   size_t frame_columns, size_t at)
{
    real *framed = nn_take(n * frame_rows * frame_columns * channels);
    for (size_t s = 0; s < n; s++)
        for (size_t y = 0; y < rows; y++)
            memcpy(framed + ((s * frame_rows + y + at) * frame_columns + at) * channels,
                   x + (s * rows + y) * columns * channels, columns * channels * sizeof(real));
    return framed;
}

static void check_conv_products(const struct conv *c, size_t n, const real *input, const real *weight,
                                const real *delta, const struct conv_reference *want)
{
    real *padded = frame(input, n, c->shape.height, c->shape.width, c->shape.in, c->padded_height, c->padded_width, 1);
    real *deltas = frame(delta, n, c->out_height, c->out_width, c->shape.out, c->out_height + 1 + c->delta_margin,
                         c->delta_width, c->delta_margin);
    real *forward = nn_take(conv_packed_forward_size(c)), *backward = nn_take(conv_packed_backward_size(c));
    real *output = nn_take(n * conv_output_size(c)),
         *d_input = nn_take(n * c->shape.height * c->shape.width * c->shape.in);
    real *gradient = nn_take(conv_gradient_size(c)), *d_weight = nn_take((size_t)9 * c->shape.in * c->shape.out);
    real *scratch = nn_take(conv_scratch_size(c));
    conv_pack_forward(c, weight, forward);
    conv_pack_backward(c, weight, backward);
    conv_forward(c, n, padded, forward, scratch, output);
    conv_backward_input(c, n, deltas, backward, scratch, d_input);
    conv_backward_weight(c, n, padded, deltas, scratch, gradient);
    conv_unpack_gradient(c, gradient, d_weight);
    nn_assert_close("output", output, want->output, n * conv_output_size(c));
    nn_assert_close("d_input", d_input, want->d_input, n * c->shape.height * c->shape.width * c->shape.in);
    nn_assert_close("d_weight", d_weight, want->d_weight, (size_t)9 * c->shape.in * c->shape.out);
    real *all[] = {padded, deltas, forward, backward, output, d_input, gradient, d_weight, scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void check_conv(struct conv_shape k)
{
    struct conv c;
    assert_int_equal(conv_init(&c, k, PRECISION_FLOAT32), 0);
    assert_int_equal(c.out_height, (k.height + k.stride - 1) / k.stride);
    size_t n = c.block < 3 ? c.block : 3;
    real *input = nn_random(1, n * k.height * k.width * k.in), *weight = nn_random(2, (size_t)9 * k.in * k.out);
    real *delta = nn_random(3, n * conv_output_size(&c));
    struct conv_reference want;
    slow_conv(&c, n, input, weight, delta, &want);
    check_conv_products(&c, n, input, weight, delta, &want);
    free(want.output);
    free(want.d_input);
    free(want.d_weight);
    free(input);
    free(weight);
    free(delta);
    conv_fini(&c);
}

static void test_conv(void **state)
{
    (void)state;
    const struct conv_shape cases[] = {
        {1, 1, 1, 1, 2},   {2, 2, 1, 3, 2},    {1, 5, 2, 4, 2},   {28, 28, 1, 24, 2}, {14, 14, 24, 48, 2},
        {7, 7, 48, 96, 2}, {4, 4, 3, 17, 2},   {5, 8, 3, 10, 2},  {9, 2, 2, 33, 2},   {1, 1, 1, 1, 1},
        {1, 2, 3, 4, 1},   {5, 4, 3, 10, 1},   {9, 11, 16, 8, 1}, {4, 4, 32, 33, 1},  {1, 1, 16, 16, 1},
        {7, 9, 16, 24, 1}, {28, 6, 17, 16, 1}, {2, 3, 48, 64, 1}, {8, 8, 64, 80, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_conv(cases[i]);
}

/* What an image becomes does not depend on the images beside it, to the bit: with few of them, where blocks hold rows
 * of several, and with one that takes several blocks. */
static void test_conv_is_of_each_image_alone(void **state)
{
    static const struct conv_shape shapes[] = {{5, 7, 32, 16, 1}, {28, 28, 16, 48, 1}, {7, 6, 8, 12, 2}};
    enum { IMAGES = 2 };
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct conv c;
        assert_int_equal(conv_init(&c, shapes[i], PRECISION_FLOAT32), 0);
        size_t size = conv_output_size(&c), padded = conv_padded_size(&c), n = c.block < IMAGES ? c.block : IMAGES;
        real *input = nn_random(5, n * padded), *weight = nn_random(6, (size_t)9 * c.shape.in * c.shape.out);
        real *packed = nn_take(conv_packed_forward_size(&c)), *scratch = nn_take(conv_scratch_size(&c));
        real *together = nn_take(n * size), *alone = nn_take(size);
        conv_pack_forward(&c, weight, packed);
        conv_forward(&c, n, input, packed, scratch, together);
        for (size_t k = 0; k < n; k++) {
            conv_forward(&c, 1, input + k * padded, packed, scratch, alone);
            assert_memory_equal(alone, together + k * size, size * sizeof(real));
        }
        real *all[] = {input, weight, packed, scratch, together, alone};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            free(all[k]);
        conv_fini(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_conv_is_of_each_image_alone),
    };
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
