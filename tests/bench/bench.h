/* What benchmarks in C share: a clock, and what ends them. */
#ifndef DECANT_TESTS_BENCH_BENCH_H
#define DECANT_TESTS_BENCH_BENCH_H

#include <stdlib.h>
#include <time.h>

static inline void must(int rc)
{
    if (rc != 0)
        abort();
}

/* Of this thread: other programs count for less than by the clock on the wall. */
static inline double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
