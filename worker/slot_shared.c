/* What the slots of a run share, and what a slot keeps between its parts; see slot_internal.h. */
#include "worker/slot_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "worker/freeze.h"
#include "worker/model_spec.h"

enum { MODEL_FLOATS_MAX = 1 << 28 /* parameters: 1 GiB of them is beyond what gradients should travel as */ };
static const double warmup_fraction = 0.3; /* of the run: dino's temperature */

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

float slot_teacher_temperature(const struct run_config *c, uint64_t step, uint64_t total)
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
        .tau_t = slot_teacher_temperature(c, 0, total),
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
    if (rc == 0 && freeze_of(&s->manifest, s->config, e) != 0)
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

bool slot_learns_from_images(const struct slot_shared *s)
{
    return !s->joint && s->config->mixture.source == MIXTURE_OF_IMAGES;
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
