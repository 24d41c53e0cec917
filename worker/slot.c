/* Slots: their views, part A and part B; see slot_internal.h. */
#include "worker/slot_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/rng.h"
#include "common/vecmath.h"

static double seconds_since(double *mark)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec, elapsed = now - *mark;
    *mark = now;
    return elapsed;
}

/* Image i of the slot. */
static uint32_t sample_of(const struct slot_shared *s, uint64_t step, uint32_t slot, uint32_t i)
{
    uint64_t first = ((step % s->steps_per_epoch) * (uint64_t)s->config->run.slots + slot) * s->b;
    return (uint32_t)permute((uint64_t)s->config->run.seed, step / s->steps_per_epoch, first + i, s->samples);
}

/* ---- images that are not in memory ---- */

/* A batch of the feed is a slot, known by how many slots come before it in the run. */
static uint64_t feed_key(const struct slot_shared *s, uint64_t step, uint32_t slot)
{
    return step * (uint64_t)s->config->run.slots + slot;
}

void slot_read_ahead(const struct slot_shared *s, uint64_t step, uint32_t slot)
{
    uint32_t *samples = s->feed && step < s->total_steps ? malloc(s->b * sizeof *samples) : NULL;
    for (uint32_t i = 0; samples && i < s->b; i++)
        samples[i] = sample_of(s, step, slot, i);
    if (samples)
        image_feed_want(s->feed, feed_key(s, step, slot), samples);
    free(samples);
}

bool slot_failure(const struct slot_shared *s, struct error *out)
{
    return s->feed && image_feed_failure(s->feed, out);
}

/* What a thread begins a step with it will likely begin the next with: leases of that step come only when this one is
 * over, and until then nobody could read anything. */
static void guess_next(struct slot_workspace *w, uint64_t step, uint32_t slot)
{
    const struct slot_shared *s = w->shared;
    if (w->ahead && w->ahead_step >= step)
        return;
    image_feed_pass(s->feed, feed_key(s, step, 0));
    slot_read_ahead(s, step + 1, slot);
    w->ahead = true;
    w->ahead_step = step;
}

/* The slot's images, b of them; image_feed_release when they were used. */
static int take_images(struct slot_workspace *w, uint64_t step, uint32_t slot, const uint8_t **images)
{
    const struct slot_shared *s = w->shared;
    struct error e; /* slot_failure has it */
    for (uint32_t i = 0; i < s->b; i++)
        w->samples[i] = sample_of(s, step, slot, i);
    int rc = image_feed_take(s->feed, feed_key(s, step, slot), w->samples, images, &e);
    if (rc == 0)
        guess_next(w, step, slot);
    return rc;
}

bool slot_drawn(const struct slot_workspace *w, uint64_t step, uint32_t slot)
{
    return w->views_held && w->views_step == step && w->views_slot == slot;
}

/* Both views of the slot's images: rows 0..b-1 are view 0. Local views are numbered from 2 on. And the images as they
 * are, where the mixture learns from these. */
static int draw_views(struct slot_workspace *w, uint64_t step, uint32_t slot)
{
    const struct slot_shared *s = w->shared;
    const struct dataset *d = s->train;
    uint64_t seed = (uint64_t)s->config->run.seed, epoch = step / s->steps_per_epoch;
    const uint8_t *taken = NULL;
    if (slot_drawn(w, step, slot))
        return 0;
    int rc = s->feed ? take_images(w, step, slot, &taken) : 0;
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < s->b; i++) {
        uint32_t sample = sample_of(s, step, slot, i);
        const uint8_t *image = taken ? taken + i * s->image_floats : d->images + sample * s->image_floats;
        if (w->images)
            augment_standardise(&s->augment.scale, d->channels, image, s->image_floats,
                                w->images + i * s->image_floats);
        for (uint32_t view = 0; view < 2; view++)
            augment_view(&s->augment, image, d->height, d->width, d->channels, seed, epoch, sample, view,
                         w->views + ((size_t)view * s->b + i) * s->image_floats);
        for (uint32_t view = 0; view < s->local; view++)
            augment_view(&s->local_augment, image, d->height, d->width, d->channels, seed, epoch, sample, 2 + view,
                         w->local_views + ((size_t)view * s->b + i) * s->local_floats);
    }
    if (taken)
        image_feed_release(s->feed, feed_key(s, step, slot));
    w->views_held = true;
    w->views_step = step;
    w->views_slot = slot;
    return 0;
}

void slot_draw_ahead(struct slot_workspace *w, uint64_t step, uint32_t slot)
{
    double mark = 0;
    if (w->shared->feed || slot_drawn(w, step, slot))
        return;
    seconds_since(&mark);
    draw_views(w, step, slot); /* without a feed it cannot fail */
    w->ahead_s += seconds_since(&mark);
}

/* The projection of an image of one colour is 0 before the first step, and the mixture takes unit rows only: it
 * stands for any direction, the same one for all of them. */
static void point_somewhere(float *h, uint32_t rows, uint32_t D)
{
    for (uint32_t i = 0; i < rows; i++)
        if (vec_sum_squares(h + (size_t)i * D, D) < 0.5) /* not of NaN: that network has diverged */
            for (uint32_t d = 0; d < D; d++)
                h[(size_t)i * D + d] = 1 / sqrtf((float)D);
}

/* The teacher's projections of the views, of the images as they are (into w->h) where the mixture learns from these,
 * and what BatchNorm's running statistics get: the teacher's of the images, since it is images as they are that a
 * checkpoint is asked about, and those of the views where no pass over images is made anyway. */
static void teacher_forward(struct slot_workspace *w, const struct slot_weights *weights, struct slot_state *st)
{
    const struct slot_shared *s = w->shared;
    model_forward(s->model, MODEL_TEACHER, weights->teacher, weights->buffers, w->views, 2 * s->b, w->workspace, NULL,
                  st->z_teacher);
    if (slot_learns_from_images(s))
        model_forward(s->model, MODEL_TEACHER, weights->teacher, weights->buffers, w->images,
                      run_config_slot_rows(s->config), w->workspace, NULL, w->h);
    model_buffer_contribution(s->model, w->workspace, st->statistics);
}

/* What the mixture learns from, into w->h: unit rows of the views' projections (2b,D), or of those of the images as
 * they are (b,D). Returns how many rows. */
static uint32_t mixture_rows(struct slot_workspace *w, const struct slot_state *st)
{
    const struct slot_shared *s = w->shared;
    uint32_t rows = run_config_slot_rows(s->config);
    if (!slot_learns_from_images(s))
        memcpy(w->h, st->z_teacher, (size_t)rows * s->D * sizeof *w->h);
    vec_normalise_rows(w->h, rows, s->D, NULL);
    point_somewhere(w->h, rows, s->D);
    return rows;
}

int slot_part_a(struct slot_workspace *w, uint64_t step, uint32_t slot, const struct slot_weights *weights,
                const struct mixture_view *mixture, struct slot_state *st, struct msg *stats)
{
    const struct slot_shared *s = w->shared;
    double mark = 0;
    int rc = 0;
    ASSERT(slot < (uint32_t)s->config->run.slots && (mixture == NULL) == (stats == NULL));
    seconds_since(&mark);
    if ((rc = draw_views(w, step, slot)) != 0)
        return rc;
    st->step = step;
    st->slot = slot;
    st->augment_s = seconds_since(&mark) + w->ahead_s;
    w->ahead_s = 0;
    teacher_forward(w, weights, st);
    st->forward_s = seconds_since(&mark);
    if (mixture) {
        struct estep_result result;
        uint32_t learnt = mixture_rows(w, st);
        estep_use(w->estep, mixture);
        estep_run(w->estep, w->h, learnt, &result);
        result.extra.S = (uint32_t)run_config_init_rows(s->config, step, slot, 1);
        rc = stats_encode(w->h, &result.gamma, s->K, s->D, s->config->mixture.covariance, &result.extra, stats);
    }
    st->estep_s = seconds_since(&mark);
    return rc;
}

/* CARP's permutation of the step's blocks; NULL for the other objectives. */
static const uint32_t *blocks_of(struct slot_workspace *w, uint64_t step)
{
    const struct slot_shared *s = w->shared;
    if (s->loss.objective != LOSS_CARP)
        return NULL;
    if (!w->order_held || w->order_step != step) {
        struct rng r;
        for (uint32_t k = 0; k < s->K; k++)
            w->order[k] = k;
        rng_open(&r, (uint64_t)s->config->run.seed, RNG_BLOCKS, step, 0, 0);
        rng_shuffle(&r, w->order, s->K);
        w->order_held = true;
        w->order_step = step;
    }
    return w->order;
}

static void unit_copy(const struct slot_shared *s, const float *params, float *out)
{
    memcpy(out, params + s->prototypes_at, (size_t)s->K * s->D * sizeof *out);
    vec_normalise_rows(out, s->K, s->D, NULL);
}

/* The gradient through the normalisation of unit rows: the part that would only change their length is removed,
 * d -= (d.c) c. */
static void project_to_tangent(const float *c, size_t K, size_t D, float *d)
{
    for (size_t k = 0; k < K; k++)
        vec_axpy(d + k * D, -vec_dot(d + k * D, c + k * D, D), c + k * D, D);
}

/* The objective; joint: also the prototypes' part of grad. dz is left in w. */
static struct loss_result objective(struct slot_workspace *w, const struct slot_state *st,
                                    const struct slot_weights *weights, const struct mixture_view *mixture, float *grad)
{
    const struct slot_shared *s = w->shared;
    struct loss_options o = s->loss;
    struct loss_result result;
    const uint32_t *order = blocks_of(w, st->step);
    const float *center = o.objective == LOSS_DINO ? weights->buffers + s->center_at : NULL;
    o.tau_t = slot_teacher_temperature(s->config, st->step, s->total_steps);
    if (!s->joint) {
        estep_use(w->estep, mixture);
        o.price = mixture->price;
        loss_decoupled(&o, w->z, st->z_teacher, estep_prototypes(w->estep), order, center, w->loss, &result, w->dz);
        return result;
    }
    struct loss_joint joint = {.prototypes_teacher = w->prototypes[1],
                               .d_prototypes = grad + s->prototypes_at,
                               .own = s->config->loss.prototype_loss == PROTOTYPE_LOSS_OWN,
                               .koleo = (float)s->config->loss.koleo,
                               .koleo_first = st->slot,
                               .koleo_every = (uint32_t)s->config->run.slots};
    unit_copy(s, weights->student, w->prototypes[0]);
    unit_copy(s, weights->teacher, w->prototypes[1]);
    loss_joint(&o, w->z, st->z_teacher, w->prototypes[0], order, center, &joint, w->loss, &result, w->dz);
    project_to_tangent(w->prototypes[0], s->K, s->D, joint.d_prototypes);
    return result;
}

/* The model's part of grad. */
static void backward(struct slot_workspace *w, const struct slot_weights *weights, float *grad)
{
    const struct slot_shared *s = w->shared;
    model_backward(s->model, weights->student, w->dz, w->d_features, w->workspace, grad);
    if (s->local == 0)
        return;
    model_backward(s->local_model, weights->student, w->dz + 2 * (size_t)s->b * s->D, NULL, w->local_workspace,
                   w->local_grad);
    vec_add(grad, w->local_grad, model_manifest(s->model)->parameter_floats);
}

int slot_part_b(struct slot_workspace *w, const struct slot_state *st, const struct slot_weights *weights,
                const struct mixture_view *mixture, float *grad, float *buffers, double *metrics)
{
    const struct slot_shared *s = w->shared;
    double mark = 0;
    ASSERT((mixture == NULL) == s->joint);
    seconds_since(&mark);
    int rc = draw_views(w, st->step, st->slot);
    if (rc != 0)
        return rc;
    double augment_s = seconds_since(&mark);
    model_forward(s->model, MODEL_TRAIN, weights->student, weights->buffers, w->views, 2 * s->b, w->workspace,
                  w->features, w->z);
    memcpy(buffers, st->statistics, model_manifest(s->model)->buffer_floats * sizeof *buffers);
    if (s->local > 0)
        model_forward(s->local_model, MODEL_TRAIN, weights->student, weights->buffers, w->local_views, s->local * s->b,
                      w->local_workspace, NULL, w->z + 2 * (size_t)s->b * s->D);
    struct loss_result result = objective(w, st, weights, mixture, grad);
    if (s->loss.objective == LOSS_DINO)
        loss_center_contribution(w->loss, buffers + s->center_at);
    double feature_rate = w->rate ? feature_rate_of(w->rate, w->features, w->d_features) : 0;
    double forward_s = seconds_since(&mark);
    backward(w, weights, grad);
    const double values[SLOT_METRICS] = {result.loss - s->config->loss.feature_rate * feature_rate,
                                         result.consistency,
                                         result.entropy,
                                         s->b,
                                         st->augment_s + augment_s,
                                         st->forward_s + forward_s,
                                         seconds_since(&mark),
                                         st->estep_s,
                                         result.mean_entropy,
                                         result.coding_rate,
                                         feature_rate};
    memcpy(metrics, values, sizeof values);
    return 0;
}
