/* What the tests of worker/nn share: random arrays and one comparison. The same tests are compiled with double reals in
 * tests/unit/f64, where the tolerance is that of double. */
#ifndef DECANT_TESTS_UNIT_WORKER_NN_SUPPORT_H
#define DECANT_TESTS_UNIT_WORKER_NN_SUPPORT_H

#include <setjmp.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/rng.h"
#include "worker/nn/real.h"

/* Sums of up to a thousand products of magnitude one, relative to the largest result. */
static const double NN_TOLERANCE = sizeof(real) == sizeof(double) ? 1e-12 : 5e-6;

static inline void *nn_take(size_t n)
{
    void *p = calloc(n ? n : 1, sizeof(real));
    assert_non_null(p);
    return p;
}

static inline double *nn_zeros(size_t n)
{
    double *p = calloc(n ? n : 1, sizeof *p);
    assert_non_null(p);
    return p;
}

#define NN_FREE(...)                                                                                                   \
    do {                                                                                                               \
        void *all_[] = {__VA_ARGS__};                                                                                  \
        for (size_t i_ = 0; i_ < sizeof all_ / sizeof all_[0]; i_++)                                                   \
            free(all_[i_]);                                                                                            \
    } while (0)

static inline real *nn_random(uint64_t seed, size_t n)
{
    struct rng r;
    real *x = nn_take(n);
    rng_open(&r, seed, RNG_INIT, 0, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (real)rng_normal(&r);
    return x;
}

/* Largest difference relative to the largest magnitude expected. */
static inline void nn_assert_close(const char *what, const real *got, const double *want, size_t n)
{
    double scale = 1e-30, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)got[i] - want[i]);
        scale = fmax(scale, fabs(want[i]));
        if (!(difference <= worst)) {
            worst = difference;
            at = i;
        }
    }
    if (!(worst <= NN_TOLERANCE * scale))
        fail_msg("%s[%zu] = %.9g, expected %.9g, scale %g", what, at, (double)got[at], want[at], scale);
}

#endif
