/* What k-means++ costs the prototype server (mixture.init = kmeans++): of each setting the steps that choose seeds, the
 * longest and mean time of one, and the rate. Rows are random directions. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "server/prototype/seeding.h"

enum { STEPS_MAX = 8 }; /* of a setting: of large ones the first */

/* Of this thread: other programs count for less than by the clock on the wall. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void measure(uint32_t K, uint32_t D, uint32_t N)
{
    const uint64_t work = UINT64_C(1) << 29,
                   row_work = (uint64_t)N * D; /* proto/run_config.c: run_config_init_rounds */
    const struct seeding_options o = {.N = N, .rounds = (uint32_t)(work / row_work), .seed = 1};
    struct seeding *s;
    float *row = calloc(D, sizeof *row);
    struct rng r;
    if (row == NULL || seeding_new(&o, K, D, &s) != 0)
        abort();
    rng_open(&r, 1, RNG_JITTER, 0, 0, 0);
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t d = 0; d < D; d++)
            row[d] = rng_uniform(&r) - 0.5f;
        vec_normalise_rows(row, 1, D, NULL);
        seeding_gather(s, row, 1);
    }
    double total = 0, longest = 0;
    int steps = 0;
    for (bool done = false; !done && steps < STEPS_MAX; steps++) {
        double begin = now();
        done = seeding_choose(s);
        double took = now() - begin;
        total += took;
        longest = took > longest ? took : longest;
    }
    printf("K %6u  D %4u  N %7u: %4u steps, %.0f ms each (longest %.0f), %.1f G multiply-adds/s\n", K, D, N,
           (K + o.rounds - 1) / o.rounds, 1e3 * total / steps, 1e3 * longest,
           1e-9 * s->chosen * (double)row_work / total);
    seeding_free(&s);
    free(row);
}

int main(void)
{
    compute_thread_init();
    measure(1024, 128, 4096);
    measure(1024, 128, 16384);
    measure(4096, 128, 16384);
    measure(65536, 128, 262144);
    measure(65536, 256, 131072);
    return 0;
}
