/* A slot_workspace holds nothing but scratch memory, copies of what slot_shared fixes, and three caches that are
 * keyed by what they hold: the views of (step, slot), CARP's permutation of a step, the E-step's operand of a
 * mixture version. So a slot's bytes cannot depend on what was computed before. */
#include "worker/slot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "worker/data/augment.h"
#include "worker/data/image_feed.h"
#include "worker/estep.h"
#include "worker/loss/feature_rate.h"
#include "worker/loss/loss.h"
#include "worker/freeze.h"
#include "worker/model_spec.h"
#include "worker/nn/model.h"

enum {
    NOVEL_PER_RESEED = 4, /* candidates a slot sends for each re-seed of a step: of near neighbours only one is used */
    MODEL_FLOATS_MAX = 1 << 28 /* parameters: 1 GiB of them is beyond what gradients should travel as */
};
static const double warmup_fraction = 0.3; /* of the run: dino's temperature */

struct slot_shared {
    const struct run_config *config;
    const struct dataset *train;
    struct image_feed *feed; /* NULL when images are in memory */
    struct model *model;
    struct model *local_model; /* the same for images of local views' size; NULL without these */
    struct manifest manifest;
    struct augment_options augment, local_augment;
    struct loss_options loss; /* tau_t of step 0 */
    bool joint;
    uint32_t b, K, D, local; /* local: views of that kind */
    uint64_t samples, steps_per_epoch, total_steps;
    size_t image_floats, local_floats; /* of a view, of a local one */
    size_t prototypes_at;              /* offset into the parameters, when joint */
    size_t center_at;                  /* offset into the buffers, when dino */
};

struct slot_workspace {
    const struct slot_shared *shared;
    struct model_workspace *workspace, *local_workspace;
    struct loss_workspace *loss;
    struct feature_rate *rate;    /* NULL without that term, like the next two */
    float *features, *d_features; /* (2b,F) */
    struct estep *estep;          /* NULL when joint */
    float *views;                 /* (2b,H,W,C) */
    float *local_views;           /* (local b,side,side,C), view by view; NULL without, like the next */
    float *local_grad;            /* (the model's parameters) */
    float *z, *dz;                /* ((2 + local) b,D) */
    float *h;                     /* (2b,D) */
    float *images;                /* (b,H,W,C) standardised, for a mixture of images; NULL for one of views */
    float *prototypes[2];         /* (K,D) unit rows, when joint: student's, teacher's */
    uint32_t *order;              /* (K) carp's permutation */
    bool views_held, order_held;  /* whether the caches hold anything, and of what: */
    uint64_t views_step, order_step;
    uint32_t views_slot;
    double ahead_s;      /* spent on views that no part A has asked for yet */
    uint32_t *samples;   /* (b) of a slot; with a feed */
    bool ahead;          /* the thread has computed something */
    uint64_t ahead_step; /* the newest step that it did */
};

/* ---- shared ---- */

static struct augment_options augment_options_of(const struct run_config *c)
{
    return (struct augment_options){
        .area_min = (float)c->augment.area_min,
        .area_max = (float)c->augment.area_max,
        .aspect = (float)c->augment.aspect,
        .flip = (float)c->augment.flip,
        .jitter = (float)c->augment.jitter,
        .brightness = (float)c->augment.brightness,
        .contrast = (float)c->augment.contrast,
        .saturation = (float)c->augment.saturation,
        .hue = (float)c->augment.hue,
        .greyscale = (float)c->augment.greyscale,
        .blur = (float)c->augment.blur,
        .blur_sigma = (float)c->augment.blur_sigma,
        .solarise = (float)c->augment.solarise,
        .rotation = (float)c->augment.rotation,
        .shear = (float)c->augment.shear,
        .erase = (float)c->augment.erase,
        .erase_area = (float)c->augment.erase_area,
    };
}

/* tau_t(t): constant, but for dino's linear warm-up. */
static float teacher_temperature(const struct run_config *c, uint64_t step, uint64_t total)
{
    double end = c->loss.temperature_teacher, start = c->loss.temperature_teacher_start;
    if (c->loss.objective != LOSS_DINO)
        return (float)end;
    return (float)(start + (end - start) * fmin(1, (double)step / (warmup_fraction * (double)total)));
}

static struct loss_options loss_options_of(const struct run_config *c, uint64_t total)
{
    return (struct loss_options){
        .objective = c->loss.objective,
        .b = (uint32_t)c->run.slot_size,
        .K = (uint32_t)c->mixture.components,
        .D = (uint32_t)c->mixture.dimensions,
        .block = (uint32_t)c->loss.block,
        .tau_s = (float)c->loss.temperature_student,
        .tau_t = teacher_temperature(c, 0, total),
        .entropy_weight = (float)c->loss.entropy_weight,
        .sinkhorn_epsilon = (float)c->loss.sinkhorn_epsilon,
        .sinkhorn_iterations = (uint32_t)c->loss.sinkhorn_iterations,
        .normalise = 1,
        .mean_entropy = (float)run_config_mean_entropy(c),
        .coding_rate = (float)c->loss.coding_rate,
        .coding_rate_epsilon = (float)c->loss.coding_rate_epsilon,
        .local = (uint32_t)c->augment.local_crops,
        .balance = (float)c->loss.balance,
    };
}

static int add_prototypes(struct slot_shared *s)
{
    struct manifest_entry p = {
        .name = "prototypes",
        .rank = 2,
        .shape = {s->K, s->D},
        .unit_rows = true,
        .lr_scale = s->config->optimiser.prototype_lr,
    };
    s->prototypes_at = s->manifest.parameter_floats;
    return manifest_add_parameter(&s->manifest, &p);
}

static int add_center(struct slot_shared *s)
{
    struct manifest_entry center = {
        .name = "loss.center",
        .rank = 1,
        .shape = {s->K},
        .momentum = 1 - s->config->loss.center_momentum,
    };
    s->center_at = s->manifest.buffer_floats;
    return manifest_add_buffer(&s->manifest, &center);
}

static int extend_manifest(struct slot_shared *s, struct error *e)
{
    int rc = manifest_copy(&s->manifest, model_manifest(s->model));
    if (rc == 0 && freeze_stages(&s->manifest, s->config->encoder.freeze, e) != 0)
        return ERR_CONFIG;
    if (rc == 0 && s->joint)
        rc = add_prototypes(s);
    if (rc == 0 && s->config->loss.objective == LOSS_DINO)
        rc = add_center(s);
    if (rc != 0)
        return error_set(e, rc, "the model's manifest: %s", error_name(rc));
    if (s->manifest.parameter_floats > MODEL_FLOATS_MAX)
        return error_set(e, ERR_CONFIG, "%zu parameters, at most %d: make encoder.* or head.hidden smaller",
                         s->manifest.parameter_floats, MODEL_FLOATS_MAX);
    return 0;
}

/* Another size and other crops, the same weights. */
static int build_local(struct slot_shared *s, struct model_spec spec, struct error *e)
{
    const struct run_config *c = s->config;
    uint32_t shorter = spec.height < spec.width ? spec.height : spec.width, side = (uint32_t)c->augment.local_side;
    side = side > 0 ? side : (shorter + 1) / 2;
    s->local_augment = s->augment;
    s->local_augment.side = side;
    s->local_augment.area_min = (float)c->augment.local_area_min;
    s->local_augment.area_max = (float)c->augment.local_area_max;
    s->local_floats = (size_t)side * side * spec.channels;
    spec.height = spec.width = side;
    int rc = model_new(&spec, &s->local_model, e);
    ASSERT(rc != 0 || model_manifest(s->local_model)->parameter_floats == model_manifest(s->model)->parameter_floats);
    return rc;
}

static int build_shared(struct slot_shared *s, struct error *e)
{
    const struct run_config *c = s->config;
    if (s->steps_per_epoch == 0)
        return error_set(e, ERR_CONFIG, "%llu images are less than a step of run.slots * run.slot_size = %lld",
                         (unsigned long long)s->samples, (long long)c->run.slots * c->run.slot_size);
    struct model_spec spec;
    int rc = model_precision_check(c, e);
    if (rc == 0)
        rc = pixel_scale_of(c, s->train->channels, &s->augment.scale, e);
    if (rc == 0)
        rc = model_spec_of(c, s->train, &spec, e);
    spec.precision = c->encoder.precision;
    if (rc == 0)
        rc = model_new(&spec, &s->model, e);
    if (rc == 0 && s->local > 0)
        rc = build_local(s, spec, e);
    return rc == 0 ? extend_manifest(s, e) : rc;
}

/* Room for what every thread has in hand and for what is leased ahead, and for the beginning of the next step. */
static int open_feed(struct slot_shared *s, struct error *e)
{
    uint32_t threads = (uint32_t)s->config->worker.threads;
    const struct image_feed_options o = {
        .source = s->train->source,
        .image_bytes = dataset_image_bytes(s->train),
        .size = s->b,
        .batches = 2 * threads + (uint32_t)s->config->worker.ahead + 2,
        .threads = threads,
    };
    return image_feed_new(&o, &s->feed, e);
}

int slot_shared_new(const struct run_config *c, const struct dataset *train, struct slot_shared **out, struct error *e)
{
    struct slot_shared *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL)
        return error_set(e, ERR_MEMORY, "no memory");
    s->config = c;
    s->train = train;
    s->samples = c->data.limit > 0 && (uint64_t)c->data.limit < train->count ? (uint64_t)c->data.limit : train->count;
    s->steps_per_epoch = run_config_steps_per_epoch(c, s->samples);
    s->total_steps = run_config_steps(c, s->samples);
    s->augment = augment_options_of(c);
    s->loss = loss_options_of(c, s->total_steps);
    s->joint = c->loss.prototypes == PROTOTYPES_JOINT;
    s->b = s->loss.b;
    s->K = s->loss.K;
    s->D = s->loss.D;
    s->local = s->loss.local;
    s->image_floats = (size_t)train->height * train->width * train->channels;
    manifest_init(&s->manifest);
    int rc = build_shared(s, e);
    if (rc == 0 && train->source)
        rc = open_feed(s, e);
    if (rc != 0)
        slot_shared_free(&s);
    *out = s;
    return rc;
}

void slot_shared_free(struct slot_shared **s)
{
    if (*s == NULL)
        return;
    image_feed_free(&(*s)->feed);
    manifest_fini(&(*s)->manifest);
    model_free(&(*s)->model);
    model_free(&(*s)->local_model);
    free(*s);
    *s = NULL;
}

const struct manifest *slot_manifest(const struct slot_shared *s)
{
    return &s->manifest;
}

uint64_t slot_total_steps(const struct slot_shared *s)
{
    return s->total_steps;
}

void slot_initial(const struct slot_shared *s, float *params, float *buffers)
{
    uint64_t seed = (uint64_t)s->config->run.seed;
    memset(buffers, 0, s->manifest.buffer_floats * sizeof *buffers);
    model_init(s->model, seed, params, buffers);
    if (!s->joint)
        return;
    struct rng r; /* the stream of the tensor's index, like every other tensor of the manifest */
    rng_open(&r, seed, RNG_INIT, s->manifest.parameter_count - 1, 0, 0);
    float *prototypes = params + s->prototypes_at;
    for (size_t i = 0; i < (size_t)s->K * s->D; i++)
        prototypes[i] = (float)rng_normal(&r);
    vec_normalise_rows(prototypes, s->K, s->D, NULL);
}

int slot_state_new(const struct slot_shared *s, struct slot_state **out)
{
    struct slot_state *st = calloc(1, sizeof *st);
    if (st) {
        st->z_teacher = calloc(2 * (size_t)s->b * s->D, sizeof(float));
        st->statistics = calloc(model_manifest(s->model)->buffer_floats, sizeof(float));
    }
    if (st && (st->z_teacher == NULL || st->statistics == NULL))
        slot_state_free(&st);
    *out = st;
    return st ? 0 : ERR_MEMORY;
}

void slot_state_free(struct slot_state **st)
{
    if (*st == NULL)
        return;
    free((*st)->z_teacher);
    free((*st)->statistics);
    free(*st);
    *st = NULL;
}

/* ---- worker ---- */

static float *aligned_floats(size_t n)
{
    void *p = NULL;
    return posix_memalign(&p, 64, n * sizeof(float)) == 0 ? p : NULL;
}

static uint32_t novel_max(const struct slot_shared *s)
{
    const struct run_config *c = s->config;
    return c->mixture.reseed_usage > 0 ? NOVEL_PER_RESEED * run_config_reseed_max(c) : 0;
}

static int new_estep(const struct slot_shared *s, struct estep **out)
{
    const struct run_config *c = s->config;
    struct estep_options o = {
        .top = (uint32_t)c->mixture.top,
        .drop = (float)c->mixture.drop,
        .novel_max = novel_max(s),
        .novel_distance = (float)c->mixture.reseed_distance,
        .choice = c->mixture.reseed_choice,
        .covariance = c->mixture.covariance,
    };
    return estep_new(run_config_slot_rows(c), s->K, s->D, o, out);
}

static bool allocate_local(struct slot_workspace *w)
{
    const struct slot_shared *s = w->shared;
    size_t rows = (size_t)s->local * s->b;
    if (s->local == 0)
        return true;
    w->local_views = aligned_floats(rows * s->local_floats);
    w->local_grad = aligned_floats(model_manifest(s->model)->parameter_floats);
    return w->local_views && w->local_grad &&
           model_workspace_new(s->local_model, (uint32_t)rows, &w->local_workspace) == 0;
}

static bool allocate_features(struct slot_workspace *w)
{
    const struct slot_shared *s = w->shared;
    size_t rows = 2 * (size_t)s->b, F = model_feature_width(s->model);
    const struct run_config *c = s->config;
    if (c->loss.feature_rate == 0)
        return true;
    w->features = aligned_floats(rows * F);
    w->d_features = aligned_floats(rows * F);
    return w->features && w->d_features &&
           feature_rate_new(rows, F, (float)c->loss.feature_rate, (float)c->loss.coding_rate_epsilon, &w->rate) == 0;
}

static bool has_mixture_of_images(const struct slot_shared *s)
{
    return !s->joint && s->config->mixture.source == MIXTURE_OF_IMAGES;
}

static bool allocate_worker(struct slot_workspace *w)
{
    const struct slot_shared *s = w->shared;
    size_t rows = 2 * (size_t)s->b, projections = rows * s->D, prototypes = (size_t)s->K * s->D;
    w->views = aligned_floats(rows * s->image_floats);
    w->z = aligned_floats(projections + (size_t)s->local * s->b * s->D);
    w->dz = aligned_floats(projections + (size_t)s->local * s->b * s->D);
    w->h = aligned_floats(projections);
    w->samples = malloc(s->b * sizeof *w->samples);
    w->order = calloc(s->K, sizeof *w->order);
    bool ok = w->views && w->z && w->dz && w->h && w->order && w->samples;
    if (has_mixture_of_images(s))
        ok = (w->images = aligned_floats(s->b * s->image_floats)) != NULL && ok;
    for (int i = 0; ok && s->joint && i < 2; i++)
        ok = (w->prototypes[i] = aligned_floats(prototypes)) != NULL;
    return ok && (s->joint || new_estep(s, &w->estep) == 0) && loss_workspace_new(&s->loss, &w->loss) == 0 &&
           model_workspace_new(s->model, (uint32_t)rows, &w->workspace) == 0 && allocate_local(w) &&
           allocate_features(w);
}

int slot_workspace_new(const struct slot_shared *s, struct slot_workspace **out, struct error *e)
{
    struct slot_workspace *w = calloc(1, sizeof *w);
    *out = NULL;
    if (w)
        w->shared = s;
    if (w == NULL || !allocate_worker(w)) {
        slot_workspace_free(&w);
        return error_set(e, ERR_MEMORY,
                         "no memory for a slot of %u images and %u prototypes: make run.slot_size smaller", s->b, s->K);
    }
    *out = w;
    return 0;
}

void slot_workspace_free(struct slot_workspace **w)
{
    if (*w == NULL)
        return;
    model_workspace_free(&(*w)->workspace);
    model_workspace_free(&(*w)->local_workspace);
    loss_workspace_free(&(*w)->loss);
    feature_rate_free(&(*w)->rate);
    free((*w)->features);
    free((*w)->d_features);
    estep_free(&(*w)->estep);
    free((*w)->views);
    free((*w)->local_views);
    free((*w)->local_grad);
    free((*w)->z);
    free((*w)->dz);
    free((*w)->h);
    free((*w)->images);
    free((*w)->prototypes[0]);
    free((*w)->prototypes[1]);
    free((*w)->order);
    free((*w)->samples);
    free(*w);
    *w = NULL;
}

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
    if (has_mixture_of_images(s))
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
    if (!has_mixture_of_images(s))
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
    o.tau_t = teacher_temperature(s->config, st->step, s->total_steps);
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
