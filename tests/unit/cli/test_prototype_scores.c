/* Prototype health on sets whose answer is known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cli/prototype_scores.h"
#include "common/blas.h"
#include "common/vecmath.h"

static void test_one_prototype(void **state)
{
    (void)state;
    const float prototype[2] = {1, 0};
    float z[2] = {-3, 0.5F};
    struct prototype_scores s;
    uint32_t nearest;
    assert_int_equal(prototype_scores_of(prototype, 1, 2, z, 1, 1, &nearest, &s), 0);
    assert_int_equal(nearest, 0);
    assert_true(s.active == 100.0 && s.unique[0] == 100.0 && s.active_unique[3] == 100.0);
    assert_true(s.perplexity == 1.0);
    assert_int_equal(s.cover_rows, 1);
    assert_int_equal(s.feature_cover[0], 1);
}

static void test_dead_and_double_prototypes(void **state)
{
    (void)state;
    /* 0 and 1 are the same; 2 is used; 3 is never nearest to anything */
    const float prototypes[8] = {1, 0, 1, 0, 0, 1, -1, 0};
    float z[8] = {2, 0.1F, 5, 0, 0.1F, 3, 0, 1};
    uint32_t nearest[4];
    struct prototype_scores s;
    assert_int_equal(prototype_scores_of(prototypes, 4, 2, z, 4, 2, nearest, &s), 0);
    const uint32_t want[4] = {0, 0, 2, 2};
    assert_memory_equal(nearest, want, sizeof want);
    assert_true(s.unique[1] == 75.0);
    assert_true(s.active == 50.0); /* ties go to the lower index: 0 and 2 */
    assert_true(s.active_unique[1] == 50.0);
    assert_true(fabs(s.perplexity - 2.0) < 1e-12);
    assert_int_equal(s.feature_cover[1], 2);
    assert_true(fabsf(z[2] - 1) < 1e-6F); /* z is normalised in place */
}

static void test_active_duplicates_count_once(void **state)
{
    (void)state;
    const float prototypes[6] = {1, 0, 0.995037F, 0.0995037F, 0, 1}; /* 0 and 1: cosine distance 0.005 */
    float z[6] = {1, -0.1F, 1, 0.2F, 0, 1};
    uint32_t nearest[3];
    struct prototype_scores s;
    assert_int_equal(prototype_scores_of(prototypes, 3, 2, z, 3, 1, nearest, &s), 0);
    assert_true(s.active == 100.0);
    assert_true(fabs(s.active_unique[0] - 200.0 / 3) < 1e-9);
}

static void test_threads_do_not_matter(void **state)
{
    (void)state;
    enum { K = 33, D = 3, N = 500 };
    float prototypes[K * D], z[2][N * D];
    for (int i = 0; i < K * D; i++)
        prototypes[i] = sinf((float)(i * i + 1));
    vec_normalise_rows(prototypes, K, D, NULL);
    for (int i = 0; i < N * D; i++)
        z[0][i] = z[1][i] = cosf((float)(3 * i + i * i % 7));
    struct prototype_scores one, three;
    uint32_t nearest[2][N];
    assert_int_equal(prototype_scores_of(prototypes, K, D, z[0], N, 1, nearest[0], &one), 0);
    assert_int_equal(prototype_scores_of(prototypes, K, D, z[1], N, 3, nearest[1], &three), 0);
    assert_memory_equal(nearest[0], nearest[1], sizeof nearest[0]);
    assert_true(one.active == three.active && one.perplexity == three.perplexity);
    assert_memory_equal(one.feature_cover, three.feature_cover, sizeof one.feature_cover);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_prototype),
        cmocka_unit_test(test_dead_and_double_prototypes),
        cmocka_unit_test(test_active_duplicates_count_once),
        cmocka_unit_test(test_threads_do_not_matter),
    };
    blas_single_threaded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
