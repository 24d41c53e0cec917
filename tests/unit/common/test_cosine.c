/* Greedy cover and nearest neighbours against the definitions in double, at sizes around the tiles (128 rows, 480
 * columns). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include "common/cosine.h"
#include "common/blas.h"
#include "common/error.h"
#include "common/rng.h"
#include "common/vecmath.h"
#include "tests/unit/kernels_each.h"

static const double all_eps[] = {0.025, 0.1, 0.25, 0.5};
enum { EPS = 4 };

/* Unit rows scattered around a number of random centres, so that every eps joins some and not others. */
static float *clustered(size_t K, size_t D, uint32_t centres, uint64_t name)
{
    float *x = malloc(K * D * sizeof *x);
    struct rng pick;
    rng_open(&pick, 3, RNG_MIXTURE, name, 0, 0);
    for (size_t i = 0; i < K; i++) {
        struct rng centre, noise;
        rng_open(&centre, 4, RNG_MIXTURE, name, rng_below(&pick, centres), 0);
        rng_open(&noise, 5, RNG_MIXTURE, name, i, 0);
        double spread = 0.8 * rng_uniform(&noise);
        for (size_t d = 0; d < D; d++)
            x[i * D + d] = (float)(rng_normal(&centre) + spread * rng_normal(&noise));
    }
    vec_normalise_rows(x, K, D, NULL);
    return x;
}

static double cosine_of(const float *x, size_t i, size_t j, size_t D)
{
    double c = 0;
    for (size_t d = 0; d < D; d++)
        c += (double)x[i * D + d] * x[j * D + d];
    return c;
}

/* True when the answer hangs on a difference that float cannot tell: such data would not be a fair test. */
static uint32_t cover_reference(const float *x, size_t K, size_t D, double eps, bool *too_close)
{
    size_t *kept = malloc(K * sizeof *kept);
    uint32_t count = 0;
    for (size_t i = 0; i < K; i++) {
        bool joins = false;
        for (uint32_t r = 0; r < count && !joins; r++) {
            double distance = 1 - cosine_of(x, i, kept[r], D);
            joins = distance < eps;
            *too_close = *too_close || fabs(distance - eps) < 5e-7;
        }
        if (!joins)
            kept[count++] = i;
    }
    free(kept);
    return count;
}

static void test_cover_of_nothing(void **state)
{
    (void)state;
    uint32_t counts[EPS] = {9, 9, 9, 9};
    assert_int_equal(cosine_cover(NULL, 0, 3, all_eps, EPS, counts), 0);
    for (int k = 0; k < EPS; k++)
        assert_int_equal(counts[k], 0);
    assert_int_equal(cosine_cover((float[]){1, 0}, 1, 2, all_eps, 0, NULL), 0);
}

static void test_cover_of_one_and_of_copies(void **state)
{
    (void)state;
    float x[400 * 2];
    uint32_t counts[EPS];
    for (int i = 0; i < 400; i++)
        x[2 * i] = 0.6f, x[2 * i + 1] = 0.8f;
    for (size_t K = 1; K <= 400; K += 399) {
        assert_int_equal(cosine_cover(x, K, 2, all_eps, EPS, counts), 0);
        for (int k = 0; k < EPS; k++)
            assert_int_equal(counts[k], 1);
    }
}

/* 1 - cos = 0.5 exactly: not less than 0.5, so not joined. */
static void test_comparison_is_strict(void **state)
{
    (void)state;
    const float x[] = {1, 0, 0, 0, 0.5f, 0.5f, 0.5f, 0.5f};
    const double eps[] = {0.5, 0.5000001};
    uint32_t counts[2];
    assert_int_equal(cosine_cover(x, 2, 4, eps, 2, counts), 0);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);
}

/* a - b - c in a row, each near the next: b joins a, then c has nobody to join. */
static void test_only_representatives_are_joined(void **state)
{
    (void)state;
    float x[6];
    for (int i = 0; i < 3; i++) {
        x[2 * i] = (float)cos(0.4 * i);
        x[2 * i + 1] = (float)sin(0.4 * i);
    }
    uint32_t count;
    assert_int_equal(cosine_cover(x, 3, 2, (double[]){0.1}, 1, &count), 0);
    assert_int_equal(count, 2);
}

static void test_cover_against_the_definition(void **state)
{
    (void)state;
    static const size_t sizes[] = {2, 127, 128, 129, 300, 1500};
    uint32_t fair = 0;
    for (uint64_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t D = 3; D <= 17; D += 14) {
            float *x = clustered(sizes[s], D, 200, s);
            uint32_t counts[EPS];
            assert_int_equal(cosine_cover(x, sizes[s], D, all_eps, EPS, counts), 0);
            for (int k = 0; k < EPS; k++) {
                bool too_close = false;
                uint32_t wanted = cover_reference(x, sizes[s], D, all_eps[k], &too_close);
                if (!too_close)
                    assert_int_equal(counts[k], wanted);
                fair += !too_close;
            }
            free(x);
        }
    assert_true(fair >= 36); /* of 48 */
}

static void test_cover_keeps_more_than_a_tile_of_representatives(void **state)
{
    (void)state;
    enum { K = 2600, D = 64 };
    float *x = clustered(K, D, 1300, 77);
    uint32_t count;
    bool too_close = false;
    assert_int_equal(cosine_cover(x, K, D, (double[]){0.1}, 1, &count), 0);
    uint32_t wanted = cover_reference(x, K, D, 0.1, &too_close);
    assert_true(wanted > 1024 && wanted < K);
    assert_false(too_close);
    assert_int_equal(count, wanted);
    free(x);
}

static void check_nearest(size_t K, size_t D)
{
    float *x = clustered(K, D, 100, K), *cosine = malloc(K * sizeof *cosine);
    uint32_t *nearest = malloc(K * sizeof *nearest);
    assert_int_equal(cosine_nearest(x, K, D, nearest, cosine), 0);
    for (size_t i = 0; i < K; i++) {
        double best = -2;
        for (size_t j = 0; j < K; j++)
            best = j != i ? fmax(best, cosine_of(x, i, j, D)) : best;
        assert_int_not_equal(nearest[i], i);
        assert_true(nearest[i] < K);
        assert_true(fabs(cosine[i] - best) < 1e-6);
        assert_true(fabs(cosine_of(x, i, nearest[i], D) - best) < 1e-6);
    }
    free(x);
    free(cosine);
    free(nearest);
}

static void test_nearest_against_the_definition(void **state)
{
    (void)state;
    static const size_t sizes[] = {2, 3, 127, 128, 129, 479, 480, 481, 609, 1300};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        check_nearest(sizes[s], 9);
}

static void test_nearest_of_equals_is_the_first(void **state)
{
    (void)state;
    enum { K = 1200 };
    float x[2 * K], cosine[K];
    uint32_t nearest[K];
    for (int i = 0; i < K; i++)
        x[2 * i] = 1, x[2 * i + 1] = 0;
    assert_int_equal(cosine_nearest(x, K, 2, nearest, cosine), 0);
    assert_int_equal(nearest[0], 1);
    for (int i = 1; i < K; i++)
        assert_int_equal(nearest[i], 0);
    assert_true(cosine[K - 1] == 1);
}

static void test_opposite_rows_still_have_a_nearest(void **state)
{
    (void)state;
    const float x[] = {1, 0, -1, 0};
    float cosine[2];
    uint32_t nearest[2];
    assert_int_equal(cosine_nearest(x, 2, 2, nearest, cosine), 0);
    assert_int_equal(nearest[0], 1);
    assert_int_equal(nearest[1], 0);
    assert_true(cosine[0] == -1 && cosine[1] == -1);
}

/* One pass finds what the two do, bit by bit; one that is stopped says so. */
static bool at_once(const void *asked)
{
    ++*(int *)(uintptr_t)asked;
    return true;
}

static void test_survey_is_both(void **state)
{
    (void)state;
    enum { K = 1100, D = 17 };
    float *x = clustered(K, D, 100, K), cosine[K], alone_cosine[K];
    uint32_t nearest[K], alone_nearest[K], counts[EPS], alone_counts[EPS];
    int asked = 0;
    struct cosine_survey o = {
        .x = x, .K = K, .D = D, .eps = all_eps, .n = EPS, .counts = counts, .nearest = nearest, .cosine = cosine};
    assert_int_equal(cosine_survey(&o), 0);
    assert_int_equal(cosine_cover(x, K, D, all_eps, EPS, alone_counts), 0);
    assert_int_equal(cosine_nearest(x, K, D, alone_nearest, alone_cosine), 0);
    assert_memory_equal(counts, alone_counts, sizeof counts);
    assert_memory_equal(nearest, alone_nearest, sizeof nearest);
    assert_memory_equal(cosine, alone_cosine, sizeof cosine);
    assert_in_range(counts[0], counts[EPS - 1] + 1, K - 1);
    o.stop = at_once;
    o.stop_arg = &asked;
    assert_int_equal(cosine_survey(&o), ERR_CLOSED);
    assert_int_equal(asked, 1);
    free(x);
}

/* There is no cosine in bf16: amx is avx512, not the portable choice. */
static void test_amx_is_avx512(void **state)
{
    (void)state;
    enum { K = 600, D = 17 };
    const char *chosen = kernels_name(kernels_chosen());
    float *x, cosine[2][K];
    uint32_t nearest[2][K];
    if (!kernels_possible(KERNELS_AMX))
        skip();
    x = clustered(K, D, 100, K);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kernels_choose(i == 0 ? "amx" : "avx512", NULL), 0);
        assert_int_equal(cosine_nearest(x, K, D, nearest[i], cosine[i]), 0);
    }
    assert_int_equal(kernels_choose(chosen, NULL), 0);
    assert_memory_equal(nearest[0], nearest[1], sizeof nearest[0]);
    assert_memory_equal(cosine[0], cosine[1], sizeof cosine[0]);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cover_of_nothing),
        cmocka_unit_test(test_cover_of_one_and_of_copies),
        cmocka_unit_test(test_comparison_is_strict),
        cmocka_unit_test(test_only_representatives_are_joined),
        cmocka_unit_test(test_cover_against_the_definition),
        cmocka_unit_test(test_cover_keeps_more_than_a_tile_of_representatives),
        cmocka_unit_test(test_nearest_against_the_definition),
        cmocka_unit_test(test_nearest_of_equals_is_the_first),
        cmocka_unit_test(test_opposite_rows_still_have_a_nearest),
        cmocka_unit_test(test_survey_is_both),
        cmocka_unit_test(test_amx_is_avx512),
    };
    blas_single_threaded();
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
