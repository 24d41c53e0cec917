/* The linear probe: what it must separate, what it cannot, and independence of threads and of the features' scale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "cli/linear_probe.h"
#include "common/blas.h"
#include "common/rng.h"

static const struct linear_probe_options usual = {.decay = 1e-4, .iterations = 100, .threads = 1};

/* Gaussian clouds around class c at `distance` along axis c; offset and scale apply to every feature. */
static struct feature_set clouds(uint32_t rows, uint32_t width, uint32_t classes, float distance, float offset,
                                 float scale, uint64_t seed)
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
            s.x[(size_t)i * width + f] =
                offset + scale * ((float)rng_normal(&r) + (f == s.labels[i] ? distance : 0.0F));
    }
    return s;
}

static double score(struct feature_set *bank, struct feature_set *queries, unsigned threads)
{
    struct linear_probe_options o = usual;
    struct accuracy got;
    o.threads = threads;
    assert_int_equal(linear_probe_accuracy(bank, queries, o, &got), 0);
    return got.percent;
}

static void test_one_row(void **state)
{
    (void)state;
    struct feature_set one = clouds(1, 3, 2, 1, 0, 1, 1);
    one.labels[0] = 1;
    assert_true(score(&one, &one, 1) == 100.0);
    feature_set_fini(&one);
}

static void test_separable(void **state)
{
    (void)state;
    struct feature_set bank = clouds(400, 6, 4, 12, 0, 1, 1), queries = clouds(300, 6, 4, 12, 0, 1, 2);
    assert_true(score(&bank, &queries, 1) == 100.0);
    feature_set_fini(&bank);
    feature_set_fini(&queries);
}

static void test_labels_without_relation(void **state)
{
    (void)state;
    struct feature_set bank = clouds(2000, 5, 4, 0, 0, 1, 3), queries = clouds(2000, 5, 4, 0, 0, 1, 4);
    double percent = score(&bank, &queries, 1);
    assert_true(percent > 20 && percent < 30); /* chance is 25, its deviation 1 */
    feature_set_fini(&bank);
    feature_set_fini(&queries);
}

static void test_bayes_rate(void **state)
{
    (void)state;
    /* two clouds sqrt(2) * 2 apart: the best possible rule is right with probability Phi(sqrt 2) = 92.1 % */
    struct feature_set bank = clouds(5000, 2, 2, 2, 0, 1, 5), queries = clouds(5000, 2, 2, 2, 0, 1, 6);
    double percent = score(&bank, &queries, 1);
    assert_true(percent > 90.9 && percent < 93.3); /* three standard errors */
    feature_set_fini(&bank);
    feature_set_fini(&queries);
}

static void test_scale_and_offset_do_not_matter(void **state)
{
    (void)state;
    struct feature_set bank = clouds(1000, 4, 3, 1.5F, 0, 1, 7), queries = clouds(1000, 4, 3, 1.5F, 0, 1, 8);
    struct feature_set far_bank = clouds(1000, 4, 3, 1.5F, 50, 8, 7), far_queries = clouds(1000, 4, 3, 1.5F, 50, 8, 8);
    double near = score(&bank, &queries, 1), far = score(&far_bank, &far_queries, 1);
    assert_true(near - far < 0.21 &&
                far - near < 0.21); /* rounding of the shifted floats may turn a borderline query */
    feature_set_fini(&bank);
    feature_set_fini(&queries);
    feature_set_fini(&far_bank);
    feature_set_fini(&far_queries);
}

static void test_constant_feature(void **state)
{
    (void)state;
    struct feature_set bank = clouds(300, 3, 2, 8, 0, 1, 9);
    for (uint32_t i = 0; i < bank.rows; i++)
        bank.x[(size_t)i * 3 + 2] = 0.1F;
    assert_true(score(&bank, &bank, 1) == 100.0);
    feature_set_fini(&bank);
}

static void test_threads_do_not_matter(void **state)
{
    (void)state;
    struct feature_set bank = clouds(5000, 6, 5, 1, 0, 1, 10), queries = clouds(4000, 6, 5, 1, 0, 1, 11);
    assert_true(score(&bank, &queries, 1) == score(&bank, &queries, 3));
    feature_set_fini(&bank);
    feature_set_fini(&queries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row),
        cmocka_unit_test(test_separable),
        cmocka_unit_test(test_labels_without_relation),
        cmocka_unit_test(test_bayes_rate),
        cmocka_unit_test(test_scale_and_offset_do_not_matter),
        cmocka_unit_test(test_constant_feature),
        cmocka_unit_test(test_threads_do_not_matter),
    };
    blas_single_threaded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
