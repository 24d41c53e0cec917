/* Each layer against a slow reference in float64: forward here; gradients of whole networks are checked by finite
 * differences in tests/unit/f64, those of the convolution also against loops here. */
#include "tests/unit/worker/nn_support.h"

#include <math.h>
#include <string.h>
#include "tests/unit/kernels_each.h"
#include "worker/nn/activations.h"
#include "worker/nn/attention.h"
#include "worker/nn/batchnorm.h"
#include "worker/nn/cls_attention.h"
#include "worker/nn/columns.h"
#include "worker/nn/conv.h"
#include "worker/nn/groupnorm.h"
#include "worker/nn/layernorm.h"
#include "worker/nn/linear.h"
#include "worker/nn/rows.h"
#include "worker/nn/scalar.h"

static double *zeros(size_t n)
{
    double *p = calloc(n ? n : 1, sizeof *p);
    assert_non_null(p);
    return p;
}

/* ---- elementary functions ---- */

static void test_exp(void **state)
{
    (void)state;
    for (double x = -86.5; x < 87; x += 0.0137) {
        double want = exp((double)(real)x);
        assert_true(fabs((double)real_exp((real)x) - want) <= 3e-7 * want);
    }
    assert_true(real_exp(0) == 1);
    assert_true(real_exp(-1000) < REAL(1e-37));
    assert_true(isfinite((double)real_exp(88)));
    assert_true(isnan((double)real_exp((real)NAN)));
}

static void test_gelu(void **state)
{
    (void)state;
    for (double x = -12; x < 12; x += 0.00731) {
        double distribution = 0.5 * erfc(-x / sqrt(2)), density = exp(-x * x / 2) / sqrt(2 * acos(-1));
        real y, again, d = 2, at = (real)x;
        gelu_forward(&at, 1, &y);
        gelu_backward(&at, 1, &d, &again);
        assert_true(again == y);
        assert_true(fabs((double)y - x * distribution) <= 4e-7 * fmax(1, fabs(x)));
        assert_true(fabs((double)d - 2 * (distribution + x * density)) <= 2e-6);
    }
}

/* ---- rows and columns ---- */

static void test_rows(void **state)
{
    (void)state;
    for (size_t n = 1; n < 140; n += 3) {
        real *x = nn_random(n, n), *y = nn_random(n + 1, n);
        double sum = 0, dot = 0, most = -INFINITY, total = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)x[i];
            dot += (double)x[i] * (double)y[i];
            most = fmax(most, (double)x[i]);
            total += exp(3 * (double)x[i]);
        }
        assert_true(fabs((double)row_sum(x, n) - sum) < 1e-4);
        assert_true(fabs((double)row_dot(x, y, n) - dot) < 1e-4);
        assert_true((double)row_max(x, n) == most);
        double *want = zeros(n);
        for (size_t i = 0; i < n; i++)
            want[i] = exp(3 * (double)x[i]) / total;
        real log_sum;
        row_softmax(x, 3, n, &log_sum);
        assert_true(fabs((double)log_sum - log(total)) < 1e-5);
        nn_assert_close("softmax", x, want, n);
        free(want);
        free(x);
        free(y);
    }
}

/* Values so large that a softmax without shift would overflow, and one that underflows. */
static void test_softmax_extremes(void **state)
{
    (void)state;
    real x[3] = {5000, 4999, -5000};
    row_softmax(x, 1, 3, NULL);
    assert_true(fabs((double)x[0] - 1 / (1 + exp(-1))) < 1e-6);
    assert_true((double)x[2] >= 0 && (double)x[2] < 1e-30);
}

static void check_columns(size_t rows, size_t n)
{
    real *x = nn_random(rows, rows * n), *center = nn_random(99, n), *got = nn_take(n);
    double *sum = zeros(n), *squares = zeros(n);
    for (size_t i = 0; i < rows * n; i++) {
        sum[i % n] += (double)x[i];
        squares[i % n] += pow((double)x[i] - (double)center[i % n], 2);
    }
    columns_sum(x, rows, n, got);
    nn_assert_close("sum", got, sum, n);
    columns_sum_squares(x, rows, n, center, got);
    nn_assert_close("sum of squares", got, squares, n);
    void *const all[] = {x, center, got, sum, squares};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* Widths below, at and between the sizes of chunks. */
static void test_columns(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 15, 16, 19, 24, 31, 32, 33, 56, 70};
    for (size_t rows = 1; rows < 12; rows++)
        for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
            check_columns(rows, widths[i]);
}

/* ---- convolution ---- */

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
    r->output = zeros(n * conv_output_size(c));
    r->d_input = zeros(n * c->shape.height * c->shape.width * c->shape.in);
    r->d_weight = zeros((size_t)9 * c->shape.in * c->shape.out);
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

/* ---- norms ---- */

enum { NORM_H = 3, NORM_W = 5, NORM_PIXELS = NORM_H * NORM_W, NORM_GAP = 4, NORM_C_MAX = 70 };

/* One sample through GroupNorm and back, in double; far-side images have rows of NORM_GAP reals more. */
struct norm_case {
    struct groupnorm g;
    real *x, *d, *gamma, *beta;
    double y[NORM_H * (NORM_W * NORM_C_MAX + NORM_GAP)], d_x[NORM_H * (NORM_W * NORM_C_MAX + NORM_GAP)];
    double d_gamma[NORM_C_MAX], d_beta[NORM_C_MAX];
};

/* Where value i of the image is on the far side. */
static size_t framed(const struct groupnorm *g, size_t i)
{
    size_t line = (size_t)NORM_W * g->channels;
    return i / line * (line + NORM_GAP) + i % line;
}

static void slow_group(struct norm_case *k, size_t first, size_t size)
{
    size_t C = k->g.channels, count = NORM_PIXELS * size;
    double mean = 0, variance = 0, s = 0, q = 0;
#define EACH_VALUE                                                                                                     \
    for (size_t i = 0; i < NORM_PIXELS * C; i++)                                                                       \
        if (i % C >= first && i % C < first + size)
    EACH_VALUE mean += (double)k->x[i] / (double)count;
    EACH_VALUE variance += pow((double)k->x[i] - mean, 2) / (double)count;
    double inverse = 1 / sqrt(variance + 1e-5);
    EACH_VALUE
    {
        size_t c = i % C;
        double hat = ((double)k->x[i] - mean) * inverse, u = hat * (double)k->gamma[c] + (double)k->beta[c];
        double through = u > 0 ? (double)k->d[i] : 0;
        k->y[framed(&k->g, i)] = u > 0 ? u : 0;
        k->d_x[framed(&k->g, i)] = through; /* for now */
        k->d_beta[c] += through;
        k->d_gamma[c] += through * hat;
        s += (double)k->gamma[c] * through / (double)count;
        q += (double)k->gamma[c] * through * hat / (double)count;
    }
    EACH_VALUE
    {
        double hat = ((double)k->x[i] - mean) * inverse, *d = &k->d_x[framed(&k->g, i)];
        *d = ((double)k->gamma[i % C] * *d - s - hat * q) * inverse;
    }
#undef EACH_VALUE
}

static void check_groupnorm(uint32_t C, uint32_t groups)
{
    struct norm_case *k = calloc(1, sizeof *k);
    size_t row = (size_t)NORM_W * C + NORM_GAP;
    k->g = (struct groupnorm){.height = NORM_H, .width = NORM_W, .channels = C, .groups = groups};
    k->x = nn_random(1, NORM_PIXELS * C);
    k->d = nn_random(4, NORM_PIXELS * C);
    k->gamma = nn_random(2, C);
    k->beta = nn_random(3, C);
    for (size_t i = 0; i < groups; i++)
        slow_group(k, i * (C / groups), C / groups);
    real *y = nn_take(NORM_H * row), *d_x = nn_take(NORM_H * row), *scratch = nn_take(GROUPNORM_SCRATCH * C);
    real *d_gamma = nn_take(C), *d_beta = nn_take(C), *statistics = nn_take((size_t)2 * groups);
    groupnorm_relu_forward(&k->g, k->x, k->gamma, k->beta, statistics, y, row, scratch);
    groupnorm_relu_backward(&k->g, k->x, k->gamma, k->beta, statistics, k->d, d_x, row, d_gamma, d_beta, scratch);
    nn_assert_close("groupnorm", y, k->y, NORM_H * row);
    nn_assert_close("groupnorm d_x", d_x, k->d_x, NORM_H * row);
    nn_assert_close("groupnorm d_gamma", d_gamma, k->d_gamma, C);
    nn_assert_close("groupnorm d_beta", d_beta, k->d_beta, C);
    void *const all[] = {k->x, k->d, k->gamma, k->beta, y, d_x, scratch, d_gamma, d_beta, statistics, k};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void test_groupnorm(void **state)
{
    (void)state;
    static const uint32_t cases[][2] = {{6, 2}, {16, 1}, {18, 3}, {24, 8}, {32, 4}, {40, 8}, {50, 25}, {70, 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_groupnorm(cases[i][0], cases[i][1]);
}

/* A group whose values are all equal: variance zero must give beta, not NaN. */
static void test_groupnorm_constant(void **state)
{
    (void)state;
    struct groupnorm g = {.height = 2, .width = 2, .channels = 1, .groups = 1};
    real x[4] = {7, 7, 7, 7}, gamma = 2, beta = REAL(0.5), y[4], d[4] = {1, 2, 3, 4}, dx[4], d_gamma = 0, d_beta = 0;
    real statistics[2], scratch[GROUPNORM_SCRATCH];
    groupnorm_relu_forward(&g, x, &gamma, &beta, statistics, y, 2, scratch);
    groupnorm_relu_backward(&g, x, &gamma, &beta, statistics, d, dx, 2, &d_gamma, &d_beta, scratch);
    for (int i = 0; i < 4; i++) {
        assert_true(fabs((double)y[i] - 0.5) < 1e-6);
        assert_true(isfinite((double)dx[i]));
    }
    assert_true(d_beta == 10);
}

static void test_batchnorm(void **state)
{
    (void)state;
    enum { R = 7, N = 5 };
    real *x = nn_random(1, R * N), *gamma = nn_random(2, N), *beta = nn_random(3, N);
    real mean[N], variance[N], y[R * N], scratch[BATCHNORM_SCRATCH * N];
    double means[N] = {0}, variances[N] = {0}, want[R * N];
    for (int i = 0; i < R * N; i++)
        means[i % N] += (double)x[i] / R;
    for (int i = 0; i < R * N; i++)
        variances[i % N] += pow((double)x[i] - means[i % N], 2) / R;
    for (int i = 0; i < R * N; i++) {
        int j = i % N;
        double u = ((double)x[i] - means[j]) / sqrt(variances[j] + 1e-5) * (double)gamma[j] + (double)beta[j];
        want[i] = u * 0.5 * erfc(-u / sqrt(2));
    }
    batchnorm_statistics(x, R, N, mean, variance);
    nn_assert_close("mean", mean, means, N);
    nn_assert_close("variance", variance, variances, N);
    batchnorm_gelu_forward(x, R, N, mean, variance, gamma, beta, y, scratch);
    nn_assert_close("batchnorm", y, want, R * N);
    free(x);
    free(gamma);
    free(beta);
}

/* One row of n through LayerNorm and back, in double: y, and what is added to d_x, d_gamma and d_beta. */
struct norm_row {
    double *y, *d_x, *d_gamma, *d_beta;
};

static void slow_layernorm(size_t n, const real *x, const real *gamma, const real *beta, const real *d_y,
                           struct norm_row to)
{
    double mean = 0, variance = 0, through = 0, along = 0;
    for (size_t j = 0; j < n; j++)
        mean += (double)x[j] / (double)n;
    for (size_t j = 0; j < n; j++)
        variance += pow((double)x[j] - mean, 2) / (double)n;
    double inverse = 1 / sqrt(variance + 1e-5);
    for (size_t j = 0; j < n; j++) {
        double hat = ((double)x[j] - mean) * inverse;
        to.y[j] = hat * (double)gamma[j] + (double)beta[j];
        to.d_gamma[j] += (double)d_y[j] * hat;
        to.d_beta[j] += (double)d_y[j];
        through += (double)gamma[j] * (double)d_y[j] / (double)n;
        along += (double)gamma[j] * (double)d_y[j] * hat / (double)n;
    }
    for (size_t j = 0; j < n; j++)
        to.d_x[j] += inverse * ((double)gamma[j] * (double)d_y[j] - through - ((double)x[j] - mean) * inverse * along);
}

static void check_layernorm(size_t n)
{
    enum { R = 11 }; /* more than go together */
    real *x = nn_random(1, R * n), *gamma = nn_random(2, n), *beta = nn_random(3, n), *d_y = nn_random(4, R * n);
    real *y = nn_take(R * n), *again = nn_take(R * n), *d_x = nn_random(5, R * n);
    real *d_gamma = nn_take(n), *d_beta = nn_take(n);
    struct norm_row want = {zeros(R * n), zeros(R * n), zeros(n), zeros(n)};
    for (size_t i = 0; i < R * n; i++)
        want.d_x[i] = (double)d_x[i];
    for (size_t r = 0; r < R; r++)
        slow_layernorm(n, x + r * n, gamma, beta, d_y + r * n,
                       (struct norm_row){want.y + r * n, want.d_x + r * n, want.d_gamma, want.d_beta});
    struct layernorm l = {.n = n, .gamma = gamma, .beta = beta, .d_gamma = d_gamma, .d_beta = d_beta};
    layernorm_forward(&l, x, R, y);
    layernorm_backward(&l, x, R, d_y, d_x, again);
    nn_assert_close("layernorm", y, want.y, R * n);
    nn_assert_close("layernorm again", again, want.y, R * n);
    nn_assert_close("layernorm d_x", d_x, want.d_x, R * n);
    nn_assert_close("layernorm d_gamma", d_gamma, want.d_gamma, n);
    nn_assert_close("layernorm d_beta", d_beta, want.d_beta, n);
    NN_FREE(x, gamma, beta, d_y, y, again, d_x, d_gamma, d_beta, want.y, want.d_x, want.d_gamma, want.d_beta);
}

static void test_layernorm(void **state)
{
    (void)state;
    static const size_t widths[] = {2, 16, 37, 80, 128};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        check_layernorm(widths[i]);
}

/* ---- linear and attention ---- */

static void check_linear(uint32_t in, uint32_t out, size_t R)
{
    struct linear l;
    assert_int_equal(linear_init(&l, in, out, PRECISION_FLOAT32), 0);
    real *x = nn_random(1, R * in), *weight = nn_random(2, (size_t)in * out), *bias = nn_random(3, out);
    real *packed = nn_take(linear_packed_forward_size(&l)), *y = nn_take(R * out);
    double *want = zeros(R * out);
    for (size_t i = 0; i < R * out; i++) {
        want[i] = (double)bias[i % out];
        for (size_t k = 0; k < in; k++)
            want[i] += (double)x[i / out * in + k] * (double)weight[i % out * in + k];
    }
    linear_pack_forward(&l, weight, bias, packed);
    linear_forward(&l, R, x, packed, y);
    nn_assert_close("linear", y, want, R * out);
    free(x);
    free(weight);
    free(bias);
    free(packed);
    free(y);
    free(want);
    linear_fini(&l);
}

static void test_linear(void **state)
{
    (void)state;
    check_linear(1, 1, 1);
    check_linear(5, 40, 3);
    check_linear(192, 256, 250); /* more rows than a block */
    check_linear(8192, 3, 30);
}

static double *slow_attention(const struct attention *t, const real *qkv)
{
    size_t T = t->tokens, row = (size_t)3 * t->dim;
    double *out = zeros(T * t->dim), *p = zeros(T);
    for (size_t h = 0; h < t->heads; h++)
        for (size_t i = 0; i < T; i++) {
            double total = 0;
            for (size_t j = 0; j < T; j++) {
                double score = 0;
                for (size_t k = h * t->width; k < (h + 1) * t->width; k++)
                    score += (double)qkv[i * row + k] * (double)qkv[j * row + t->dim + k];
                p[j] = exp(score / sqrt(t->width));
                total += p[j];
            }
            for (size_t j = 0; j < T; j++)
                for (size_t k = h * t->width; k < (h + 1) * t->width; k++)
                    out[i * t->dim + k] += p[j] / total * (double)qkv[j * row + 2 * t->dim + k];
        }
    free(p);
    return out;
}

static void check_attention(uint32_t tokens, uint32_t dim, uint32_t heads)
{
    struct attention t;
    struct attention_scratch s;
    struct arena a = {0};
    assert_int_equal(attention_init(&t, tokens, dim, heads, PRECISION_FLOAT32), 0);
    attention_carve(&t, &s, &a);
    assert_int_equal(arena_allocate(&a), 0);
    attention_carve(&t, &s, &a);
    real *qkv = nn_random(1, (size_t)tokens * 3 * dim), *out = nn_take((size_t)tokens * dim);
    real *p = nn_take(attention_probabilities_size(&t));
    double *want = slow_attention(&t, qkv);
    attention_forward(&t, qkv, p, out, &s);
    nn_assert_close("attention", out, want, (size_t)tokens * dim);
    free(qkv);
    free(out);
    free(p);
    free(want);
    arena_free(&a);
    attention_fini(&t);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(1, 1, 1);
    check_attention(3, 6, 2);
    check_attention(17, 48, 2);
    check_attention(50, 128, 4);
}

/* ---- attention of the CLS token alone ---- */

enum { CLS_SAMPLES = 3 };

struct cls_case {
    struct cls_attention t;
    struct cls_store store;
    struct cls_scratch scratch;
    struct arena arena;
    size_t inputs, weights; /* of x; of weight and bias together */
    real *x, *weight, *d_output, *output, *d_x, *d_weight;
};

static void carve_cls(struct cls_case *k)
{
    cls_attention_carve(&k->t, CLS_SAMPLES + 1, &k->store, &k->arena);
    cls_scratch_carve(&k->t, &k->scratch, &k->arena);
}

static void cls_open(struct cls_case *k, uint32_t tokens, uint32_t dim, uint32_t heads)
{
    *k = (struct cls_case){.inputs = (size_t)CLS_SAMPLES * tokens * dim, .weights = (size_t)3 * dim * (dim + 1)};
    assert_int_equal(cls_attention_init(&k->t, tokens, dim, heads, CLS_SAMPLES + 1, PRECISION_FLOAT32), 0);
    carve_cls(k);
    assert_int_equal(arena_allocate(&k->arena), 0);
    carve_cls(k);
    k->x = nn_random(1, k->inputs);
    k->weight = nn_random(2, k->weights);
    k->d_output = nn_random(3, (size_t)CLS_SAMPLES * dim);
    k->output = nn_take((size_t)CLS_SAMPLES * dim);
    k->d_x = nn_take(k->inputs);
    k->d_weight = nn_take(k->weights);
    for (size_t i = 0; i < k->weights; i++)
        k->weight[i] /= (real)sqrt(dim);
}

static void cls_close(struct cls_case *k)
{
    NN_FREE(k->x, k->weight, k->d_output, k->output, k->d_x, k->d_weight);
    arena_free(&k->arena);
    cls_attention_fini(&k->t);
}

/* One row of Q, K and V in double: of sample and token `row`, element j of 3 dim. */
static double slow_qkv(const struct cls_case *k, const double *x, const double *weight, size_t row, size_t j)
{
    size_t dim = k->t.dim;
    double sum = weight[3 * dim * dim + j];
    for (size_t i = 0; i < dim; i++)
        sum += weight[j * dim + i] * x[row * dim + i];
    return sum;
}

/* out (samples,dim): by way of all keys and values. */
static void slow_cls(const struct cls_case *k, const double *x, const double *weight, double *out)
{
    size_t T = k->t.tokens, dim = k->t.dim, width = k->t.width;
    double *p = zeros(T);
    for (size_t at = 0; at < (size_t)CLS_SAMPLES * k->t.heads; at++) {
        size_t s = at / k->t.heads, from = at % k->t.heads * width;
        double total = 0;
        for (size_t t = 0; t < T; t++) {
            double score = 0;
            for (size_t j = from; j < from + width; j++)
                score += slow_qkv(k, x, weight, s * T, j) * slow_qkv(k, x, weight, s * T + t, dim + j);
            total += p[t] = exp(score / sqrt((double)width));
        }
        for (size_t j = from; j < from + width; j++) {
            out[s * dim + j] = 0;
            for (size_t t = 0; t < T; t++)
                out[s * dim + j] += p[t] / total * slow_qkv(k, x, weight, s * T + t, 2 * dim + j);
        }
    }
    free(p);
}

static double *widened(const real *x, size_t n)
{
    double *same = zeros(n);
    for (size_t i = 0; i < n; i++)
        same[i] = (double)x[i];
    return same;
}

/* The gradient of sum d_output output wrt `n` values that the slow way takes, by differences. */
static void slow_cls_gradient(const struct cls_case *k, const double *x, const double *weight, double *values, size_t n,
                              double *gradient)
{
    size_t outputs = (size_t)CLS_SAMPLES * k->t.dim;
    double *out = zeros(outputs);
    const double step = 1e-5;
    for (size_t i = 0; i < 2 * n; i++) {
        double old = values[i / 2], sign = i % 2 ? -1 : 1;
        values[i / 2] += sign * step;
        slow_cls(k, x, weight, out);
        values[i / 2] = old;
        for (size_t j = 0; j < outputs; j++)
            gradient[i / 2] += sign * out[j] * (double)k->d_output[j] / (2 * step);
    }
    free(out);
}

/* Differences are good to nine digits. */
static void assert_near(const char *what, const real *got, const double *want, size_t n)
{
    double scale = 0;
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= (sizeof(real) == sizeof(double) ? 1e-8 : 5e-6) * scale))
            fail_msg("%s[%zu] = %.9g, expected %.9g, scale %g", what, i, (double)got[i], want[i], scale);
}

static void check_cls_gradient(struct cls_case *k, double *x, double *weight)
{
    size_t dim = k->t.dim;
    real *bias = k->d_weight + 3 * dim * dim;
    double *d_x = zeros(k->inputs), *d_weight = zeros(k->weights);
    slow_cls_gradient(k, x, weight, x, k->inputs, d_x);
    slow_cls_gradient(k, x, weight, weight, k->weights, d_weight);
    cls_attention_begin_backward(&k->t, k->weight, &k->store);
    cls_attention_backward(&k->t, CLS_SAMPLES, k->x, k->d_output, &k->store, &k->scratch, k->d_x, bias);
    cls_attention_end_backward(&k->t, &k->store, k->d_weight);
    assert_near("d_x", k->d_x, d_x, k->inputs);
    assert_near("d_weight", k->d_weight, d_weight, k->weights);
    free(d_x);
    free(d_weight);
}

static void check_cls(uint32_t tokens, uint32_t dim, uint32_t heads, bool gradients)
{
    struct cls_case k;
    cls_open(&k, tokens, dim, heads);
    double *x = widened(k.x, k.inputs), *weight = widened(k.weight, k.weights), *want = zeros(CLS_SAMPLES * dim);
    slow_cls(&k, x, weight, want);
    cls_attention_begin_forward(&k.t, k.weight, k.weight + (size_t)3 * dim * dim, &k.store);
    cls_attention_forward(&k.t, CLS_SAMPLES, k.x, &k.store, &k.scratch, k.output);
    nn_assert_close("output", k.output, want, (size_t)CLS_SAMPLES * dim);
    if (gradients)
        check_cls_gradient(&k, x, weight);
    free(x);
    free(weight);
    free(want);
    cls_close(&k);
}

static void test_cls_attention(void **state)
{
    (void)state;
    check_cls(1, 1, 1, true);
    check_cls(3, 6, 2, true);
    check_cls(18, 8, 2, true);
    check_cls(17, 34, 2, false);
    check_cls(50, 64, 4, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_softmax_extremes),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_conv_is_of_each_image_alone),
        cmocka_unit_test(test_groupnorm),
        cmocka_unit_test(test_groupnorm_constant),
        cmocka_unit_test(test_batchnorm),
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_cls_attention),
    };
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
