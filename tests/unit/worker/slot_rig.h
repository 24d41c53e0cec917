/* A small run for tests of slots: configuration, images, weights and a mixture, and what a slot of it gives. */
#ifndef DECANT_TESTS_UNIT_WORKER_SLOT_RIG_H
#define DECANT_TESTS_UNIT_WORKER_SLOT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "worker/slot.h"

enum { IMAGES = 70, SIDE = 16, B = 4, SLOTS = 4, K = 16, D = 8 };

struct bench {
    struct run_config config;
    struct dataset train;
    struct slot_shared *shared;
    struct mixture_view *mixture;
    float *student, *teacher, *buffers;
};

/* What a slot gives. */
struct outcome {
    struct msg stats;
    float *grad, *buffers;
    double metrics[SLOT_METRICS];
};

static const char *const common_keys[] = {"run.slot_size=4",      "run.slots=4",         "encoder.widths=8,16",
                                          "encoder.groups=4",     "head.hidden=16",      "mixture.components=16",
                                          "mixture.dimensions=8", "loss.block=8",        "mixture.reseed_distance=0",
                                          "run.steps=20",         "encoder.layers=10",   "encoder.width=4",
                                          "mixture.source=views", "loss.mean_entropy=0", "loss.coding_rate=0",
                                          "loss.feature_rate=0"};
enum { COMMON = sizeof common_keys / sizeof common_keys[0] };

enum { MORE_KEYS = 8 };
/* The common keys, and n <= MORE_KEYS of others. */
static inline void load_keys(struct run_config *c, const char *const *more, size_t n)
{
    const char *keys[COMMON + MORE_KEYS];
    struct error e = {0};
    assert_true(n <= MORE_KEYS);
    memcpy(keys, common_keys, sizeof common_keys);
    for (size_t i = 0; i < n; i++)
        keys[COMMON + i] = more[i];
    if (run_config_load(c, NULL, NULL, keys, COMMON + n, &e) != 0)
        fail_msg("%s", e.text);
}

static inline void load_config(struct run_config *c, const char *a, const char *b)
{
    load_keys(c, (const char *[]){a, b}, (a != NULL) + (b != NULL));
}

static inline void make_mixture(struct bench *t, uint64_t version)
{
    struct rng r;
    if (t->mixture == NULL)
        assert_int_equal(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &t->mixture), 0);
    rng_open(&r, 3, RNG_MIXTURE, version, 0, 0);
    for (int i = 0; i < K * D; i++) {
        t->mixture->mean[i] = (float)rng_normal(&r);
        t->mixture->variance[i] = 1.f / D;
    }
    vec_normalise_rows(t->mixture->mean, K, D, NULL);
    for (int k = 0; k < K; k++) {
        t->mixture->weight[k] = 1.f / K;
        t->mixture->log_const[k] = 1;
    }
    t->mixture->version = version;
    t->mixture->beta = 0.7;
}

/* The rest of a bench whose configuration is loaded. */
static inline void open_loaded(struct bench *t, uint32_t side, uint32_t channels)
{
    uint32_t bytes = IMAGES * side * side * channels;
    struct error e = {0};
    struct rng r;
    t->train = (struct dataset){.count = IMAGES, .height = side, .width = side, .channels = channels};
    t->train.images = malloc(bytes);
    rng_open(&r, 1, RNG_JITTER, 0, 0, 0);
    for (uint32_t i = 0; i < bytes; i++)
        t->train.images[i] = (uint8_t)rng_u32(&r);
    if (slot_shared_new(&t->config, &t->train, &t->shared, &e) != 0)
        fail_msg("%s", e.text);
    size_t P = slot_manifest(t->shared)->parameter_floats, Q = slot_manifest(t->shared)->buffer_floats;
    t->student = calloc(P, sizeof(float));
    t->teacher = calloc(P, sizeof(float));
    t->buffers = calloc(Q, sizeof(float));
    slot_initial(t->shared, t->student, t->buffers);
    for (size_t i = 0; i < P; i++)
        t->teacher[i] = t->student[i] * 0.9f;
    make_mixture(t, 0);
}

static inline void open_bench_of(struct bench *t, uint32_t side, uint32_t channels, const char *a, const char *b)
{
    memset(t, 0, sizeof *t);
    load_config(&t->config, a, b);
    open_loaded(t, side, channels);
}

static inline void open_bench(struct bench *t, const char *a, const char *b)
{
    open_bench_of(t, SIDE, 1, a, b);
}

static inline void close_bench(struct bench *t)
{
    slot_shared_free(&t->shared);
    assert_null(t->shared);
    mixture_view_free(&t->mixture);
    dataset_fini(&t->train);
    free(t->student);
    free(t->teacher);
    free(t->buffers);
}

static inline struct slot_workspace *new_worker(const struct bench *t)
{
    struct slot_workspace *w;
    struct error e = {0};
    assert_int_equal(slot_workspace_new(t->shared, &w, &e), 0);
    return w;
}

static inline struct slot_state *new_state(const struct bench *t)
{
    struct slot_state *st;
    assert_int_equal(slot_state_new(t->shared, &st), 0);
    return st;
}

static inline void outcome_fini(struct outcome *o)
{
    msg_fini(&o->stats);
    free(o->grad);
    free(o->buffers);
}

static inline struct slot_weights weights(const struct bench *t)
{
    return (struct slot_weights){t->student, t->teacher, t->buffers};
}

static inline bool joint(const struct bench *t)
{
    return t->config.loss.prototypes == PROTOTYPES_JOINT;
}

static inline void part_a(const struct bench *t, struct slot_workspace *w, uint64_t step, uint32_t slot,
                          struct slot_state *st, struct outcome *o)
{
    struct slot_weights x = weights(t);
    memset(o, 0, sizeof *o);
    msg_init(&o->stats, MSG_STATS, "r");
    assert_int_equal(slot_part_a(w, step, slot, &x, joint(t) ? NULL : t->mixture, st, joint(t) ? NULL : &o->stats), 0);
}

static inline void part_b(const struct bench *t, struct slot_workspace *w, const struct slot_state *st,
                          struct outcome *o)
{
    struct slot_weights x = weights(t);
    o->grad = calloc(slot_manifest(t->shared)->parameter_floats, sizeof(float));
    o->buffers = calloc(slot_manifest(t->shared)->buffer_floats, sizeof(float));
    assert_int_equal(slot_part_b(w, st, &x, joint(t) ? NULL : t->mixture, o->grad, o->buffers, o->metrics), 0);
}

static inline void compute(const struct bench *t, struct slot_workspace *w, uint64_t step, uint32_t slot,
                           struct outcome *o)
{
    struct slot_state *st = new_state(t);
    part_a(t, w, step, slot, st, o);
    part_b(t, w, st, o);
    slot_state_free(&st);
    assert_null(st);
}

static inline void assert_same(const struct bench *t, const struct outcome *a, const struct outcome *b)
{
    const struct manifest *m = slot_manifest(t->shared);
    assert_memory_equal(a->grad, b->grad, m->parameter_floats * sizeof(float));
    assert_memory_equal(a->buffers, b->buffers, m->buffer_floats * sizeof(float));
    assert_memory_equal(a->metrics, b->metrics, 4 * sizeof(double)); /* the rest are times */
    assert_int_equal(a->stats.encoding, b->stats.encoding);
    assert_int_equal(a->stats.tensor_count, b->stats.tensor_count);
    for (uint32_t i = 0; i < a->stats.tensor_count; i++) {
        assert_int_equal(a->stats.tensors[i].data->size, b->stats.tensors[i].data->size);
        assert_memory_equal(a->stats.tensors[i].data->data, b->stats.tensors[i].data->data,
                            a->stats.tensors[i].data->size);
    }
    assert_true(msg_scalar(&a->stats, "loglik", 1) == msg_scalar(&b->stats, "loglik", 1));
}

#endif
