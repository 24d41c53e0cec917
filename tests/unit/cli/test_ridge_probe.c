/* Ridge regression: by hand in one dimension, against its defining equations in several, and which rows few-shot
 * takes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "cli/ridge_probe.h"
#include "common/blas.h"
#include "common/rng.h"

static const struct ridge_options alone = {.threads = 1};

/* Class c lies at `distance` along axis c. */
static struct feature_set clouds(uint32_t rows, uint32_t width, uint32_t classes, float distance, uint64_t seed)
{
    struct feature_set s = {.rows = rows, .width = width, .classes = classes};
    struct rng r;
    rng_open(&r, seed, RNG_INIT, 0, 0, 0);
    s.x = malloc((size_t)rows * width * sizeof *s.x);
    s.labels = malloc(rows * sizeof *s.labels);
    assert_true(s.x && s.labels);
    for (uint32_t i = 0; i < rows; i++) {
        s.labels[i] = (uint16_t)rng_below(&r, classes);
        for (uint32_t f = 0; f < width; f++)
            s.x[(size_t)i * width + f] = (float)rng_normal(&r) + (f == s.labels[i] ? distance : 0) + 3;
    }
    return s;
}

/* Bank at -1, -1, -1, 3 with labels 0, 0, 0, 1, that is -1/sqrt 3 three times and sqrt 3 in deviations from 0: so W
 * is -+sqrt 3 / (4 + 1/4), shares 3/4 and 1/4, and the label turns where 3/4 - x W = 1/4 + x W, at x = (4 + 1/4) / 4
 * sqrt 3 = 0.6134 deviations, or 1.0625. */
static void test_one_dimension_by_hand(void **state)
{
    (void)state;
    float x[4] = {-1, -1, -1, 3}, q[4] = {-2, 1.06F, 1.065F, 9};
    uint16_t labels[4] = {0, 0, 0, 1}, answers[4] = {0, 0, 1, 1};
    struct feature_set bank = {4, 1, 2, x, labels, NULL}, queries = {4, 1, 2, q, answers, NULL};
    struct ridge_scores s;
    assert_int_equal(ridge_probe(&bank, &queries, alone, &s), 0);
    assert_true(s.all.percent == 100);
    answers[1] = 1;
    assert_int_equal(ridge_probe(&bank, &queries, alone, &s), 0);
    assert_true(s.all.percent == 75);
}

/* Gauss elimination on (X^T X + lambda I) W = X^T Y with an own column of ones for the bias, which is not shrunk. */
static void solve(double *a, double *b, int n, int columns)
{
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n; i++) {
            double factor = i == k ? 0 : a[i * n + k] / a[k * n + k];
            for (int j = k; j < n && factor != 0; j++)
                a[i * n + j] -= factor * a[k * n + j];
            for (int c = 0; c < columns && factor != 0; c++)
                b[i * columns + c] -= factor * b[k * columns + c];
        }
    for (int k = 0; k < n; k++)
        for (int c = 0; c < columns; c++)
            b[k * columns + c] /= a[k * n + k];
}

static double slow_ridge(const struct feature_set *bank, const struct feature_set *queries)
{
    enum { F = 6, C = 4, N = F + 1 };
    double *x, *q, a[N * N] = {0}, b[N * C] = {0};
    assert_int_equal(feature_set_standardise(bank, bank, &x), 0);
    assert_int_equal(feature_set_standardise(bank, queries, &q), 0);
    for (uint32_t i = 0; i < bank->rows; i++)
        for (int f = 0; f < N; f++) {
            double xf = f < F ? x[i * F + f] : 1;
            for (int g = 0; g < N; g++)
                a[f * N + g] += xf * (g < F ? x[i * F + g] : 1);
            b[f * C + bank->labels[i]] += xf;
        }
    for (int f = 0; f < F; f++)
        a[f * N + f] += fmax(0.01 * bank->rows, 0.25 * F);
    solve(a, b, N, C);
    uint32_t right = 0;
    for (uint32_t i = 0; i < queries->rows; i++) {
        double score[C], best = -INFINITY;
        int label = 0;
        for (int c = 0; c < C; c++) {
            score[c] = b[F * C + c];
            for (int f = 0; f < F; f++)
                score[c] += q[i * F + f] * b[f * C + c];
            label = score[c] > best ? c : label;
            best = fmax(best, score[c]);
        }
        right += label == queries->labels[i];
    }
    free(x);
    free(q);
    return 100.0 * right / queries->rows;
}

static void test_against_elimination(void **state)
{
    (void)state;
    struct feature_set bank = clouds(500, 6, 4, 1, 1), queries = clouds(700, 6, 4, 1, 2);
    struct ridge_scores one, three;
    assert_int_equal(ridge_probe(&bank, &queries, alone, &one), 0);
    assert_true(fabs(one.all.percent - slow_ridge(&bank, &queries)) < 1e-9);
    assert_true(one.all.percent > 40 && one.all.percent < 90); /* a case that rounding could turn, not a trivial one */
    assert_int_equal(ridge_probe(&bank, &queries, (struct ridge_options){.threads = 3}, &three), 0);
    assert_memory_equal(&one.all, &three.all, sizeof one.all);
    feature_set_fini(&bank);
    feature_set_fini(&queries);
}

static void test_few_shot_rows(void **state)
{
    (void)state;
    uint16_t labels[35];
    uint32_t rows[35], again[35], count[2] = {0};
    for (int i = 0; i < 35; i++)
        labels[i] = i >= 30;
    assert_int_equal(few_shot_pick(labels, 35, 3, 0.1, 0, rows), 4); /* 3 of 30, 1 of 5, 0 of 0 */
    for (int i = 0; i < 4; i++) {
        count[labels[rows[i]]]++;
        for (int j = 0; j < i; j++)
            assert_int_not_equal(rows[i], rows[j]);
    }
    assert_int_equal(count[0], 3);
    assert_int_equal(count[1], 1);
    assert_int_equal(few_shot_pick(labels, 35, 3, 0.1, 0, again), 4);
    assert_memory_equal(rows, again, 4 * sizeof *rows);
    assert_int_equal(few_shot_pick(labels, 35, 3, 0.1, 1, again), 4);
    assert_memory_not_equal(rows, again, 4 * sizeof *rows);
    assert_int_equal(few_shot_pick(labels, 35, 3, 0.01, 0, rows), 2); /* one of each at least */
    assert_int_equal(few_shot_pick(labels, 35, 3, 1, 0, rows), 35);
}

static void test_few_shot(void **state)
{
    (void)state;
    struct feature_set bank = clouds(1000, 5, 5, 40, 3), queries = clouds(300, 5, 5, 40, 4);
    struct ridge_scores s;
    assert_int_equal(ridge_probe(&bank, &queries, (struct ridge_options){.few = true, .threads = 2}, &s), 0);
    assert_true(s.few[0].percent == 100 && s.few[0].deviation == 0); /* clouds 40 deviations apart */
    assert_true(s.few[0].rows >= 10 && s.few[0].rows <= 15);         /* about 200 in each class, rounded up */
    assert_true(s.few[1].rows >= 100 && s.few[1].rows <= 105);
    feature_set_fini(&bank);
    feature_set_fini(&queries);
    bank = clouds(1000, 5, 5, 1, 3), queries = clouds(300, 5, 5, 1, 4);
    assert_int_equal(ridge_probe(&bank, &queries, (struct ridge_options){.few = true, .threads = 2}, &s), 0);
    assert_true(s.few[0].percent < s.few[1].percent && s.few[1].percent < s.all.percent);
    assert_true(s.few[0].deviation > 0); /* draws differ */
    feature_set_fini(&bank);
    feature_set_fini(&queries);
}

static void test_too_wide(void **state)
{
    (void)state;
    struct feature_set wide = clouds(2, RIDGE_WIDTH_MAX + 1, 2, 0, 5);
    struct ridge_scores s;
    assert_int_equal(ridge_probe(&wide, &wide, alone, &s), ERR_RANGE);
    feature_set_fini(&wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_dimension_by_hand),
        cmocka_unit_test(test_against_elimination),
        cmocka_unit_test(test_few_shot_rows),
        cmocka_unit_test(test_few_shot),
        cmocka_unit_test(test_too_wide),
    };
    blas_single_threaded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
