/* k-NN against a slow reference that sorts all similarities, and by hand on tiny sets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "cli/knn.h"
#include "common/blas.h"
#include "common/rng.h"

static struct feature_set random_set(uint32_t rows, uint32_t width, uint32_t classes, uint64_t seed)
{
    struct feature_set s = {.rows = rows, .width = width, .classes = classes};
    struct rng r;
    rng_open(&r, seed, RNG_INIT, 0, 0, 0);
    s.x = malloc((size_t)rows * width * sizeof *s.x);
    s.labels = malloc(rows * sizeof *s.labels);
    assert_true(s.x && s.labels);
    for (uint32_t i = 0; i < rows; i++)
        s.labels[i] = (uint16_t)rng_below(&r, classes);
    for (size_t i = 0; i < (size_t)rows * width; i++) /* a weak trace of the label, so that votes are not all ties */
        s.x[i] = (float)rng_normal(&r) + (i % width == s.labels[i / width] ? 1.0F : 0.0F);
    return s;
}

struct scored {
    double cosine;
    uint32_t row;
};

static int more_similar(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->cosine != y->cosine)
        return x->cosine > y->cosine ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static double cosine_of(const float *a, const float *b, uint32_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static double slow_knn(const struct feature_set *bank, const struct feature_set *queries, struct knn_options o)
{
    struct scored *all = malloc(bank->rows * sizeof *all);
    uint32_t correct = 0;
    for (uint32_t q = 0; q < queries->rows; q++) {
        double votes[256] = {0};
        uint32_t best = 0;
        for (uint32_t b = 0; b < bank->rows; b++)
            all[b] = (struct scored){
                cosine_of(queries->x + (size_t)q * bank->width, bank->x + (size_t)b * bank->width, bank->width), b};
        qsort(all, bank->rows, sizeof *all, more_similar);
        for (uint32_t j = 0; j < o.neighbours && j < bank->rows; j++)
            votes[bank->labels[all[j].row]] += exp(all[j].cosine / o.temperature);
        for (uint32_t c = 1; c < bank->classes; c++)
            best = votes[c] > votes[best] ? c : best;
        correct += best == queries->labels[q];
    }
    free(all);
    return 100.0 * correct / queries->rows;
}

static void compare(uint32_t bank_rows, uint32_t query_rows, uint32_t width, uint32_t k, unsigned threads)
{
    struct feature_set bank = random_set(bank_rows, width, 5, 1), queries = random_set(query_rows, width, 5, 2);
    struct knn_options o = {.neighbours = k, .temperature = 0.07, .threads = threads};
    struct accuracy got;
    assert_int_equal(knn_accuracy(&bank, &queries, o, &got), 0);
    /* float and double similarities may order a near tie differently: one query in a thousand at most */
    assert_true(fabs(got.percent - slow_knn(&bank, &queries, o)) <= 0.1 + 1e-9);
    feature_set_fini(&bank);
    feature_set_fini(&queries);
}

static void test_one_row(void **state)
{
    (void)state;
    float x[2] = {3, 4}, near[2] = {6, 8.1F};
    uint16_t label = 2;
    struct feature_set bank = {1, 2, 3, x, &label, NULL}, query = {1, 2, 3, near, &label, NULL};
    struct knn_options o = {.neighbours = 20, .temperature = 0.07, .threads = 1};
    struct accuracy got;
    assert_int_equal(knn_accuracy(&bank, &query, o, &got), 0);
    assert_true(got.percent == 100.0);
}

static void test_nearest_votes_weigh_more(void **state)
{
    (void)state;
    /* one neighbour of class 1 at the query itself outweighs two of class 0 that are far */
    float x[6] = {1, 0, 0.6F, 0.8F, 0.6F, -0.8F}, q[2] = {2, 0};
    uint16_t labels[3] = {1, 0, 0}, label = 1;
    struct feature_set bank = {3, 2, 2, x, labels, NULL}, query = {1, 2, 2, q, &label, NULL};
    struct accuracy got;
    struct knn_options o = {.neighbours = 3, .temperature = 0.07, .threads = 1};
    assert_int_equal(knn_accuracy(&bank, &query, o, &got), 0);
    assert_true(got.percent == 100.0);
    o.temperature = 10; /* nearly equal weights: the majority wins */
    assert_int_equal(knn_accuracy(&bank, &query, o, &got), 0);
    assert_true(got.percent == 0.0);
}

static void test_against_sorting(void **state)
{
    (void)state;
    compare(50, 31, 7, 1, 1);
    compare(300, 1000, 16, 20, 1);
    compare(2100, 129, 12, 20, 3); /* more than one tile and one block, both ragged */
    compare(10, 40, 8, 64, 2);     /* k beyond the bank */
}

static void test_features_stay_as_they_are(void **state)
{
    (void)state;
    struct feature_set bank = random_set(20, 4, 3, 3);
    float first = bank.x[0];
    struct accuracy got;
    struct knn_options o = {.neighbours = 3, .temperature = 0.07, .threads = 1};
    assert_int_equal(knn_accuracy(&bank, &bank, o, &got), 0);
    assert_true(bank.x[0] == first);
    feature_set_fini(&bank);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row),
        cmocka_unit_test(test_nearest_votes_weigh_more),
        cmocka_unit_test(test_against_sorting),
        cmocka_unit_test(test_features_stay_as_they_are),
    };
    blas_single_threaded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
