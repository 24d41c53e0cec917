/* What a step costs the prototype server, from a decoded message to the message that it publishes: statistics checked
 * and multiplied, the version before kept, the M-step, the delta encoded. Sparse statistics at K = 65 536, D = 256
 * (256 embeddings with 8 components each), for which 10 ms are the target; and the M-step alone of dense ones at K =
 * 4096, against what this core moves through memory. Thread CPU time: other programs count for less. Usage:
 * bench_prototype. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "proto/stats_wire.h"
#include "server/prototype/core.h"
#include "tests/bench/bench.h"

enum { WARM = 60, ROUNDS = 40, N = 256, EACH = 8, D = 256, DENSE = 4096, STREAM = 64 << 20 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t tensor_bytes(const struct msg *m)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++)
        bytes += m->tensors[i].data->size;
    return bytes;
}

/* Random embeddings, each of EACH random components. */
static void sparse_message(uint64_t step, uint32_t K, struct msg *m)
{
    static float h[N * D], gamma[N * EACH];
    static uint32_t start[N + 1], index[N * EACH];
    struct stats_extra extra = {.loglik = 1};
    struct rng r;
    rng_open(&r, 1, RNG_JITTER, step, 0, 0);
    for (size_t i = 0; i < sizeof h / sizeof h[0]; i++)
        h[i] = (float)rng_normal(&r);
    vec_normalise_rows(h, N, D, NULL);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t at = rng_below(&r, K / EACH);
        for (uint32_t j = 0; j < EACH; j++) {
            index[i * EACH + j] = at + j * (K / EACH);
            gamma[i * EACH + j] = 1.0f / EACH;
        }
        start[i + 1] = (i + 1) * EACH;
    }
    struct responsibilities g = {N, start, index, gamma};
    msg_init(m, MSG_STATS, "bench");
    m->worker = 1;
    m->step = step;
    m->slots = 1;
    must(stats_encode(h, &g, K, D, COVARIANCE_DIAGONAL, &extra, m));
}

/* Handles m; returns the bytes of what was published. */
static uint64_t handle(struct prototype_core *core, const struct msg *m, double *took)
{
    static const struct peer peer = {.size = 1, .id = {1}};
    struct outbox out = {0};
    uint64_t published = 0;
    double from = cpu_seconds();
    must(prototype_core_on_message(core, 0, &peer, m, &out));
    *took = cpu_seconds() - from;
    for (size_t i = 0; i < out.count; i++)
        published += out.items[i].kind == OUT_PUBLISH ? tensor_bytes(&out.items[i].msg) : 0;
    if (published == 0)
        abort();
    outbox_fini(&out);
    return published;
}

static void bench_sparse(uint32_t K)
{
    char components[64];
    snprintf(components, sizeof components, "mixture.components=%u", K);
    const char *const set[] = {"run.name=bench",         "run.slots=1",   "run.slot_size=128", components,
                               "mixture.dimensions=256", "loss.block=64", "run.steps=1000",    "mixture.source=views"};
    struct run_config c;
    struct error e;
    struct prototype_core *core;
    struct prototype_core_options o = {.config = &c, .generation = 1};
    double took[ROUNDS];
    uint64_t sent = 0, published = 0;
    must(run_config_load(&c, NULL, NULL, set, sizeof set / sizeof set[0], &e));
    must(prototype_core_new(&o, &core, &e));
    for (int i = -WARM; i < ROUNDS; i++) { /* the first copies all of version 0, and usage is even for a while */
        struct msg m;
        double one;
        sparse_message((uint64_t)(i + WARM), K, &m);
        sent = tensor_bytes(&m);
        published = handle(core, &m, &one);
        took[i < 0 ? 0 : i] = one;
        msg_fini(&m);
    }
    qsort(took, ROUNDS, sizeof took[0], ascending);
    double dense = 4.0 * K * (1 + 2.0 * D);
    printf("bench=step K=%u D=%d embeddings=%d each=%d best_ms=%.2f median_ms=%.2f\n", K, D, N, EACH, took[0] * 1e3,
           took[ROUNDS / 2] * 1e3);
    printf("bench=wire K=%u D=%d stats_bytes=%llu dense/%.0f delta_bytes=%llu dense/%.0f\n", K, D,
           (unsigned long long)sent, dense / (double)sent, (unsigned long long)published, dense / (double)published);
    prototype_core_free(&core);
}

/* GB/s of y += x over arrays beyond a private cache: two reads and a write of each element. */
static double bandwidth(void)
{
    float *x = calloc(STREAM, sizeof *x), *y = calloc(STREAM, sizeof *y);
    double best = 0;
    if (!x || !y)
        abort();
    memset(x, 1, STREAM * sizeof *x);
    memset(y, 1, STREAM * sizeof *y);
    for (int i = 0; i < 8; i++) {
        double from = cpu_seconds();
        vec_add(y, x, STREAM);
        double rate = 3.0 * STREAM * sizeof *x / (cpu_seconds() - from) * 1e-9;
        best = rate > best ? rate : best;
    }
    free(x);
    free(y);
    return best;
}

static struct stats_rows dense_rows(void)
{
    struct stats_rows s;
    stats_rows_init(&s);
    s.K = DENSE;
    s.D = s.squares = D;
    must(stats_reserve_rows(&s, DENSE));
    for (uint32_t k = 0; k < DENSE; k++) {
        s.index[k] = k;
        s.n[k] = 1;
        for (uint32_t d = 0; d < D; d++) {
            s.s1[k * D + d] = 0.01f;
            s.s2[k * D + d] = 0.01f;
        }
    }
    s.count = DENSE;
    return s;
}

/* The sums are read and written in double, the step's read and the version's written in float. */
static void bench_dense(void)
{
    const struct mixture_options o = {.K = DENSE,
                                      .D = D,
                                      .covariance = COVARIANCE_DIAGONAL,
                                      .forgetting = 0.99,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 1,
                                      .usage_momentum = 0.97,
                                      .reseed_max = 1};
    struct mixture *m;
    struct stats_rows s = dense_rows();
    double best = 1e9, bytes = (double)DENSE * D * (4 * sizeof(double) + 4 * sizeof(float)), could = bandwidth();
    must(mixture_new(&o, &m));
    mixture_start(m, 1);
    for (int i = 0; i < ROUNDS; i++) {
        double from = cpu_seconds();
        must(mixture_em_step(m, &s, 1));
        double took = cpu_seconds() - from;
        best = took < best ? took : best;
    }
    printf("bench=dense K=%d D=%d ms=%.2f GB/s=%.1f memory=%.1f share=%.2f\n", DENSE, D, best * 1e3,
           bytes / best * 1e-9, could, bytes / best * 1e-9 / could);
    mixture_free(&m);
    stats_rows_fini(&s);
}

int main(int argc, char **argv)
{
    (void)argc;
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    bench_sparse(65536);
    bench_dense();
    return 0;
}
