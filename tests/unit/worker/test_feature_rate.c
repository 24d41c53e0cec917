/* The coding rate of features: its value against elimination by plain loops in double, its gradient against central
 * finite differences of that, with more rows than dimensions and with fewer. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/rng.h"
#include "worker/loss/feature_rate.h"

enum { ROWS_MAX = 14, F_MAX = 20 };
static const double VALUE = sizeof(real) == sizeof(double) ? 1e-12 : 1e-6,
                    GRADIENT = sizeof(real) == sizeof(double) ? 1e-7 : 1e-4; /* relative tolerances */

/* Features as an encoder makes them: not of unit length, and with a mean that is not 0. */
static void fill(double *x, size_t n)
{
    struct rng r;
    rng_open(&r, 9, RNG_INIT, 3000, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = 0.7 + 2 * rng_normal(&r);
}

/* log det of a symmetric positive definite matrix (n,n), which is destroyed. */
static double log_det(double *a, size_t n)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++) {
        sum += log(a[k * n + k]);
        for (size_t i = k + 1; i < n; i++)
            for (size_t j = k + 1; j < n; j++)
                a[i * n + j] -= a[i * n + k] * a[k * n + j] / a[k * n + k];
    }
    return sum;
}

/* (p + m)/(p m) log det(I + p/(m epsilon) U^T U), U the rows at unit length. */
static double want(const double *x, size_t m, size_t p, double epsilon)
{
    double *a = calloc(p * p, sizeof *a);
    for (size_t i = 0; i < p; i++)
        a[i * p + i] = 1;
    for (size_t r = 0; r < m; r++) {
        double squares = 0;
        for (size_t i = 0; i < p; i++)
            squares += x[r * p + i] * x[r * p + i];
        for (size_t i = 0; i < p; i++)
            for (size_t j = 0; j < p; j++)
                a[i * p + j] += (double)p / ((double)m * epsilon) * x[r * p + i] * x[r * p + j] / squares;
    }
    double result = (double)(p + m) / (double)(p * m) * log_det(a, p);
    free(a);
    return result;
}

static void check(size_t m, size_t p, double weight, double epsilon)
{
    double x[ROWS_MAX * F_MAX];
    real features[ROWS_MAX * F_MAX], d[ROWS_MAX * F_MAX];
    struct feature_rate *f;
    const double step = 1e-5;
    fill(x, m * p);
    for (size_t i = 0; i < m * p; i++) {
        features[i] = (real)x[i];
        d[i] = (real)NAN; /* every element must be written */
    }
    assert_int_equal(feature_rate_new(m, p, (real)weight, (real)epsilon, &f), 0);
    double rate = feature_rate_of(f, features, d), scale = 0;
    assert_true(fabs(rate - want(x, m, p, epsilon)) < VALUE * rate);
    for (size_t i = 0; i < m * p; i++)
        scale = fmax(scale, fabs((double)d[i]));
    for (size_t i = 0; i < m * p; i++) {
        double kept = x[i];
        x[i] = kept + step;
        double above = want(x, m, p, epsilon);
        x[i] = kept - step;
        double slope = -weight * (above - want(x, m, p, epsilon)) / (2 * step);
        x[i] = kept;
        if (!(fabs(slope - (double)d[i]) <= GRADIENT * scale))
            fail_msg("(%zu,%zu)[%zu]: %.12g, finite differences %.12g", m, p, i, (double)d[i], slope);
    }
    feature_rate_free(&f);
}

static void test_value_and_gradient(void **state)
{
    (void)state;
    check(14, 6, 0.1, 0.5);
    check(8, 20, 0.1, 0.5);
    check(2, 3, 3, 0.01);
}

/* Features that are not finite: so is the rate, which the parameter server then refuses. */
static void test_not_finite(void **state)
{
    (void)state;
    real x[2 * 3] = {1, 2, (real)NAN, 4, 5, 6}, d[2 * 3];
    struct feature_rate *f;
    assert_int_equal(feature_rate_new(2, 3, 1, REAL(0.5), &f), 0);
    assert_true(isnan(feature_rate_of(f, x, d)));
    feature_rate_free(&f);
}

/* A row of zeros has no direction: it adds nothing, and asks for nothing. */
static void test_row_of_zeros(void **state)
{
    (void)state;
    real x[2 * 3] = {0, 0, 0, 4, 5, 6}, d[2 * 3];
    struct feature_rate *f;
    assert_int_equal(feature_rate_new(2, 3, 1, REAL(0.5), &f), 0);
    assert_true(fabs(feature_rate_of(f, x, d) - 5.0 / 6 * log(1 + 3.0 / (2 * 0.5))) < VALUE);
    assert_true(d[0] == 0 && d[1] == 0 && d[2] == 0);
    feature_rate_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_value_and_gradient), cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_row_of_zeros)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
