/* What bench_mixture.c and bench_shortcuts.c share: the rows and means that bench_mixture.py writes, and the mixture
 * that begins with them. */
#ifndef DECANT_TESTS_BENCH_BENCH_MIXTURE_H
#define DECANT_TESTS_BENCH_BENCH_MIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include "server/prototype/mixture.h"
#include "tests/bench/bench.h"

enum { SLOT = 1024 };

static inline float *read_floats(const char *path, size_t n)
{
    float *x = malloc(n * sizeof *x);
    FILE *f = fopen(path, "rb");
    if (x == NULL || f == NULL || fread(x, sizeof *x, n, f) != n) {
        fprintf(stderr, "%s does not have %zu floats\n", path, n);
        exit(1);
    }
    fclose(f);
    return x;
}

/* Variances 1/D, weights 1/K, around means (K,D); its statistics weigh nothing: what comes out is the step's alone,
 * as in batch EM. */
static inline struct mixture *mixture_around(const float *means, uint32_t K, uint32_t D)
{
    const struct mixture_options o = {.K = K,
                                      .D = D,
                                      .covariance = COVARIANCE_DIAGONAL,
                                      .forgetting = 0.01,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 1e-6,
                                      .usage_momentum = 0.97,
                                      .reseed_max = 1};
    size_t n = (size_t)K * D;
    double *centres = malloc(n * sizeof *centres);
    struct mixture *m;
    must(centres ? mixture_new(&o, &m) : ERR_MEMORY);
    for (size_t i = 0; i < n; i++)
        centres[i] = (double)means[i];
    mixture_start_from(m, centres);
    free(centres);
    return m;
}

#endif
