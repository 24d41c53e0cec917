/* Sums of products against a slow double loop, and effective ranks that can be said in the head. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/gram.h"
#include "common/blas.h"
#include "common/rng.h"

static void test_against_loops(void **state)
{
    (void)state;
    enum { N = 50, F = 131 }; /* more than two tiles, ragged */
    double *x = malloc(sizeof(double) * N * F), *one = malloc(sizeof(double) * F * F);
    double *three = malloc(sizeof(double) * F * F), mean[F];
    struct rng r;
    rng_open(&r, 1, RNG_INIT, 0, 0, 0);
    for (int i = 0; i < N * F; i++)
        x[i] = rng_normal(&r) + 2;
    for (int f = 0; f < F; f++) {
        mean[f] = 0;
        for (int i = 0; i < N; i++)
            mean[f] += x[i * F + f] / N;
    }
    gram_centred(x, N, F, mean, 1, (struct gram_progress){NULL, 0}, one);
    gram_centred(x, N, F, mean, 3, (struct gram_progress){NULL, 0}, three);
    for (int a = 0; a < F; a++)
        for (int b = a; b < F; b++) {
            double want = 0;
            for (int i = 0; i < N; i++)
                want += (x[i * F + a] - mean[a]) * (x[i * F + b] - mean[b]);
            assert_true(fabs(one[a * F + b] - want) < 1e-10);
            assert_true(one[a * F + b] == three[a * F + b]);
        }
    free(x);
    free(one);
    free(three);
}

static double rank_of(const float *x, uint32_t n, uint32_t F)
{
    double rank = -1;
    assert_int_equal(gram_effective_rank(x, n, F, 2, &rank), 0);
    return rank;
}

static void test_ranks_by_hand(void **state)
{
    (void)state;
    const float same[6] = {1, 2, 3, 1, 2, 3}, line[6] = {1, 2, 3, 2, 4, 6};
    assert_true(fabs(rank_of(same, 2, 3) - 1) < 1e-9); /* nothing varies */
    assert_true(fabs(rank_of(line, 2, 3) - 1) < 1e-9);
    const float cross[8] = {11, 5, 9, 5, 10, 6, 10, 4}; /* +-1 along either axis, about (10, 5) */
    assert_true(fabs(rank_of(cross, 4, 2) - 2) < 1e-9);
    const float flat[8] = {3, 0, -3, 0, 0, 1, 0, -1}; /* variances 9 and 1 */
    assert_true(fabs(rank_of(flat, 4, 2) - exp(-0.9 * log(0.9) - 0.1 * log(0.1))) < 1e-9);
}

/* The first of three tiles is more than a third of a triangle, of which the meter's stage is twice as much. */
static void test_progress(void **state)
{
    enum { ROWS = 2, WIDTH = 130 };
    static double x[ROWS * WIDTH], mean[WIDTH], out[WIDTH * WIDTH];
    struct evaluation_meter m;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    (void)state;
    assert_non_null(f);
    evaluation_meter_init(&m, "evaluating", f, true);
    evaluation_meter_stage(&m, "pixels", "ridge");
    m.shown -= 1; /* as if that had been a second ago: the next word is shown */
    gram_centred(x, ROWS, WIDTH, mean, 1, (struct gram_progress){&m, 0.5}, out);
    fclose(f);
    assert_non_null(strstr(text, "pixels: ridge  37 %"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_ranks_by_hand),
        cmocka_unit_test(test_against_loops),
    };
    blas_single_threaded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
