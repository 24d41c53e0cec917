/* How long diagnostics hold up the prototype server at K = 65 536, D = 256, and what a pass costs. The real core
 * takes steps of 256 embeddings with 8 components each, or of ones that move every prototype, as the first steps of a
 * run do; after each step, and between them, the loop has the real runner copy a piece. Time of those turns on the
 * loop's thread (CPU time: other programs count for less), the M-steps' beside it, and the CPU time of the pass on
 * the other thread. Usage: bench_diagnostics [PASSES]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "server/prototype/core.h"
#include "server/prototype/diagnostics_runner.h"

enum { K = 65536, D = 256, N = 256, EACH = 8, TURNS_MAX = 1 << 20, STEP_EVERY = 50 };

struct bench {
    uv_loop_t loop;
    struct run_config config;
    struct prototype_core *core;
    struct diagnostics_runner runner;
    uint64_t step;
    bool dense; /* every step moves every row */
    int passes;
    double *turns; /* seconds of each in which the runner was asked */
    size_t turn_count;
    double m_step_most;
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(int rc)
{
    if (rc != 0)
        abort();
}

/* Embeddings of EACH random components, or of K/N consecutive ones, which are all. */
static void message(const struct bench *b, struct msg *m)
{
    uint32_t each = b->dense ? K / N : EACH;
    float *h = calloc((size_t)N * D, sizeof *h), *gamma = calloc((size_t)N * each, sizeof *gamma);
    uint32_t *index = calloc((size_t)N * each, sizeof *index), start[N + 1] = {0};
    struct stats_extra extra = {.loglik = 1};
    struct rng r;
    if (!h || !gamma || !index)
        abort();
    rng_open(&r, 1, RNG_JITTER, b->step, 0, 0);
    for (size_t i = 0; i < (size_t)N * D; i++)
        h[i] = (float)rng_normal(&r);
    vec_normalise_rows(h, N, D, NULL);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t at = b->dense ? i * each : rng_below(&r, K / EACH), stride = b->dense ? 1 : K / EACH;
        for (uint32_t j = 0; j < each; j++) {
            index[i * each + j] = at + j * stride;
            gamma[i * each + j] = 1.0f / (float)each;
        }
        start[i + 1] = (i + 1) * each;
    }
    struct responsibilities g = {N, start, index, gamma};
    msg_init(m, MSG_STATS, "bench");
    m->worker = 1;
    m->step = b->step;
    m->slots = 1;
    must(stats_encode(h, &g, K, D, COVARIANCE_DIAGONAL, &extra, m));
    free(h);
    free(gamma);
    free(index);
}

/* A turn's part that diagnostics take. */
static void poll_runner(void *arg)
{
    struct bench *b = arg;
    double from = seconds(CLOCK_THREAD_CPUTIME_ID);
    must(diagnostics_runner_poll(&b->runner, prototype_core_mixture(b->core), prototype_core_active_window(b->core)));
    if (b->turn_count < TURNS_MAX)
        b->turns[b->turn_count++] = seconds(CLOCK_THREAD_CPUTIME_ID) - from;
}

static void on_result(void *arg, struct diagnostics *d)
{
    struct bench *b = arg;
    struct outbox out = {0};
    if (d == NULL)
        abort();
    must(prototype_core_on_diagnostics(b->core, d, &out));
    outbox_fini(&out);
    diagnostics_free(&d);
    b->passes++;
}

static void take_step(struct bench *b)
{
    static const struct peer peer = {.size = 1, .id = {1}};
    struct outbox out = {0};
    struct msg m;
    message(b, &m);
    double from = seconds(CLOCK_THREAD_CPUTIME_ID);
    must(prototype_core_on_message(b->core, 0, &peer, &m, &out));
    double took = seconds(CLOCK_THREAD_CPUTIME_ID) - from;
    b->m_step_most = took > b->m_step_most ? took : b->m_step_most;
    outbox_fini(&out);
    msg_fini(&m);
    b->step++;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Steps go on until `passes` more have ended; each is wanted at once. */
static void measure(struct bench *b, bool dense, int passes)
{
    int until = b->passes + passes;
    double process = seconds(CLOCK_PROCESS_CPUTIME_ID), loop = seconds(CLOCK_THREAD_CPUTIME_ID);
    double wall = seconds(CLOCK_MONOTONIC);
    b->dense = dense;
    b->turn_count = 0;
    b->m_step_most = 0;
    for (uint64_t turn = 0; b->passes < until; turn++) {
        b->runner.wanted = true;
        b->runner.rest_until_ms = 0;
        if (turn % STEP_EVERY == 0 && !(dense && b->runner.busy)) {
            take_step(b);
            poll_runner(b);
        }
        uv_run(&b->loop, b->runner.busy ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    }
    process = seconds(CLOCK_PROCESS_CPUTIME_ID) - process - (seconds(CLOCK_THREAD_CPUTIME_ID) - loop);
    qsort(b->turns, b->turn_count, sizeof *b->turns, ascending);
    printf("bench=diagnostics K=%d D=%d rows_moved=%s turns=%zu longest_ms=%.2f p99_ms=%.2f m_step_longest_ms=%.1f "
           "pass_cpu_s=%.1f pass_wall_s=%.1f\n",
           K, D, dense ? "all" : "few", b->turn_count, 1e3 * b->turns[b->turn_count - 1],
           1e3 * b->turns[b->turn_count * 99 / 100], 1e3 * b->m_step_most, process / passes,
           (seconds(CLOCK_MONOTONIC) - wall) / passes);
}

int main(int argc, char **argv)
{
    static struct bench b; /* the configuration is several KiB */
    const char *const set[] = {
        "run.name=bench",         "run.slots=1",   "run.slot_size=128", "mixture.components=65536",
        "mixture.dimensions=256", "loss.block=64", "run.steps=1000000", "mixture.source=views"};
    struct error e;
    int passes = argc > 1 ? atoi(argv[1]) : 2;
    struct prototype_core_options o = {.config = &b.config, .generation = 1};
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    must(run_config_load(&b.config, NULL, NULL, set, sizeof set / sizeof set[0], &e));
    must(prototype_core_new(&o, &b.core, &e));
    must(uv_loop_init(&b.loop));
    b.turns = calloc(TURNS_MAX, sizeof *b.turns);
    b.runner = (struct diagnostics_runner){.loop = &b.loop, .on_result = on_result, .again = poll_runner, .arg = &b};
    if (b.turns == NULL || passes < 1)
        return 2;
    measure(&b, true, passes);
    measure(&b, false, passes);
    while (b.runner.busy)
        uv_run(&b.loop, UV_RUN_ONCE);
    diagnostics_runner_end(&b.runner, 0);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    diagnostics_runner_fini(&b.runner);
    must(uv_loop_close(&b.loop));
    prototype_core_free(&b.core);
    free(b.turns);
    return 0;
}
