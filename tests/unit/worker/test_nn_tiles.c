/* The tile kernels and their packing against three nested loops, over shapes that fill no tile, exactly one, and
 * several. */
#include "tests/unit/worker/nn_support.h"
#include <string.h>
#include "tests/unit/kernels_each.h"
#include "worker/nn/arena.h"
#include "worker/nn/tiles.h"
#include "worker/nn/transpose.h"

enum { GAP = 3 }; /* reals between rows, so that a wrong offset shows */

struct shape {
    uint32_t rows, runs, run, columns;
};

static const struct shape shapes[] = {
    {1, 1, 1, 1},   {2, 1, 3, 5},    {6, 3, 2, 16},    {4, 1, 7, 24},   {13, 2, 5, 17},
    {25, 3, 9, 48}, {7, 1, 50, 50},  {130, 1, 12, 33}, {65, 3, 3, 24},  {12, 1, 216, 40},
    {8, 1, 8, 64},  {14, 2, 12, 96}, {31, 1, 17, 131}, {300, 1, 3, 80},
};

struct problem {
    struct shape s;
    uint32_t K;
    uint32_t *in, *out;
    real *a, *b, *bias, *c, *packed;
    size_t c_size;
};

/* Rows of A overlap (as a convolution's do); those of C are in reverse order with gaps. */
static void problem_open(struct problem *p, struct shape s)
{
    size_t a_size = (size_t)(s.rows + s.runs * (s.run + GAP)) * 2 + s.run;
    *p = (struct problem){.s = s, .K = s.runs * s.run};
    p->c_size = (size_t)s.rows * (s.columns + GAP);
    p->a = nn_random(1, a_size);
    p->b = nn_random(2, (size_t)p->K * s.columns);
    p->bias = nn_random(3, s.columns);
    p->c = nn_random(4, p->c_size);
    p->packed = nn_take(tile_packed_size(p->K, s.columns));
    p->in = calloc(s.rows, sizeof *p->in);
    p->out = calloc(s.rows, sizeof *p->out);
    for (uint32_t r = 0; r < s.rows; r++) {
        p->in[r] = 2 * r;
        p->out[r] = (s.rows - 1 - r) * (s.columns + GAP);
    }
}

static void problem_close(struct problem *p)
{
    NN_FREE(p->a, p->b, p->bias, p->c, p->packed, p->in, p->out);
}

static size_t a_offset(const struct problem *p, size_t k)
{
    return k / p->s.run * (p->s.run + GAP) + k % p->s.run;
}

static double *slow_product(const struct problem *p)
{
    double *want = calloc(p->c_size, sizeof *want);
    for (size_t i = 0; i < p->c_size; i++)
        want[i] = (double)p->c[i]; /* gaps must stay as they were */
    for (size_t r = 0; r < p->s.rows; r++)
        for (size_t j = 0; j < p->s.columns; j++) {
            double sum = (double)p->bias[j];
            for (size_t k = 0; k < p->K; k++)
                sum += (double)p->a[p->in[r] + a_offset(p, k)] * (double)p->b[k * p->s.columns + j];
            want[p->out[r] + j] = sum;
        }
    return want;
}

static void check_product(struct shape s)
{
    struct problem p;
    problem_open(&p, s);
    double *want = slow_product(&p);
    struct pack pack = {.K = p.K, .columns = s.columns, .n = p.K, .row_stride = s.columns, .column_stride = 1};
    struct gather g = {
        .runs = s.runs, .run = s.run, .stride = s.run + GAP, .columns = s.columns, .in = p.in, .out = p.out};
    tile_pack(&pack, p.b, p.packed);
    tile_pack_bias(p.K, s.columns, p.bias, p.packed);
    gather_product(&g, s.rows, p.a, p.packed, p.c);
    nn_assert_close("product", p.c, want, p.c_size);
    free(want);
    problem_close(&p);
}

static void test_product(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_product(shapes[i]);
}

static void test_product_of_no_rows(void **state)
{
    (void)state;
    real a = 1, packed[64] = {0}, c = 5;
    uint32_t offset = 0;
    struct gather g = {.runs = 1, .run = 1, .columns = 1, .in = &offset, .out = &offset};
    gather_product(&g, 0, &a, packed, &c);
    assert_true(c == 5);
}

static double *slow_outer(const struct problem *p, const uint32_t *left)
{
    double *want = calloc((size_t)p->K * p->s.columns, sizeof *want);
    for (size_t k = 0; k < p->K; k++)
        for (size_t j = 0; j < p->s.columns; j++)
            for (size_t r = 0; r < p->s.rows; r++)
                want[k * p->s.columns + j] += 2 * (double)p->a[p->in[r] + left[k]] * (double)p->c[p->out[r] + j];
    return want;
}

/* Twice, because the kernel adds. */
static void check_outer(struct shape s)
{
    struct problem p;
    problem_open(&p, s);
    uint32_t *left = calloc(p.K, sizeof *left);
    for (uint32_t k = 0; k < p.K; k++)
        left[k] = (uint32_t)a_offset(&p, k);
    double *want = slow_outer(&p, left);
    real *gradient = nn_take(tile_gradient_size(p.K, s.columns)), *got = nn_take((size_t)p.K * s.columns);
    struct outer o = {.columns = s.columns, .left_count = p.K, .left = left, .a = p.in, .d = p.out};
    struct pack pack = {.K = p.K, .columns = s.columns, .n = p.K, .row_stride = s.columns, .column_stride = 1};
    gather_outer(&o, s.rows, p.a, p.c, gradient);
    gather_outer(&o, s.rows, p.a, p.c, gradient);
    tile_unpack_gradient(&pack, gradient, got);
    nn_assert_close("outer", got, want, (size_t)p.K * s.columns);
    free(want);
    free(gradient);
    free(got);
    free(left);
    problem_close(&p);
}

static void test_outer(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_outer(shapes[i]);
}

/* Both kernels with one choice, on a problem that touches whole and partial tiles and panels: c, then the gradient. */
static real *run_choice(enum kernels k, struct shape s, size_t *n)
{
    struct problem p;
    assert_int_equal(kernels_choose(kernels_name(k), NULL), 0);
    problem_open(&p, s);
    *n = p.c_size + (size_t)p.K * s.columns;
    real *got = nn_take(*n), *gradient = nn_take(tile_gradient_size(p.K, s.columns));
    uint32_t *left = calloc(p.K, sizeof *left);
    for (uint32_t i = 0; i < p.K; i++)
        left[i] = (uint32_t)a_offset(&p, i);
    struct pack pack = {.K = p.K, .columns = s.columns, .n = p.K, .row_stride = s.columns, .column_stride = 1};
    struct gather g = {
        .runs = s.runs, .run = s.run, .stride = s.run + GAP, .columns = s.columns, .in = p.in, .out = p.out};
    struct outer o = {.columns = s.columns, .left_count = p.K, .left = left, .a = p.in, .d = p.out};
    tile_pack(&pack, p.b, p.packed);
    tile_pack_bias(p.K, s.columns, p.bias, p.packed);
    gather_outer(&o, s.rows, p.a, p.c, gradient);
    tile_unpack_gradient(&pack, gradient, got + p.c_size);
    gather_product(&g, s.rows, p.a, p.packed, p.c);
    memcpy(got, p.c, p.c_size * sizeof(real));
    free(left);
    free(gradient);
    problem_close(&p);
    return got;
}

static void check_choices(struct shape s)
{
    size_t n;
    real *portable = run_choice(KERNELS_PORTABLE, s, &n);
    double *want = calloc(n, sizeof *want);
    for (size_t i = 0; i < n; i++)
        want[i] = (double)portable[i];
    if (kernels_possible(KERNELS_AVX2)) {
        real *avx2 = run_choice(KERNELS_AVX2, s, &n);
        nn_assert_close("avx2", avx2, want, n);
        if (kernels_possible(KERNELS_AVX512)) {
            real *avx512 = run_choice(KERNELS_AVX512, s, &n);
            assert_memory_equal(avx512, avx2, n * sizeof(real));
            free(avx512);
        }
        free(avx2);
    }
    free(portable);
    free(want);
}

/* Each sum runs in one order whatever the tile, so that the choices with FMA agree to the bit; the portable one rounds
 * products too. */
static void test_choices_agree(void **state)
{
    (void)state;
    enum kernels before = kernels_chosen();
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_choices(shapes[i]);
    kernels_choose(kernels_name(before), NULL);
}

/* Packing part by part, transposed, equals packing at once. */
static void test_pack_in_parts(void **state)
{
    (void)state;
    enum { K = 10, N = 21, SPLIT = 4 };
    real *b = nn_random(5, K * N), *whole = nn_take(tile_packed_size(K, N)), *parts = nn_take(tile_packed_size(K, N));
    struct pack p = {.K = K, .columns = N, .n = K, .row_stride = 1, .column_stride = K};
    tile_pack(&p, b, whole);
    p.n = SPLIT;
    tile_pack(&p, b, parts);
    p.k0 = SPLIT;
    p.n = K - SPLIT;
    tile_pack(&p, b + SPLIT, parts);
    tile_pack_bias(K, N, NULL, whole);
    tile_pack_bias(K, N, NULL, parts);
    assert_memory_equal(whole, parts, tile_packed_size(K, N) * sizeof(real));
    free(b);
    free(whole);
    free(parts);
}

/* Operands in place, of T rows inside wider ones: as packing them would give, to the bit; gaps stay as they were. */
static void check_in_place(uint32_t rows, uint32_t K, uint32_t columns)
{
    const size_t stride = columns + GAP, longest = rows > K ? rows : K, size = longest * stride;
    real *a = nn_random(1, (size_t)rows * K), *b = nn_random(2, size), *c = nn_random(3, size), *want = nn_take(size);
    real *packed = nn_take(tile_packed_size(K, columns)), *gradient = nn_take(tile_gradient_size(K, columns));
    struct arena tables = {0};
    for (int pass = 0; pass < 2; pass++) {
        uint32_t *in = arena_strides(&tables, rows, K), *out = arena_strides(&tables, rows, stride);
        uint32_t *left = arena_strides(&tables, K, 1);
        struct gather g = {.runs = 1, .run = K, .columns = columns, .in = in, .out = out};
        struct outer o = {.columns = columns, .left_count = K, .left = left, .a = in, .d = out};
        struct pack p = {.K = K, .columns = columns, .n = K, .row_stride = stride, .column_stride = 1};
        if (pass == 0) {
            assert_int_equal(arena_allocate(&tables), 0);
            continue;
        }
        memcpy(want, c, size * sizeof(real));
        tile_pack(&p, b, packed);
        tile_pack_bias(K, columns, NULL, packed);
        gather_product(&g, rows, a, packed, want);
        gather_product_in_place(&g, rows, a, b, stride, c);
        assert_memory_equal(c, want, size * sizeof(real));
        gather_outer(&o, rows, a, b, gradient);
        tile_unpack_gradient(&p, gradient, want);
        gather_outer_in_place(&o, rows, a, b, c, stride);
        assert_memory_equal(c, want, size * sizeof(real));
    }
    arena_free(&tables);
    NN_FREE(a, b, c, want, packed, gradient);
}

static void test_in_place(void **state)
{
    (void)state;
    assert_false(tile_in_place(PRECISION_BF16, 64));
    assert_false(tile_in_place(PRECISION_FLOAT32, 33));
    for (uint32_t columns = 1; columns <= 192; columns++)
        if (tile_in_place(PRECISION_FLOAT32, columns) && (columns < 100 || columns % 64 == 0))
            for (uint32_t rows = 1; rows < 60; rows += 7) {
                check_in_place(rows, 50, columns);
                check_in_place(33, rows, columns);
            }
    assert_true(tile_in_place(PRECISION_FLOAT32, 64));
}

/* Fetching what comes next changes no result, and gets on until it is there. */
static void test_ahead(void **state)
{
    (void)state;
    struct problem p;
    problem_open(&p, (struct shape){130, 1, 70, 50});
    real *next = nn_take(4096), *same = nn_random(4, p.c_size), *got = nn_take(tile_gradient_size(p.K, 50));
    real *want = nn_take(tile_gradient_size(p.K, 50));
    struct arena tables = {0};
    arena_strides(&tables, p.K, 1);
    assert_int_equal(arena_allocate(&tables), 0);
    struct gather g = {.runs = 1, .run = p.K, .columns = 50, .in = p.in, .out = p.out};
    struct outer o = {.columns = 50, .left_count = p.K, .left = arena_strides(&tables, p.K, 1), .a = p.in, .d = p.out};
    struct pack pack = {.K = p.K, .columns = 50, .n = p.K, .row_stride = 50, .column_stride = 1};
    tile_pack(&pack, p.b, p.packed);
    tile_pack_bias(p.K, 50, p.bias, p.packed);
    struct ahead ahead = {next, next + 4096}, again = ahead;
    gather_product(&g, p.s.rows, p.a, p.packed, same);
    gather_product_ahead(&g, p.s.rows, p.a, p.packed, p.c, &ahead);
    assert_memory_equal(p.c, same, p.c_size * sizeof(real));
    assert_true(ahead.at >= ahead.end);
    gather_outer(&o, p.s.rows, p.a, p.c, want);
    gather_outer_ahead(&o, p.s.rows, p.a, p.c, got, &again);
    assert_memory_equal(got, want, tile_gradient_size(p.K, 50) * sizeof(real));
    assert_true(again.at >= again.end);
    arena_free(&tables);
    NN_FREE(next, same, got, want);
    problem_close(&p);
}

static void check_transpose(size_t rows, size_t columns)
{
    size_t from_stride = columns + GAP, to_stride = rows + GAP;
    real *from = nn_random(6, rows * from_stride), *to = nn_random(7, columns * to_stride);
    real *before = nn_take(columns * to_stride);
    memcpy(before, to, columns * to_stride * sizeof(real));
    transpose(from, from_stride, rows, columns, to, to_stride);
    for (size_t c = 0; c < columns; c++)
        for (size_t r = 0; r < to_stride; r++) /* gaps stay as they were */
            assert_true(to[c * to_stride + r] == (r < rows ? from[r * from_stride + c] : before[c * to_stride + r]));
    free(from);
    free(to);
    free(before);
}

/* Columns packed one by one over others make what packing them together makes. */
static void test_pack_columns(void **state)
{
    (void)state;
    enum { K = 5 };
    for (size_t N = 1; N < 200; N += 37) {
        struct pack p = {.K = K, .columns = N, .n = K, .row_stride = 1, .column_stride = K};
        size_t size = tile_packed_size(K, N);
        real *b = nn_random(2, K * N), *other = nn_random(3, K * N), *whole = nn_take(size), *parts = nn_take(size);
        tile_pack(&p, b, whole);
        tile_pack_bias(K, N, NULL, whole);
        tile_pack(&p, other, parts);
        tile_pack_bias(K, N, NULL, parts);
        for (size_t j = 0; j < N; j++)
            tile_pack_column(K, N, j, b + j * K, parts);
        assert_memory_equal(parts, whole, size * sizeof(real));
        free(b);
        free(other);
        free(whole);
        free(parts);
    }
}

static void test_transpose(void **state)
{
    (void)state;
    static const size_t sides[] = {0, 1, 3, 4, 5, 8, 63, 64, 66, 131};
    enum { SIDES = sizeof sides / sizeof sides[0] };
    for (size_t i = 0; i < SIDES * SIDES; i++)
        check_transpose(sides[i / SIDES], sides[i % SIDES]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product_of_no_rows),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_outer),
        cmocka_unit_test(test_pack_in_parts),
        cmocka_unit_test(test_choices_agree),
        cmocka_unit_test(test_pack_columns),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_ahead),
        cmocka_unit_test(test_transpose),
    };
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
