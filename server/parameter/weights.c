/* The update walks the parameters in blocks that stay in the first-level cache between optimiser, row normalisation and
 * teacher average, so that each vector is read and written once per step. */
#include "server/parameter/weights.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include "common/kernels.h"
#include "common/vecmath.h"
#include "proto/teacher.h"

/* Floats in a block: nine streams of 8 KiB fit the L2 of any recent core and mostly its L1. */
enum { BLOCK_FLOATS = 2048 };

static float *floats(struct buf *b)
{
    return (float *)(void *)b->data;
}

struct weight_vectors weight_vectors_ref(const struct weight_vectors *v)
{
    struct weight_vectors copy = {buf_ref(v->student), buf_ref(v->teacher), buf_ref(v->buffers), {NULL}};
    for (unsigned i = 0; i < MOMENTS_MAX; i++)
        copy.moments[i] = buf_ref(v->moments[i]);
    return copy;
}

void weight_vectors_fini(struct weight_vectors *v)
{
    buf_unref(&v->student);
    buf_unref(&v->teacher);
    buf_unref(&v->buffers);
    for (unsigned i = 0; i < MOMENTS_MAX; i++)
        buf_unref(&v->moments[i]);
}

static int pools_init(struct weights *w)
{
    int rc = float_pool_new(w->manifest.parameter_floats, &w->parameter_pool);
    if (rc == 0 && w->manifest.buffer_floats > 0)
        rc = float_pool_new(w->manifest.buffer_floats, &w->buffer_pool);
    return rc;
}

static int moments_init(struct weights *w)
{
    for (unsigned i = 0; i < optimiser_moments(w->optimiser.name); i++) {
        struct buf **moment = &w->vectors.moments[i];
        if (*moment != NULL)
            continue;
        *moment = float_pool_take(w->parameter_pool);
        if (*moment == NULL)
            return ERR_MEMORY;
        memset((*moment)->data, 0, (*moment)->size);
    }
    return 0;
}

static bool sizes_fit(const struct weights *w)
{
    size_t parameter_bytes = w->manifest.parameter_floats * sizeof(float);
    size_t buffer_bytes = w->manifest.buffer_floats * sizeof(float);
    const struct weight_vectors *v = &w->vectors;
    bool fit = v->student->size == parameter_bytes && v->teacher->size == parameter_bytes;
    for (unsigned i = 0; i < MOMENTS_MAX; i++)
        fit = fit && (v->moments[i] == NULL || v->moments[i]->size == parameter_bytes);
    return fit && (v->buffers ? v->buffers->size : 0) == buffer_bytes;
}

int weights_init(struct weights *w, struct manifest *manifest, struct optimiser optimiser,
                 struct weight_vectors *vectors)
{
    ASSERT(manifest->parameter_floats > 0 && vectors->student != NULL);
    *w = (struct weights){.manifest = *manifest, .optimiser = optimiser, .vectors = *vectors};
    manifest_init(manifest);
    *vectors = (struct weight_vectors){0};
    if (w->vectors.teacher == NULL)
        w->vectors.teacher = buf_ref(w->vectors.student);
    ASSERT(sizes_fit(w));
    int rc = pools_init(w);
    if (rc == 0)
        rc = moments_init(w);
    if (rc != 0)
        weights_fini(w);
    return rc;
}

void weights_fini(struct weights *w)
{
    weight_vectors_fini(&w->vectors);
    float_pool_free(&w->parameter_pool);
    float_pool_free(&w->buffer_pool);
    manifest_fini(&w->manifest);
}

/* (1 - momentum) value + momentum sum / slots */
STATIC_KERNEL(void, running_kernel,
              (float momentum, float share, const float *value, const float *sum, float *to, size_t n),
              (momentum, share, value, sum, to, n))
{
    const float rest = 1.0f - momentum;
#pragma GCC ivdep
    for (size_t i = 0; i < n; i++)
        to[i] = rest * value[i] + share * sum[i];
}

/* A moment that nobody else holds may be overwritten; else its next version goes elsewhere. */
static struct buf *moment_destination(struct weights *w, struct buf *moment)
{
    if (moment == NULL || atomic_load(&moment->refs) == 1)
        return buf_ref(moment);
    return float_pool_take(w->parameter_pool);
}

static int destinations_take(struct weights *w, struct weight_vectors *next)
{
    *next = (struct weight_vectors){
        .student = float_pool_take(w->parameter_pool),
        .teacher = float_pool_take(w->parameter_pool),
        .buffers = w->buffer_pool ? float_pool_take(w->buffer_pool) : NULL,
    };
    bool complete = next->student && next->teacher && (next->buffers || !w->buffer_pool);
    for (unsigned i = 0; i < MOMENTS_MAX; i++) {
        next->moments[i] = moment_destination(w, w->vectors.moments[i]);
        complete = complete && (next->moments[i] || !w->vectors.moments[i]);
    }
    if (complete)
        return 0;
    weight_vectors_fini(next);
    return ERR_MEMORY;
}

/* Whole rows for entries whose rows are renormalised, since a row must not straddle two blocks. */
static size_t block_floats(const struct manifest_entry *e, size_t row)
{
    return e->unit_rows && row < BLOCK_FLOATS ? BLOCK_FLOATS / row * row : e->unit_rows ? row : BLOCK_FLOATS;
}

static void update_block(const struct weights *w, const struct weight_vectors *next, const struct weights_step *s,
                         const struct optimiser_rate *rate, size_t at, size_t n)
{
    const struct weight_vectors *now = &w->vectors;
    struct optimiser_span span = {
        .sum = s->gradient + at, .from = floats(now->student) + at, .to = floats(next->student) + at, .n = n};
    for (unsigned i = 0; i < optimiser_moments(w->optimiser.name); i++) {
        span.moments[i] = floats(now->moments[i]) + at;
        span.moments_to[i] = floats(next->moments[i]) + at;
    }
    optimiser_apply(&w->optimiser, rate, &span);
}

static void keep_vector(struct buf *now, struct buf *next, const struct manifest_entry *e)
{
    if (now != next)
        memcpy(floats(next) + e->offset, floats(now) + e->offset, e->count * sizeof(float));
}

static void keep_entry(const struct weights *w, const struct weight_vectors *next, const struct manifest_entry *e)
{
    const struct weight_vectors *now = &w->vectors;
    keep_vector(now->student, next->student, e);
    keep_vector(now->teacher, next->teacher, e);
    for (unsigned i = 0; i < optimiser_moments(w->optimiser.name); i++)
        keep_vector(now->moments[i], next->moments[i], e);
}

static void update_entry(const struct weights *w, const struct weight_vectors *next, const struct weights_step *s,
                         const struct manifest_entry *e, double clip_factor)
{
    struct optimiser_rate rate = {
        .step = s->step,
        .lr = s->lr * e->lr_scale,
        .decay = e->decay ? w->optimiser.decay : 0.0,
        .scale = (e->clip ? clip_factor : 1.0) / s->slots,
    };
    size_t row = e->rank > 0 ? (size_t)e->shape[e->rank - 1] : 1;
    size_t block = block_floats(e, row);
    for (size_t i = 0; i < e->count; i += block) {
        size_t n = e->count - i < block ? e->count - i : block, at = e->offset + i;
        update_block(w, next, s, &rate, at, n);
        if (e->unit_rows)
            vec_normalise_rows(floats(next->student) + at, n / row, row, NULL);
        teacher_average((float)s->ema, floats(w->vectors.teacher) + at, floats(next->student) + at,
                        floats(next->teacher) + at, n);
    }
}

static void update_buffer(const struct weights *w, const struct weight_vectors *next, const struct weights_step *s,
                          const struct manifest_entry *e)
{
    running_kernel((float)e->momentum, (float)(e->momentum / s->slots), floats(w->vectors.buffers) + e->offset,
                   s->buffers + e->offset, floats(next->buffers) + e->offset, e->count);
}

int weights_update(struct weights *w, const struct weights_step *s, double *norm)
{
    *norm = optimiser_gradient_norm(&w->manifest, s->gradient, s->slots);
    if (!isfinite(*norm) || (w->manifest.buffer_floats && !vec_all_finite(s->buffers, w->manifest.buffer_floats)))
        return ERR_RANGE;
    struct weight_vectors next;
    int rc = destinations_take(w, &next);
    if (rc != 0)
        return rc;
    double clip_factor = optimiser_clip_factor(&w->optimiser, *norm);
    for (size_t i = 0; i < w->manifest.parameter_count; i++) {
        const struct manifest_entry *entry = &w->manifest.parameters[i];
        if (manifest_entry_is_frozen(entry))
            keep_entry(w, &next, entry);
        else
            update_entry(w, &next, s, entry, clip_factor);
    }
    for (size_t i = 0; i < w->manifest.buffer_count; i++)
        update_buffer(w, &next, s, &w->manifest.buffers[i]);
    weight_vectors_fini(&w->vectors);
    w->vectors = next;
    return 0;
}
