/* Kernels beside slow, obvious references, at every length around the lane count and at unaligned starts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <xmmintrin.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "tests/unit/kernels_each.h"

enum { N = 1100 };
static const size_t lengths[] = {0, 1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 100, 1000};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

static void fill(float *x, size_t n, uint64_t name, float scale)
{
    struct rng r;
    rng_open(&r, 1, RNG_INIT, name, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r) * scale;
}

static void test_elementwise(void **state)
{
    (void)state;
    float x[N], y[N], sum[N], axpy[N], scaled[N];
    fill(x, N, 1, 1);
    fill(y, N, 2, 1);
    for (int k = 0; k < LENGTHS; k++)
        for (size_t offset = 0; offset < 3; offset++) {
            size_t n = lengths[k];
            memcpy(sum, y, sizeof y);
            memcpy(axpy, y, sizeof y);
            memcpy(scaled, x, sizeof x);
            vec_add(sum + offset, x + offset, n);
            vec_axpy(axpy + offset, -1.5f, x + offset, n);
            vec_scale(scaled + offset, 0.3f, n);
            for (size_t i = 0; i < N; i++) {
                int in = i >= offset && i < offset + n;
                assert_true(sum[i] == (in ? y[i] + x[i] : y[i]));
                assert_true(scaled[i] == (in ? x[i] * 0.3f : x[i]));
                /* one rounding with FMA, two without */
                assert_true(fabs(axpy[i] - (in ? y[i] - 1.5 * x[i] : y[i])) <= 4e-7 * (fabs(y[i]) + 1.5 * fabs(x[i])));
            }
        }
}

static void test_reductions(void **state)
{
    (void)state;
    float x[N], y[N];
    fill(x, N, 3, 1);
    fill(y, N, 4, 1);
    for (int k = 0; k < LENGTHS; k++) {
        size_t n = lengths[k];
        double dot = 0, size = 0, squares = 0;
        float max = -INFINITY;
        for (size_t i = 1; i < n + 1; i++) {
            dot += (double)x[i] * y[i];
            size += fabs((double)x[i] * y[i]);
            squares += (double)x[i] * x[i];
            max = fmaxf(max, x[i]);
        }
        assert_true(fabs(vec_dot(x + 1, y + 1, n) - dot) <= 1e-6 * size);
        assert_true(fabs(vec_sum_squares(x + 1, n) - squares) <= 1e-13 * squares);
        if (n > 0)
            assert_true(vec_max(x + 1, n) == max);
    }
}

static void test_max_is_found_at_every_place(void **state)
{
    (void)state;
    float x[100];
    for (size_t at = 0; at < 100; at++) {
        for (size_t i = 0; i < 100; i++)
            x[i] = -5;
        x[at] = -4;
        assert_true(vec_max(x, 100) == -4);
        for (size_t i = 1; i < 100; i++) { /* whatever is no number beside it */
            x[i] = i == at ? -4 : NAN;
            if (i % 33 == 0)
                assert_true(vec_max(x, 100) == -4);
        }
    }
}

static void test_one_bad_element_is_found_at_every_place(void **state)
{
    (void)state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    const float good[] = {0.0f, -0.0f, FLT_MAX, -FLT_MAX, FLT_TRUE_MIN, -FLT_TRUE_MIN, 1.0f};
    float x[70];
    double d[70];
    assert_true(vec_all_finite(NULL, 0));
    assert_true(vec_all_finite_f64(NULL, 0));
    for (size_t n = 1; n <= 70; n++) {
        for (size_t i = 0; i < n; i++) {
            x[i] = good[i % 7];
            d[i] = i % 2 ? DBL_MAX : -DBL_TRUE_MIN;
        }
        assert_true(vec_all_finite(x, n));
        assert_true(vec_all_finite_f64(d, n));
        for (size_t at = 0; at < n; at++) {
            float kept = x[at];
            double kept_double = d[at];
            x[at] = bad[at % 4];
            d[at] = bad[(at + 1) % 4];
            assert_false(vec_all_finite(x, n));
            assert_false(vec_all_finite_f64(d, n));
            x[at] = kept;
            d[at] = kept_double;
        }
    }
}

static void test_exponentials_against_double(void **state)
{
    (void)state;
    enum { M = 4000 };
    float *x = malloc(M * sizeof *x), *y = malloc(M * sizeof *y);
    double worst = 0;
    for (int block = 0; block < 50; block++) {
        float shift = (float)(block % 3) * 0.37f;
        double wanted = 0, got;
        for (int i = 0; i < M; i++)
            x[i] = y[i] = -87.0f + 87.0f * (float)(block * M + i) / (50 * M);
        got = vec_exp_shifted(y, shift, M);
        for (int i = 0; i < M; i++) {
            float difference = x[i] - shift;
            double e = difference < -87 ? 0 : exp(difference);
            wanted += e;
            assert_true(e > 0 || y[i] == 0);
            if (e > 0)
                worst = fmax(worst, fabs(y[i] - e) / e);
        }
        assert_true(fabs(got - wanted) <= 2e-6 * wanted);
    }
    assert_true(worst <= 2e-7);
    free(x);
    free(y);
}

static void test_exponentials_at_the_edges(void **state)
{
    (void)state;
    float x[] = {0, -87.0f, -87.01f, -1e30f, -INFINITY, 88, 100, INFINITY, NAN};
    vec_exp_shifted(x, 0, sizeof x / sizeof x[0]);
    assert_true(x[0] == 1);
    assert_true(fabs(x[1] / exp(-87.0) - 1) < 2e-7);
    assert_true(x[2] == 0 && x[3] == 0 && x[4] == 0);
    assert_true(fabs(x[5] / exp(88.0) - 1) < 2e-7);
    assert_true(isinf(x[6]) && isinf(x[7]) && isnan(x[8]));
    assert_true(vec_exp_shifted(x, 0, 0) == 0);
}

/* The same element gives the same bits wherever it stands, so that results do not depend on the row's length. */
static void test_exponentials_do_not_depend_on_the_place(void **state)
{
    (void)state;
    float x[67], y[1];
    for (int i = 0; i < 67; i++)
        x[i] = -3.21f;
    y[0] = -3.21f;
    vec_exp_shifted(x, 0.5f, 67);
    vec_exp_shifted(y, 0.5f, 1);
    for (int i = 0; i < 67; i++)
        assert_memory_equal(&x[i], &y[0], sizeof y[0]);
}

/* Around whole spans, with and without names; what is exactly at the limit and what is no number are listed. Little is
 * from the 98th on, so that whole spans have nothing. */
static void test_list(void **state)
{
    (void)state;
    for (uint32_t n = 0; n <= 210; n++) {
        float x[210], value[210 + VEC_LIST_SLACK];
        uint32_t names[210], name[210 + VEC_LIST_SLACK], plain[210 + VEC_LIST_SLACK], want = 0;
        for (uint32_t i = 0; i < n; i++) {
            x[i] = i < 97 || i == 170 || i == 201 ? (float)(i * 37 % 19) : 3;
            names[i] = 1000 + i;
        }
        if (n > 40)
            x[40] = NAN;
        uint32_t found = vec_list(x, n, names, 0.5f, 6, name, value);
        assert_int_equal(vec_list(x, n, NULL, 0.5f, 6, plain, value), found);
        for (uint32_t i = 0; i < n; i++)
            if (isnan(x[i]) || x[i] >= 12) {
                assert_true(want < found);
                assert_int_equal(plain[want], i);
                assert_int_equal(name[want], 1000 + i);
                assert_memory_equal(&value[want++], &x[i], sizeof x[i]);
            }
        assert_int_equal(found, want);
    }
}

static void test_rows_get_unit_length(void **state)
{
    (void)state;
    enum { R = 5, D = 37 };
    float x[R * D], before[R * D], norms[R];
    fill(x, R * D, 7, 3);
    memset(x + 2 * D, 0, D * sizeof *x); /* a zero row stays zero */
    memcpy(before, x, sizeof x);
    vec_normalise_rows(x, R, D, norms);
    for (int i = 0; i < R; i++) {
        double norm = 0;
        for (int d = 0; d < D; d++)
            norm += (double)before[i * D + d] * before[i * D + d];
        norm = sqrt(norm);
        assert_true(fabs(norms[i] - norm) <= 1e-6 * norm);
        for (int d = 0; d < D; d++)
            assert_true(fabs(x[i * D + d] - before[i * D + d] / fmax(norm, 1e-12)) <= 2e-7);
    }
    vec_normalise_rows(x, 0, D, NULL);
    vec_normalise_rows(x, R, D, NULL);
}

static void test_denormals_are_flushed(void **state)
{
    (void)state;
    unsigned before = _mm_getcsr();
    compute_thread_init();
    volatile float small = FLT_MIN;
    volatile float half = small * 0.5f; /* volatile: stays between the two settings */
    _mm_setcsr(before);
    assert_true(half == 0);
    half = small * 0.5f;
    assert_true(half > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_max_is_found_at_every_place),
        cmocka_unit_test(test_one_bad_element_is_found_at_every_place),
        cmocka_unit_test(test_exponentials_against_double),
        cmocka_unit_test(test_exponentials_at_the_edges),
        cmocka_unit_test(test_exponentials_do_not_depend_on_the_place),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_rows_get_unit_length),
        cmocka_unit_test(test_denormals_are_flushed),
    };
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
