/* The projection against numpy, and the counts that follow from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include "cli/dashboard_shape.h"
#include "common/vecmath.h"

enum { K = 7, D = 4 };

static const float rows[K * D] = {-4.5F, 0, 5,     -1, -1.5F, -1, 0,    1, -3.5F, 4, 1,    -2, 0.5F, 4,
                                  -3,    1, -0.5F, -1, -1,    -1, 4.5F, 0, -4,    3, 4.5F, -4, -1,   2};

static struct prototype_set make_set(const float *x, uint32_t k, uint32_t d, const double *usage)
{
    struct prototype_set set = {.K = k, .D = d, .step = 12};
    set.unit = malloc(k * d * sizeof *set.unit);
    set.usage = usage ? malloc(k * sizeof *set.usage) : NULL;
    assert_true(set.unit && (!usage || set.usage));
    memcpy(set.unit, x, k * d * sizeof *x);
    if (usage)
        memcpy(set.usage, usage, k * sizeof *usage);
    vec_normalise_rows(set.unit, k, d, NULL);
    return set;
}

static void shape_of(const float *x, uint32_t k, uint32_t d, const double *usage, struct dashboard_shape *s)
{
    struct prototype_set set = make_set(x, k, d, usage);
    assert_int_equal(dashboard_shape_of(&set, s, NULL), 0);
    prototype_set_fini(&set);
}

/* u = rows / |rows|; x = u - u.mean(0); w, v = numpy.linalg.eigh(x.T @ x); the last two columns of v, each with its
 * largest element positive; p = x @ v, divided by the longest row. Compared at 1e-5: numpy's figures are rounded at
 * 1e-6, ours are kept as float. */
static void test_projection_against_numpy(void **state)
{
    static const double x[K] = {-0.932666, -0.311413, -0.829532, 0.242147, 0.023842, 0.949091, 0.858531};
    static const double y[K] = {-0.255687, -0.579829, 0.558459, 0.908257, -0.412982, 0.237241, -0.45546};
    static const int bins[K] = {39, 48, 29, 15, 54, 2, 66};
    struct dashboard_shape s = {0};
    double expected[SHAPE_ANGLES] = {0};
    (void)state;
    shape_of(rows, K, D, NULL, &s);
    for (int k = 0; k < K; k++) {
        assert_true(fabs((double)s.x[k] - x[k]) < 1e-5 && fabs((double)s.y[k] - y[k]) < 1e-5);
        expected[bins[k]] += 72.0 / K / 2;
        expected[(bins[k] + 1) % 72] += 72.0 / K / 4;
        expected[(bins[k] + 71) % 72] += 72.0 / K / 4;
    }
    for (int i = 0; i < SHAPE_ANGLES; i++)
        assert_true(fabs(s.density[i] - expected[i]) < 1e-9);
    assert_true(fabs(s.spread[0] - 0.4957693694) < 1e-6 && fabs(s.spread[1] - 0.2917605583) < 1e-6);
    assert_true(s.nearest[3] == 5 && fabs((double)s.cosine[3] - 0.50051276) < 1e-6);
    assert_true(s.step == 12 && s.usage == NULL && isnan(s.perplexity));
    dashboard_shape_fini(&s);
}

static void test_pairs_are_named_once(void **state)
{
    struct dashboard_shape s = {0};
    (void)state;
    shape_of(rows, K, D, NULL, &s);
    assert_int_equal(s.pair_count, 5); /* 0-2 and 5-6 name each other */
    assert_true(s.pairs[0].a == 5 && s.pairs[0].b == 6 && fabs(s.pairs[0].cosine - 0.70017099) < 1e-6);
    assert_true(s.pairs[1].a == 0 && s.pairs[1].b == 2);
    for (size_t i = 1; i < s.pair_count; i++)
        assert_true(s.pairs[i].cosine <= s.pairs[i - 1].cosine);
    dashboard_shape_fini(&s);
}

static void test_more_pairs_than_are_kept(void **state)
{
    enum { N = 60 };
    float x[N * 2];
    struct dashboard_shape s = {0};
    (void)state;
    for (int k = 0; k < N; k++) { /* angles of 1, 2, 3 ... degrees between neighbours: the first pairs are closest */
        double degrees = k * (k + 1) / 2.0 / 10;
        x[2 * k] = (float)cos(degrees * M_PI / 180);
        x[2 * k + 1] = (float)sin(degrees * M_PI / 180);
    }
    shape_of(x, N, 2, NULL, &s);
    assert_int_equal(s.pair_count, SHAPE_PAIRS);
    for (size_t i = 1; i < s.pair_count; i++)
        assert_true(s.pairs[i].cosine <= s.pairs[i - 1].cosine && s.pairs[i].a <= SHAPE_PAIRS + 1);
    dashboard_shape_fini(&s);
}

/* The next picture resembles the one before, although an eigenvector's sign is free. */
static void test_sign_follows_the_picture_before(void **state)
{
    struct dashboard_shape s = {0};
    (void)state;
    shape_of(rows, K, D, NULL, &s);
    for (int d = 0; d < 2 * D; d++)
        s.axes[d] = -s.axes[d];
    double before = (double)s.x[5];
    shape_of(rows, K, D, NULL, &s);
    assert_true(fabs((double)s.x[5] + before) < 1e-6);
    dashboard_shape_fini(&s);
}

static void test_copies_make_a_spike(void **state)
{
    float even[64 * 2], copies[64 * 2];
    struct dashboard_shape s = {0};
    (void)state;
    for (int k = 0; k < 64; k++) {
        double turn = 2 * M_PI * k / 64, squeezed = k < 48 ? 0.001 * k : turn;
        even[2 * k] = (float)cos(turn), even[2 * k + 1] = (float)sin(turn);
        copies[2 * k] = (float)cos(squeezed), copies[2 * k + 1] = (float)sin(squeezed);
    }
    shape_of(even, 64, 2, NULL, &s);
    assert_true(dashboard_shape_spike(&s) < 0.16 && s.unique[1] < 40);
    shape_of(copies, 64, 2, NULL, &s);
    assert_true(dashboard_shape_spike(&s) > 0.7 && s.unique[1] < 20);
    dashboard_shape_fini(&s);
    assert_true(isnan(dashboard_shape_spike(&s)));
}

/* Nothing to project on: every prototype the same, or one dimension. */
static void test_degenerate(void **state)
{
    static const float same[6] = {1, 2, 1, 2, 1, 2}, line[3] = {1, -1, 1};
    struct dashboard_shape s = {0};
    (void)state;
    shape_of(same, 3, 2, NULL, &s);
    for (int k = 0; k < 3; k++)
        assert_true(isfinite(s.x[k]) && isfinite(s.y[k]) && fabsf(s.x[k]) <= 1);
    assert_true(s.unique[0] < 34 && (double)s.cosine[0] > 0.999);
    shape_of(line, 3, 1, NULL, &s);
    assert_true(fabsf(s.y[0]) == 0 && s.D == 1);
    dashboard_shape_fini(&s);
}

static void test_too_many_dimensions(void **state)
{
    enum { MANY = SHAPE_D_MAX + 1 };
    float *x = calloc(2 * (size_t)MANY, sizeof *x);
    struct dashboard_shape s = {0};
    struct error e;
    (void)state;
    assert_non_null(x);
    x[0] = x[MANY + 1] = 1;
    shape_of(rows, K, D, NULL, &s);
    struct prototype_set set = make_set(x, 2, MANY, NULL);
    assert_int_equal(dashboard_shape_of(&set, &s, &e), ERR_RANGE);
    assert_true(s.K == K && strstr(e.text, "2049 dimensions") != NULL); /* the one before stays */
    prototype_set_fini(&set);
    dashboard_shape_fini(&s);
    free(x);
}

static void test_usage(void **state)
{
    static const double usage[K] = {0, 4, 2, 1, 1, 0, 0};
    struct dashboard_shape s = {0};
    (void)state;
    shape_of(rows, K, D, usage, &s);
    assert_true(fabs(s.usage[1] - 0.5) < 1e-12);
    assert_true(fabs(s.perplexity - exp(0.5 * log(2) + 0.25 * log(4) + 0.25 * log(8))) < 1e-9);
    assert_int_equal(s.usage_bins[0], 3);
    assert_int_equal(s.usage_bins[dashboard_usage_bin(0.5, K)], 1); /* 3.5 even shares */
    dashboard_shape_fini(&s);
}

static void test_usage_bins(void **state)
{
    (void)state;
    assert_int_equal(dashboard_usage_bin(0, 1024), 0);
    assert_int_equal(dashboard_usage_bin(-1, 1024), 0);
    assert_int_equal(dashboard_usage_bin(1e-9, 1024), 1);
    assert_int_equal(dashboard_usage_bin(0.124 / 1024, 1024), 1);
    assert_int_equal(dashboard_usage_bin(0.125 / 1024, 1024), 2);
    assert_int_equal(dashboard_usage_bin(1.0 / 1024, 1024), 5);
    assert_int_equal(dashboard_usage_bin(63.0 / 1024, 1024), 10);
    assert_int_equal(dashboard_usage_bin(64.0 / 1024, 1024), 11);
    assert_int_equal(dashboard_usage_bin(1, 1024), 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_projection_against_numpy),
        cmocka_unit_test(test_pairs_are_named_once),
        cmocka_unit_test(test_more_pairs_than_are_kept),
        cmocka_unit_test(test_sign_follows_the_picture_before),
        cmocka_unit_test(test_copies_make_a_spike),
        cmocka_unit_test(test_degenerate),
        cmocka_unit_test(test_too_many_dimensions),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_usage_bins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
