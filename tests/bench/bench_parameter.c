/* What a step costs the parameter server: one update (AdamW, clip, teacher), and the receive path of one gradient
 * (finite check and tree addition), at the default encoder's size and at ten times that. Prints the best of several
 * rounds: the machine's noise only ever adds. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "common/vecmath.h"
#include "server/parameter/gradients.h"
#include "server/parameter/weights.h"

enum { ROUNDS = 30, SLOTS = 4 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *floats(const struct buf *b)
{
    return (float *)(void *)b->data;
}

static struct buf *filled(size_t n, float value)
{
    struct buf *b = buf_new(n * sizeof(float));
    ASSERT(b != NULL);
    for (size_t i = 0; i < n; i++)
        floats(b)[i] = value * (float)(1 + i % 13);
    return b;
}

/* One decaying matrix: how the floats are split over entries hardly matters. */
static void make_weights(struct weights *w, size_t n)
{
    struct manifest m;
    manifest_init(&m);
    struct manifest_entry e = {.name = "w", .rank = 2, .shape = {n / 8, 8}, .decay = true, .clip = true, .lr_scale = 1};
    ASSERT(manifest_add_parameter(&m, &e) == 0);
    struct optimiser o = {OPTIMISER_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 1e-4, .clip = 3};
    struct weight_vectors v = {.student = filled(n, 0.01f)};
    ASSERT(weights_init(w, &m, o, &v) == 0);
}

/* Reads gradient twice (norm, update), student, teacher, two moments; writes four vectors. */
static void bench_update(size_t n)
{
    struct weights w;
    make_weights(&w, n);
    struct buf *gradient = filled(n, 0.001f);
    double best = 1e9, norm;
    for (uint64_t t = 0; t < ROUNDS; t++) {
        struct weights_step s = {.gradient = floats(gradient), .slots = SLOTS, .step = t, .lr = 1e-3, .ema = 0.99};
        double start = seconds();
        ASSERT(weights_update(&w, &s, &norm) == 0);
        double took = seconds() - start;
        best = took < best ? took : best;
    }
    printf("update   %8zu parameters %7.3f ms %6.2f GB/s\n", n, best * 1e3, 10.0 * 4.0 * (double)n / best * 1e-9);
    buf_unref(&gradient);
    weights_fini(&w);
}

/* Mean over the slots of a step: each gradient is read once for the check and added once, but for the first of each
 * pair. */
static void bench_receive(size_t n)
{
    struct float_pool *pool;
    struct gradients *g;
    ASSERT(float_pool_new(n, &pool) == 0 && gradients_new(SLOTS, pool, NULL, &g) == 0);
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        struct gradient_sum in[SLOTS] = {0}, sum;
        for (int i = 0; i < SLOTS; i++) {
            in[i].gradient = float_pool_take(pool);
            memset(in[i].gradient->data, 0, in[i].gradient->size);
        }
        double start = seconds();
        for (uint32_t i = 0; i < SLOTS; i++) {
            ASSERT(vec_all_finite(floats(in[i].gradient), n));
            ASSERT(gradients_put(g, i, 1, &in[i]) == 0);
        }
        double took = (seconds() - start) / SLOTS;
        best = took < best ? took : best;
        gradients_take(g, &sum);
        gradient_sum_fini(&sum);
    }
    double bytes = (1.0 + 3.0 * (SLOTS - 1) / SLOTS) * 4.0 * (double)n;
    printf("receive  %8zu parameters %7.3f ms %6.2f GB/s (per gradient)\n", n, best * 1e3, bytes / best * 1e-9);
    gradients_free(&g);
    float_pool_free(&pool);
}

int main(void)
{
    static const size_t sizes[] = {367768, 4000000};
    compute_thread_init();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        bench_update(sizes[i]);
        bench_receive(sizes[i]);
    }
    return 0;
}
