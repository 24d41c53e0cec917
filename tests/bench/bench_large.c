/* What K = 65 536 prototypes in 256 dimensions cost a worker besides its network: a new version taken over, the
 * E-step with its novelty search, and the loss, for a slot of 96 images with the keys of
 * deploy/configs/fashion-mnist.ini. Embeddings lie about prototypes as after the first steps of a run, one in eight
 * elsewhere; one prototype in 128 moves from version to version. Microseconds of the thread's CPU time an image, the
 * best and the median of ROUNDS. Usage: bench_large [ROUNDS]. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "tests/bench/bench.h"
#include "worker/estep.h"
#include "worker/loss/loss.h"

enum {
    K = 65536,
    D = 256,
    IMAGES = 96,
    VIEWS = 2 * IMAGES,
    BLOCK = 256,
    ROUNDS_MAX = 1000,
    MOVED = 128,
    STREAM = 1000
};
static const float VARIANCE = 2e-3f, SPREAD = 0.02f;

struct bench {
    struct mixture_view *mixture;
    struct estep *estep;
    struct loss_workspace *loss;
    struct loss_options options;
    uint32_t *order;
    float *h, *z_student, *z_teacher, *dz;
};

struct times {
    double taken[ROUNDS_MAX];
};

static void *take(size_t n)
{
    void *p = calloc(n, sizeof(float));
    if (p == NULL)
        abort();
    return p;
}

static void fill(float *x, size_t n, uint64_t stream)
{
    struct rng r;
    rng_open(&r, 1, RNG_INIT, STREAM, stream, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r);
}

static void fill_mixture(struct mixture_view *v)
{
    fill(v->mean, (size_t)K * D, 0);
    vec_normalise_rows(v->mean, K, D, NULL);
    for (size_t i = 0; i < (size_t)K * D; i++)
        v->variance[i] = VARIANCE;
    for (uint32_t k = 0; k < K; k++) {
        v->weight[k] = 1.0f / K;
        v->log_const[k] = -logf(K) - 0.5f * (D * logf(VARIANCE) + 1 / VARIANCE); /* |mu| = 1 */
    }
    v->beta = 1;
    must(mixture_view_keep_moved(v));
}

/* Rows about prototypes, drawn at random. */
static void embed(const struct mixture_view *v, uint32_t rows, uint64_t stream, float *out)
{
    struct rng r;
    rng_open(&r, 1, RNG_INIT, STREAM, stream, 1);
    fill(out, (size_t)rows * D, stream);
    for (uint32_t i = 0; i < rows; i++) {
        const float *mean = v->mean + (size_t)rng_below(&r, K) * D;
        for (uint32_t d = 0; d < D && i % 8 != 7; d++)
            out[i * D + d] = mean[d] + SPREAD * out[i * D + d];
    }
    vec_normalise_rows(out, rows, D, NULL);
}

static void bench_open(struct bench *b)
{
    const struct estep_options e = {
        .drop = 1e-6f, .novel_max = IMAGES, .novel_distance = 0.09f, .choice = RESEED_RANDOM};
    b->options = (struct loss_options){.objective = LOSS_CARP,
                                       .b = IMAGES,
                                       .K = K,
                                       .D = D,
                                       .block = BLOCK,
                                       .tau_s = 0.1f,
                                       .tau_t = 0.1f,
                                       .entropy_weight = 3,
                                       .normalise = 1,
                                       .coding_rate = 1,
                                       .coding_rate_epsilon = 0.5f};
    must(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &b->mixture));
    fill_mixture(b->mixture);
    must(estep_new(IMAGES, K, D, e, &b->estep));
    must(loss_workspace_new(&b->options, &b->loss));
    b->order = take(K);
    b->h = take((size_t)IMAGES * D);
    b->z_student = take((size_t)VIEWS * D);
    b->z_teacher = take((size_t)VIEWS * D);
    b->dz = take((size_t)VIEWS * D);
}

static void bench_close(struct bench *b)
{
    mixture_view_free(&b->mixture);
    estep_free(&b->estep);
    loss_workspace_free(&b->loss);
    free(b->order);
    free(b->h);
    free(b->z_student);
    free(b->z_teacher);
    free(b->dz);
}

/* The version after: what moved, and inputs of its own. */
static void next(struct bench *b, uint64_t version)
{
    struct rng r;
    rng_open(&r, 1, RNG_BLOCKS, version, 0, 0);
    for (uint32_t k = 0; k < K; k++)
        b->order[k] = k;
    rng_shuffle(&r, b->order, K);
    b->mixture->version = version;
    for (uint32_t i = 0; i < K / MOVED; i++)
        b->mixture->moved[b->order[i]] = version;
    embed(b->mixture, IMAGES, 3 * version + 1, b->h);
    embed(b->mixture, VIEWS, 3 * version + 2, b->z_teacher);
    embed(b->mixture, VIEWS, 3 * version + 3, b->z_student);
}

static void once(struct bench *b, double took[3])
{
    struct estep_result result;
    struct loss_result loss;
    double mark[4] = {cpu_seconds()};
    estep_use(b->estep, b->mixture);
    mark[1] = cpu_seconds();
    estep_run(b->estep, b->h, IMAGES, &result);
    mark[2] = cpu_seconds();
    loss_decoupled(&b->options, b->z_student, b->z_teacher, estep_prototypes(b->estep), b->order, NULL, b->loss, &loss,
                   b->dz);
    mark[3] = cpu_seconds();
    for (int i = 0; i < 3; i++)
        took[i] = mark[i + 1] - mark[i];
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"version", "estep", "loss"};
    static struct times t[3];
    struct bench b;
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 10;
    if (rounds == 0 || rounds > ROUNDS_MAX) {
        fputs("usage: bench_large [ROUNDS]\n", stderr);
        return 2;
    }
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    bench_open(&b);
    for (uint64_t i = 0; i <= rounds; i++) { /* the first packs everything */
        double took[3];
        next(&b, i + 1);
        once(&b, took);
        for (int part = 0; part < 3 && i > 0; part++)
            t[part].taken[i - 1] = took[part];
    }
    printf("bench=large K=%d D=%d images=%d", K, D, IMAGES);
    for (int part = 0; part < 3; part++) {
        qsort(t[part].taken, rounds, sizeof(double), ascending);
        printf(" %s_us=%.0f/%.0f", names[part], 1e6 * t[part].taken[0] / IMAGES,
               1e6 * t[part].taken[rounds / 2] / IMAGES);
    }
    puts("");
    bench_close(&b);
    return 0;
}
