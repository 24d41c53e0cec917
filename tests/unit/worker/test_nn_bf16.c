/* Products of bf16 against the same in plain C: to the bit in each choice's order of sums, and within the tolerance of
 * float32 sums of a float64 loop over the rounded operands; and what they make of a model's gradient. Skipped where the
 * processor does not multiply bf16, but for the rounding that the plain C is built on. */
#include "tests/unit/worker/nn_support.h"
#include <string.h>
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/nn/model.h"
#include "worker/nn/tiles.h"

enum { GAP = 3 }; /* reals between rows, so that a wrong offset shows */

/* ---- the arithmetic in plain C ---- */

/* To the nearest of 8 bits of precision, ties to even; denormals become zero. */
static float rounded(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000) == 0)
        bits &= 0x80000000;
    else if ((bits & 0x7f800000) != 0x7f800000)
        bits += 0x7fff + (bits >> 16 & 1);
    bits &= 0xffff0000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* start + sum of a[i] b[i], n a multiple of 32, in the order that bf16.h gives for each choice. */
static float emulated_sum(enum kernels k, float start, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        float even = 0, odd = 0;
        for (size_t j = i; j < i + 32; j += 2) {
            if (k == KERNELS_AMX) {
                even = fmaf(a[j], b[j], even);
                odd = fmaf(a[j + 1], b[j + 1], odd);
            } else {
                start = fmaf(a[j + 1], b[j + 1], start);
                start = fmaf(a[j], b[j], start);
            }
        }
        start += k == KERNELS_AMX ? even + odd : 0;
    }
    return start;
}

static double exact_sum(float start, const float *a, const float *b, size_t n)
{
    double sum = (double)start;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void test_rounding_in_plain_c(void **state)
{
    (void)state;
    const float one = 1, step = 0x1p-7f; /* bf16's values around 1 are this far apart */
    assert_true(rounded(one + step) == one + step);
    assert_true(rounded(one + step / 2) == one); /* ties: to the even one */
    assert_true(rounded(one + 3 * step / 2) == one + 2 * step);
    assert_true(rounded(one + step / 2 + 0x1p-20f) == one + step);
    assert_true(rounded(-one - step / 4) == -one);
    assert_true(rounded(0x1p-130f) == 0);
    assert_true(isinf(rounded(3.4e38f)));
}

/* ---- products ---- */

struct shape {
    uint32_t rows, runs, run, columns;
};

static const struct shape shapes[] = {
    {1, 1, 1, 1},     {2, 1, 3, 5},    {17, 3, 2, 16},  {4, 1, 7, 24},   {13, 2, 5, 17},
    {33, 3, 9, 48},   {7, 1, 50, 50},  {70, 1, 12, 33}, {65, 3, 3, 24},  {12, 1, 216, 40},
    {300, 1, 3, 280}, {9, 3, 700, 35}, {2, 1, 1025, 1}, {49, 1, 32, 49},
};

/* Rows of A overlap (as a convolution's do); those of C are in reverse order with gaps. */
struct problem {
    struct shape s;
    size_t K, deep, a_size, c_size; /* deep: K, to a multiple of 32 */
    uint32_t *in, *out, *left;
    float *a, *b, *bias, *c;
};

static void problem_open(struct problem *p, struct shape s)
{
    *p = (struct problem){.s = s, .K = (size_t)s.runs * s.run};
    p->deep = (p->K + 31) / 32 * 32;
    p->a_size = (size_t)(s.rows + s.runs * (s.run + GAP)) * 2 + s.run;
    p->c_size = (size_t)s.rows * (s.columns + GAP);
    p->a = nn_random(1, p->a_size);
    p->b = nn_random(2, p->K * s.columns);
    p->bias = nn_random(3, s.columns);
    p->c = nn_random(4, p->c_size);
    p->in = calloc(s.rows, sizeof *p->in);
    p->out = calloc(s.rows, sizeof *p->out);
    p->left = calloc(p->K, sizeof *p->left);
    for (uint32_t r = 0; r < s.rows; r++) {
        p->in[r] = 2 * r;
        p->out[r] = (s.rows - 1 - r) * (s.columns + GAP);
    }
    for (uint32_t k = 0; k < p->K; k++)
        p->left[k] = k / s.run * (s.run + GAP) + k % s.run;
}

static void problem_close(struct problem *p)
{
    NN_FREE(p->a, p->b, p->bias, p->c, p->in, p->out, p->left);
}

/* Of a matrix (K,columns) by rows. */
static struct pack packing_of(size_t K, size_t columns)
{
    return (struct pack){.K = (uint32_t)K,
                         .columns = columns,
                         .n = K,
                         .row_stride = columns,
                         .column_stride = 1,
                         .precision = PRECISION_BF16};
}

static void same_bits(const char *what, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s[%zu] = %a, expected %a", what, i, (double)got[i], (double)want[i]);
}

/* forwards: rows of C in order, as a block of memory has them. */
static void check_product(enum kernels k, struct shape s, bool forwards)
{
    struct problem p;
    problem_open(&p, s);
    for (uint32_t r = 0; r < s.rows && forwards; r++)
        p.out[r] = r * (s.columns + GAP);
    float *row = nn_take(p.deep), *column = nn_take(p.deep), *want = nn_take(p.c_size);
    double *exact = calloc(p.c_size, sizeof *exact);
    memcpy(want, p.c, p.c_size * sizeof *want); /* gaps must stay as they were */
    for (size_t i = 0; i < p.c_size; i++)
        exact[i] = (double)p.c[i];
    for (size_t r = 0; r < s.rows; r++)
        for (size_t j = 0; j < s.columns; j++) {
            for (size_t i = 0; i < p.K; i++) {
                row[i] = rounded(p.a[p.in[r] + p.left[i]]);
                column[i] = rounded(p.b[i * s.columns + j]);
            }
            want[p.out[r] + j] = emulated_sum(k, p.bias[j], row, column, p.deep);
            exact[p.out[r] + j] = exact_sum(p.bias[j], row, column, p.deep);
        }
    float *packed = nn_take(tile_packed_size_in(PRECISION_BF16, p.K, s.columns));
    struct pack pack = packing_of(p.K, s.columns);
    struct gather g = {.runs = s.runs,
                       .run = s.run,
                       .stride = s.run + GAP,
                       .columns = s.columns,
                       .in = p.in,
                       .out = p.out,
                       .precision = PRECISION_BF16};
    tile_pack(&pack, p.b, packed);
    tile_pack_bias_in(PRECISION_BF16, p.K, s.columns, p.bias, packed);
    gather_product(&g, s.rows, p.a, packed, p.c);
    nn_assert_close("product", p.c, exact, p.c_size);
    same_bits("product", p.c, want, p.c_size);
    NN_FREE(row, column, want, exact, packed);
    problem_close(&p);
}

/* Points go by 256 at a time, each time from the sum that is there. Twice, because the kernel adds. */
static void check_outer(enum kernels k, struct shape s)
{
    struct problem p;
    problem_open(&p, s);
    size_t deep = ((size_t)s.rows + 31) / 32 * 32, n = p.K * s.columns;
    float *row = nn_take(deep), *column = nn_take(deep), *want = nn_take(n), *got = nn_take(n);
    double *exact = calloc(n, sizeof *exact);
    for (size_t i = 0; i < p.K; i++)
        for (size_t j = 0; j < s.columns; j++) {
            for (size_t r = 0; r < s.rows; r++) {
                row[r] = rounded(p.a[p.in[r] + p.left[i]]);
                column[r] = rounded(p.c[p.out[r] + j]);
            }
            for (int twice = 0; twice < 2; twice++)
                want[i * s.columns + j] = emulated_sum(k, want[i * s.columns + j], row, column, deep);
            exact[i * s.columns + j] = 2 * exact_sum(0, row, column, deep);
        }
    float *gradient = nn_take(tile_gradient_size_in(PRECISION_BF16, p.K, s.columns));
    struct outer o = {.columns = s.columns,
                      .left_count = (uint32_t)p.K,
                      .left = p.left,
                      .a = p.in,
                      .d = p.out,
                      .precision = PRECISION_BF16};
    struct pack pack = packing_of(p.K, s.columns);
    gather_outer(&o, s.rows, p.a, p.c, gradient);
    gather_outer(&o, s.rows, p.a, p.c, gradient);
    tile_unpack_gradient(&pack, gradient, got);
    nn_assert_close("outer", got, exact, n);
    same_bits("outer", got, want, n);
    NN_FREE(row, column, want, got, exact, gradient);
    problem_close(&p);
}

/* Runs check with each choice that multiplies bf16 here; skips when none does. */
static void with_each(void (*check)(enum kernels k))
{
    enum kernels before = kernels_chosen();
    int ran = 0;
    for (int k = 0; k < KERNELS_COUNT; k++)
        if (kernels_multiply_bf16((enum kernels)k)) {
            assert_int_equal(kernels_choose(kernels_name((enum kernels)k), NULL), 0);
            check((enum kernels)k);
            ran++;
        }
    kernels_choose(kernels_name(before), NULL);
    if (ran == 0)
        skip();
}

static void products(enum kernels k)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int forwards = 0; forwards < 2; forwards++)
            check_product(k, shapes[i], forwards);
}

static void test_product(void **state)
{
    (void)state;
    with_each(products);
}

static void outers(enum kernels k)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_outer(k, shapes[i]);
}

static void test_outer(void **state)
{
    (void)state;
    with_each(outers);
}

/* What rounding does at its edges, through a product with 1. */
static void edges(enum kernels k)
{
    (void)k;
    const float values[] = {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, -1 - 0x1p-8f - 0x1p-20f, 0x1p-130f, -0x1p-126f, 3.4e38f,
                            -0.0f};
    enum { N = sizeof values / sizeof values[0] };
    const float one = 1;
    float c[N];
    uint32_t in[N], out[N];
    for (uint32_t i = 0; i < N; i++)
        in[i] = out[i] = i;
    struct pack pack = packing_of(1, 1);
    struct gather g = {.runs = 1, .run = 1, .columns = 1, .in = in, .out = out, .precision = PRECISION_BF16};
    float *room = nn_take(tile_packed_size_in(PRECISION_BF16, 1, 1));
    tile_pack(&pack, &one, room);
    tile_pack_bias_in(PRECISION_BF16, 1, 1, NULL, room);
    gather_product(&g, N, values, room, c);
    for (size_t i = 0; i < N; i++)
        assert_true(c[i] == rounded(values[i]));
    free(room);
}

static void test_rounding(void **state)
{
    (void)state;
    with_each(edges);
}

/* Packing row by row or column by column, at once or in parts that end within a pair, gives the same panels. */
static void packings(enum kernels k)
{
    (void)k;
    enum { K = 45, N = 21 };
    static const size_t parts[] = {4, 7, 1, 33};
    size_t size = tile_packed_size_in(PRECISION_BF16, K, N);
    float *b = nn_random(5, K * N), *turned = nn_take(K * N), *whole = nn_take(size), *other = nn_take(size);
    for (size_t i = 0; i < (size_t)K * N; i++)
        turned[i % N * K + i / N] = b[i];
    struct pack rows = packing_of(K, N);
    tile_pack(&rows, b, whole);
    struct pack columns = rows;
    columns.row_stride = 1;
    columns.column_stride = K;
    memset(other + 32, 0x55, (size - 32) * sizeof *other); /* what was there before must not matter */
    tile_pack(&columns, turned, other);
    assert_memory_equal(whole, other, size * sizeof *whole);
    memset(other + 32, 0x55, (size - 32) * sizeof *other);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++, rows.k0 += rows.n) {
        rows.n = parts[i];
        tile_pack(&rows, b + rows.k0 * N, other);
    }
    assert_memory_equal(whole, other, size * sizeof *whole);
    NN_FREE(b, turned, whole, other);
}

static void test_packing(void **state)
{
    (void)state;
    with_each(packings);
}

/* ---- models ---- */

static const struct model_spec conv = {.family = ENCODER_CONV,
                                       .height = 21,
                                       .width = 19,
                                       .channels = 3,
                                       .stages = 3,
                                       .widths = {12, 25, 40},
                                       .groups = 1,
                                       .hidden = 52,
                                       .projection = 28};
static const struct model_spec vit = {.family = ENCODER_VIT,
                                      .height = 28,
                                      .width = 28,
                                      .channels = 1,
                                      .patch = 4,
                                      .dim = 40,
                                      .depth = 2,
                                      .heads = 2,
                                      .mlp = 2,
                                      .pool = VIT_POOL_CLS,
                                      .hidden = 36,
                                      .projection = 20};
static const struct model_spec resnet = {.family = ENCODER_RESNET,
                                         .height = 16,
                                         .width = 16,
                                         .channels = 3,
                                         .groups = 2,
                                         .layers = RESNET_10,
                                         .base = 8,
                                         .norm = ENCODER_NORM_GROUP,
                                         .hidden = 20,
                                         .projection = 12};

enum { ROWS = 48 };

/* Pictures that differ as a whole, not by noise alone: else BatchNorm makes the rounding of what they have in common as
 * large as what tells them apart. */
static float *pictures(const struct model_spec *spec)
{
    size_t image = (size_t)spec->height * spec->width * spec->channels;
    float *x = nn_random(7, ROWS * image), *slope = nn_random(9, (size_t)ROWS * 6);
    for (size_t i = 0; i < ROWS * image; i++) {
        const float *s = slope + i / image * 6 + i % spec->channels * 2;
        size_t pixel = i % image / spec->channels;
        float across = (float)(pixel % spec->width) / (float)spec->width - 0.5f;
        float down = (float)(pixel / spec->width) / (float)spec->height - 0.5f;
        x[i] = 0.3f * x[i] + 3 * (s[0] * across + s[1] * down);
    }
    free(slope);
    return x;
}

/* The gradient that a fixed dz gives; *n floats. */
static float *gradient_of(struct model_spec spec, enum encoder_precision precision, size_t *n)
{
    struct model *m;
    struct model_workspace *w;
    spec.precision = precision;
    assert_int_equal(model_new(&spec, &m, NULL), 0);
    assert_int_equal(model_workspace_new(m, ROWS, &w), 0);
    const struct manifest *manifest = model_manifest(m);
    *n = manifest->parameter_floats;
    size_t outputs = (size_t)ROWS * spec.projection;
    float *params = nn_take(*n), *buffers = nn_take(manifest->buffer_floats), *grad = nn_take(*n);
    float *images = pictures(&spec), *dz = nn_random(8, outputs), *z = nn_take(outputs);
    model_init(m, 3, params, buffers);
    model_forward(m, MODEL_TRAIN, params, buffers, images, ROWS, w, NULL, z);
    model_backward(m, params, dz, NULL, w, grad);
    NN_FREE(params, buffers, images, dz, z);
    model_workspace_free(&w);
    model_free(&m);
    return grad;
}

/* Nearly where float32 points, and not the same: so it was computed in bf16. A ReLU whose input is so near zero that it
 * changes sign lets through a gradient that the other one does not, so that nets with many of them differ more. */
static void check_model(const char *name, const struct model_spec *spec, double least)
{
    size_t n;
    float *wide = gradient_of(*spec, PRECISION_FLOAT32, &n), *narrow = gradient_of(*spec, PRECISION_BF16, &n);
    double along = 0, squares[2] = {0};
    for (size_t i = 0; i < n; i++) {
        along += (double)wide[i] * (double)narrow[i];
        squares[0] += (double)wide[i] * (double)wide[i];
        squares[1] += (double)narrow[i] * (double)narrow[i];
    }
    double cosine = along / sqrt(squares[0] * squares[1]);
    if (!(cosine > least && fabs(squares[1] / squares[0] - 1) < 0.02))
        fail_msg("%s: cosine %g, squares %g, not %g", name, cosine, squares[1], squares[0]);
    assert_memory_not_equal(wide, narrow, n * sizeof *wide);
    NN_FREE(wide, narrow);
}

static void models(enum kernels k)
{
    (void)k;
    check_model("conv", &conv, 0.999);
    check_model("vit", &vit, 0.999);
    check_model("resnet", &resnet, 0.995);
}

static void test_gradient_of_models(void **state)
{
    (void)state;
    with_each(models);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding_in_plain_c),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_outer),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_gradient_of_models),
    };
    compute_thread_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
