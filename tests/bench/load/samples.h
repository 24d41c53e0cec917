/* Durations that were measured, and their quantiles. */
#ifndef DECANT_TESTS_BENCH_LOAD_SAMPLES_H
#define DECANT_TESTS_BENCH_LOAD_SAMPLES_H

#include <stddef.h>

struct samples {
    double *values;
    size_t count, room;
};
void samples_add(struct samples *s, double value);
/* q in [0, 1]; sorts. 0 when there are none. */
double samples_quantile(struct samples *s, double q);
void samples_fini(struct samples *s);

#endif
