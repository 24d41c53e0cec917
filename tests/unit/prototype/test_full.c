/* Whitening: against its definition, and of matrices that no data could have. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "common/rng.h"
#include "server/prototype/full.h"

enum { D = 24 };

/* |W V W^T - I| at most. */
static double off(const double *V, const float *W)
{
    double worst = 0;
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < D; j++) {
            double product = 0;
            for (size_t a = 0; a < D; a++)
                for (size_t b = 0; b < D; b++)
                    product += (double)W[i * D + a] * V[a * D + b] * (double)W[j * D + b];
            worst = fmax(worst, fabs(product - (i == j)));
        }
    return worst;
}

static void test_it_whitens(void **state)
{
    (void)state;
    struct rng r;
    double A[D * D], V[D * D], kept[D * D], log_det = 0;
    float W[D * D];
    rng_open(&r, 1, RNG_MIXTURE, 0, 0, 0);
    for (size_t i = 0; i < D * D; i++)
        A[i] = rng_normal(&r);
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < D; j++) {
            V[i * D + j] = i == j ? 0.1 : 0;
            for (size_t k = 0; k < D; k++)
                V[i * D + j] += 0.01 * A[i * D + k] * A[j * D + k];
        }
    memcpy(kept, V, sizeof V);
    double got = whitening_of(V, D, 1e-3, W);
    assert_true(off(kept, W) < 1e-5);
    for (size_t i = 0; i < D; i++) {
        log_det += log((double)W[i * D + i]);
        for (size_t j = i + 1; j < D; j++)
            assert_true(W[i * D + j] == 0);
    }
    assert_true(got == log_det);
}

/* The M-step's floor is a ridge: one embedding many times gives W = I/sqrt(floor). */
static void test_row_of_one_embedding(void **state)
{
    (void)state;
    double s1[D] = {0}, s2[D * D] = {0}, scratch[D * D];
    float mean[D], W[D * D];
    s1[3] = 5;
    s2[3 * D + 3] = 5;
    double log_det = full_row(s1, s2, 5, 1e-2, D, scratch, mean, W);
    assert_true(mean[3] == 1 && mean[0] == 0);
    for (size_t i = 0; i < D * D; i++)
        assert_true(fabs((double)W[i] - (i / D == i % D ? 10 : 0)) < 1e-5);
    assert_true(fabs(log_det - D * log(10)) < 1e-5);
}

/* Sums that were made up: far from positive definite, but finite. What comes out is a usable W all the same. */
static void test_impossible_matrices_become_possible(void **state)
{
    (void)state;
    double V[D * D];
    float W[D * D];
    for (size_t i = 0; i < D * D; i++)
        V[i] = i / D == i % D ? 1e-3 : 1;
    assert_true(isfinite(whitening_of(V, D, 1e-9, W)));
    for (size_t i = 0; i < D; i++)
        assert_true(W[i * D + i] > 0 && isfinite(W[i * D + i]));
    V[7] = INFINITY;
    assert_true(isnan(whitening_of(V, D, 1e-9, W))); /* not finite: whoever reads the file refuses it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_whitens),
        cmocka_unit_test(test_row_of_one_embedding),
        cmocka_unit_test(test_impossible_matrices_become_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
