/* Everything goes through weights_update, as in a step. */
#include "server/parameter/parameter_numerics.h"

#include <xxhash.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/provenance.h"
#include "server/parameter/schedule.h"
#include "server/parameter/weights.h"

enum { SEED = 1, STEPS = 3, SLOTS = 2, ROWS = 7, COLUMNS = 45, BUFFER = 19 };

static const struct schedule schedule = {
    .lr = 2e-3, .lr_end = 0.01, .warmup = 2, .ema_start = 0.99, .ema_end = 0.999, .steps = 10};

/* n values in (-1, 1); which: so that no two vectors are alike. */
static struct buf *filled(size_t n, uint64_t which)
{
    struct buf *b = buf_new(n * sizeof(float));
    struct rng r;
    rng_open(&r, SEED, RNG_JITTER, which, 0, 0);
    for (size_t i = 0; b && i < n; i++)
        ((float *)(void *)b->data)[i] = 2 * rng_uniform(&r) - 1;
    return b;
}

/* A matrix that decays, a vector that does not, and rows of unit length. */
static int make_manifest(struct manifest *m)
{
    struct manifest_entry matrix = {
        .name = "w", .rank = 2, .shape = {ROWS, COLUMNS}, .decay = true, .clip = true, .lr_scale = 1};
    struct manifest_entry vector = {.name = "b", .rank = 1, .shape = {COLUMNS}, .clip = true, .lr_scale = 0.5};
    struct manifest_entry unit = {.name = "u", .rank = 2, .shape = {ROWS, COLUMNS}, .unit_rows = true, .lr_scale = 1};
    struct manifest_entry buffer = {.name = "r", .rank = 1, .shape = {BUFFER}, .momentum = 0.1};
    manifest_init(m);
    int rc = manifest_add_parameter(m, &matrix);
    if (rc == 0)
        rc = manifest_add_parameter(m, &vector);
    if (rc == 0)
        rc = manifest_add_parameter(m, &unit);
    return rc == 0 ? manifest_add_buffer(m, &buffer) : rc;
}

/* Two slots' contributions, added as the tree does. */
static struct buf *summed(size_t n, uint64_t step, uint64_t kind)
{
    struct buf *sum = filled(n, 100 * kind + 2 * step), *other = filled(n, 100 * kind + 2 * step + 1);
    if (sum && other)
        vec_add((float *)(void *)sum->data, (const float *)(const void *)other->data, n);
    else
        buf_unref(&sum);
    buf_unref(&other);
    return sum;
}

static int update(struct weights *w, uint64_t t, XXH64_state_t *h)
{
    double norm = 0;
    struct buf *gradient = summed(w->manifest.parameter_floats, t, 1), *buffers = summed(BUFFER, t, 2);
    int rc = gradient && buffers ? 0 : ERR_MEMORY;
    if (rc == 0) {
        const struct weights_step step = {.gradient = (const float *)(const void *)gradient->data,
                                          .buffers = (const float *)(const void *)buffers->data,
                                          .slots = SLOTS,
                                          .step = t,
                                          .lr = schedule_lr(&schedule, t),
                                          .ema = schedule_ema(&schedule, t)};
        rc = weights_update(w, &step, &norm);
    }
    XXH64_update(h, &norm, sizeof norm);
    buf_unref(&gradient);
    buf_unref(&buffers);
    return rc;
}

static void hash_vector(XXH64_state_t *h, const struct buf *b)
{
    if (b != NULL)
        XXH64_update(h, b->data, b->size);
}

static int run(const struct optimiser *o, XXH64_state_t *h)
{
    struct manifest m;
    struct weights w;
    struct weight_vectors vectors = {.buffers = filled(BUFFER, 3)};
    int rc = make_manifest(&m);
    vectors.student = rc == 0 ? filled(m.parameter_floats, 4) : NULL;
    if (rc != 0 || vectors.student == NULL || vectors.buffers == NULL) {
        weight_vectors_fini(&vectors);
        manifest_fini(&m);
        return ERR_MEMORY;
    }
    rc = weights_init(&w, &m, *o, &vectors);
    if (rc != 0)
        return rc;
    for (uint64_t t = 0; rc == 0 && t < STEPS; t++)
        rc = update(&w, t, h);
    hash_vector(h, w.vectors.student);
    hash_vector(h, w.vectors.teacher);
    hash_vector(h, w.vectors.buffers);
    for (size_t i = 0; i < MOMENTS_MAX; i++)
        hash_vector(h, w.vectors.moments[i]);
    weights_fini(&w);
    return rc;
}

int parameter_numerics(uint64_t *out)
{
    const struct optimiser adamw = {
        .name = OPTIMISER_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .decay = 0.05, .clip = 1};
    const struct optimiser sgd = {.name = OPTIMISER_SGD, .momentum = 0.9, .decay = 1e-4};
    XXH64_state_t *state = XXH64_createState();
    if (state == NULL)
        return ERR_MEMORY;
    XXH64_reset(state, SEED);
    int rc = run(&adamw, state);
    if (rc == 0)
        rc = run(&sgd, state);
    if (rc == 0)
        *out = fingerprint_of(XXH64_digest(state));
    XXH64_freeState(state);
    return rc;
}
