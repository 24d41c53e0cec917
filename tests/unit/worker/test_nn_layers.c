/* Each layer against a slow reference in float64: forward here; gradients of whole networks are checked by finite
 * differences in tests/unit/f64. Convolutions and attention: test_nn_conv.c, test_nn_attention.c. */
#include "tests/unit/worker/nn_support.h"

#include <math.h>
#include "tests/unit/kernels_each.h"
#include "worker/nn/activations.h"
#include "worker/nn/batchnorm.h"
#include "worker/nn/columns.h"
#include "worker/nn/groupnorm.h"
#include "worker/nn/layernorm.h"
#include "worker/nn/linear.h"
#include "worker/nn/rows.h"
#include "worker/nn/scalar.h"

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
        double *want = nn_zeros(n);
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
    double *sum = nn_zeros(n), *squares = nn_zeros(n);
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
    struct norm_row want = {nn_zeros(R * n), nn_zeros(R * n), nn_zeros(n), nn_zeros(n)};
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

/* ---- linear ---- */

static void check_linear(uint32_t in, uint32_t out, size_t R)
{
    struct linear l;
    assert_int_equal(linear_init(&l, in, out, PRECISION_FLOAT32), 0);
    real *x = nn_random(1, R * in), *weight = nn_random(2, (size_t)in * out), *bias = nn_random(3, out);
    real *packed = nn_take(linear_packed_forward_size(&l)), *y = nn_take(R * out);
    double *want = nn_zeros(R * out);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_softmax_extremes),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_groupnorm),
        cmocka_unit_test(test_groupnorm_constant),
        cmocka_unit_test(test_batchnorm),
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_linear),
    };
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
