/* The arithmetic of slots and nothing else: one thread, no server, no message; the same functions that a worker calls,
 * on the same images. What a worker achieves beside it is what leases, messages and waiting cost (tests/bench/cost.py).
 * Usage: bench_slots SECONDS [KEY=VALUE ...]. Prints images/s and the CPU time of an image. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "worker/slot.h"

enum { WARM_SLOTS = 4, STREAM = 1000 };
static const float VARIANCE =
    2e-3f; /* narrow, as after the first steps: an embedding belongs to one or two components */

struct bench {
    struct run_config config;
    struct dataset train;
    struct slot_shared *shared;
    struct slot_workspace *worker;
    struct slot_state *state;
    struct mixture_view *mixture;
    float *params, *buffers, *gradient, *contribution;
    double metrics[SLOT_METRICS];
};

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill_mixture(struct mixture_view *v)
{
    const float D = (float)v->D;
    struct rng r;
    rng_open(&r, 1, RNG_INIT, STREAM, 0, 0);
    for (size_t i = 0; i < (size_t)v->K * v->D; i++)
        v->mean[i] = (float)rng_normal(&r);
    vec_normalise_rows(v->mean, v->K, v->D, NULL);
    for (size_t i = 0; i < (size_t)v->K * (v->covariance == COVARIANCE_DIAGONAL ? v->D : 1); i++)
        v->variance[i] = VARIANCE;
    for (uint32_t k = 0; k < v->K; k++) {
        v->weight[k] = 1 / (float)v->K;
        v->log_const[k] = -logf((float)v->K) - 0.5f * (D * logf(VARIANCE) + 1 / VARIANCE); /* |mu| = 1 */
    }
    v->beta = 1;
}

static int bench_open(struct bench *b, const char *const *assignments, size_t n, struct error *e)
{
    struct run_config *c = &b->config;
    int rc = run_config_load(c, NULL, NULL, assignments, n, e);
    const struct dataset_options o = dataset_options_of(c);
    if (rc == 0)
        rc = dataset_load(&o, DATASET_TRAIN, &b->train, e);
    if (rc == 0)
        rc = slot_shared_new(c, &b->train, &b->shared, e);
    if (rc == 0)
        rc = slot_workspace_new(b->shared, &b->worker, e);
    if (rc != 0)
        return rc;
    const struct manifest *m = slot_manifest(b->shared);
    b->params = calloc(m->parameter_floats, sizeof(float));
    b->gradient = calloc(m->parameter_floats, sizeof(float));
    b->buffers = calloc(m->buffer_floats, sizeof(float));
    b->contribution = calloc(m->buffer_floats, sizeof(float));
    rc = mixture_view_new((uint32_t)c->mixture.components, (uint32_t)c->mixture.dimensions,
                          (enum covariance)c->mixture.covariance, &b->mixture);
    if (rc != 0 || slot_state_new(b->shared, &b->state) != 0 || !b->params || !b->gradient || !b->buffers ||
        !b->contribution)
        return error_set(e, ERR_MEMORY, "no memory");
    slot_initial(b->shared, b->params, b->buffers);
    fill_mixture(b->mixture);
    return 0;
}

static void bench_close(struct bench *b)
{
    free(b->params);
    free(b->gradient);
    free(b->buffers);
    free(b->contribution);
    mixture_view_free(&b->mixture);
    slot_state_free(&b->state);
    slot_workspace_free(&b->worker);
    slot_shared_free(&b->shared);
    dataset_fini(&b->train);
}

static void slot(struct bench *b, uint64_t step, uint32_t number)
{
    struct slot_weights weights = {b->params, b->params, b->buffers};
    struct msg stats;
    msg_init(&stats, MSG_STATS, "bench");
    b->mixture->version = step; /* every step has a mixture of its own, whose operands are built again */
    if (slot_part_a(b->worker, step, number, &weights, b->mixture, b->state, &stats) != 0)
        abort();
    if (slot_part_b(b->worker, b->state, &weights, b->mixture, b->gradient, b->contribution, b->metrics) != 0)
        abort();
    msg_fini(&stats);
}

static void measure(struct bench *b, double seconds)
{
    uint32_t slots = (uint32_t)b->config.run.slots, done = 0;
    for (; done < WARM_SLOTS; done++)
        slot(b, done / slots, done % slots);
    double begin = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (; seconds_of(CLOCK_MONOTONIC) - begin < seconds; done++)
        slot(b, done / slots, done % slots);
    double images = (double)(done - WARM_SLOTS) * (double)b->config.run.slot_size;
    printf("bench=slots images_per_s=%.1f cpu_us=%.1f\n", images / (seconds_of(CLOCK_MONOTONIC) - begin),
           1e6 * (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) / images);
}

int main(int argc, char **argv)
{
    static struct bench b; /* the configuration is several KiB */
    struct error e = {0};
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 0;
    if (seconds <= 0) {
        fputs("usage: bench_slots SECONDS [KEY=VALUE ...]\n", stderr);
        return 2;
    }
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    if (bench_open(&b, (const char *const *)argv + 2, (size_t)argc - 2, &e) != 0) {
        fprintf(stderr, "bench_slots: %s\n", e.text);
        return 1;
    }
    measure(&b, seconds);
    bench_close(&b);
    return 0;
}
