/* Sizes are chosen so that tiles have whole and partial panels and reductions have a tail; beyond that they are
 * arbitrary. Inputs come from the counter-based generator, which is integer arithmetic up to the last step. */
#include "worker/numerics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/error.h"
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/provenance.h"
#include "worker/data/augment.h"
#include "worker/estep.h"
#include "worker/loss/loss.h"
#include "worker/nn/model.h"

enum { SEED = 1 };

static void hash_floats(XXH64_state_t *h, const float *x, size_t n)
{
    XXH64_update(h, x, n * sizeof *x);
}

/* n values in (-1, 1), or NULL. which: so that no two arrays are alike. */
static float *filled(size_t n, uint64_t which)
{
    float *x = malloc(n * sizeof *x);
    struct rng r;
    rng_open(&r, SEED, RNG_JITTER, which, 0, 0);
    for (size_t i = 0; x && i < n; i++)
        x[i] = 2 * rng_uniform(&r) - 1;
    return x;
}

/* ---- vectors and libm ---- */

static int add_vectors(XXH64_state_t *h)
{
    enum { ROWS = 9, WIDTH = 77, N = ROWS * WIDTH };
    float norms[ROWS], *x = filled(N, 1), *y = filled(N, 2);
    int rc = x && y ? 0 : ERR_MEMORY;
    if (rc == 0) {
        vec_axpy(y, 0.3f, x, N);
        const float dot = vec_dot(x, y, N);
        const double squares = vec_sum_squares(y, N);
        vec_normalise_rows(y, ROWS, WIDTH, norms);
        vec_scale(x, 7.7f, N);
        const float sum = vec_exp_shifted(x, vec_max(x, N), N);
        vec_add(x, y, N);
        hash_floats(h, x, N);
        hash_floats(h, norms, ROWS);
        hash_floats(h, &dot, 1);
        hash_floats(h, &sum, 1);
        XXH64_update(h, &squares, sizeof squares);
    }
    free(x);
    free(y);
    return rc;
}

static int add_libm(XXH64_state_t *h)
{
    for (int i = 1; i <= 64; i++) {
        double x = i * 0.37;
        double values[] = {exp(-x), log(x), sin(x), cos(x), pow(0.99, x), sqrt(x), tanh(x), erf(x)};
        float floats[] = {expf((float)-x), logf((float)x), sinf((float)x), cosf((float)x), sqrtf((float)x)};
        XXH64_update(h, values, sizeof values);
        XXH64_update(h, floats, sizeof floats);
    }
    return 0;
}

/* ---- views ---- */

static int add_views(XXH64_state_t *h)
{
    enum { SIDE = 23, CHANNELS = 3, PIXELS = SIDE * SIDE * CHANNELS, VIEWS = 4 };
    const struct augment_options o = {.area_min = 0.3f,
                                      .area_max = 1,
                                      .aspect = 1.5f,
                                      .flip = 0.5f,
                                      .jitter = 1,
                                      .brightness = 0.4f,
                                      .contrast = 0.4f,
                                      .scale = pixel_scale_even(0.3f, 0.35f)};
    float view[PIXELS];
    uint8_t image[PIXELS];
    struct rng r;
    rng_open(&r, SEED, RNG_JITTER, 11, 0, 0);
    for (size_t i = 0; i < PIXELS; i++)
        image[i] = (uint8_t)rng_u32(&r);
    for (uint64_t i = 0; i < VIEWS; i++) {
        augment_view(&o, image, SIDE, SIDE, CHANNELS, SEED, 0, i, 0, view);
        hash_floats(h, view, PIXELS);
    }
    return 0;
}

/* ---- models ---- */

struct model_arrays {
    float *params, *buffers, *images, *features, *z, *dz, *grad, *contribution;
    struct model_workspace *workspace;
};

static int arrays_new(const struct model *m, const struct model_spec *spec, uint32_t rows, struct model_arrays *a)
{
    const struct manifest *manifest = model_manifest(m);
    size_t image = (size_t)spec->height * spec->width * spec->channels;
    a->params = malloc(manifest->parameter_floats * sizeof(float));
    a->grad = malloc(manifest->parameter_floats * sizeof(float));
    a->buffers = malloc((manifest->buffer_floats + 1) * sizeof(float));
    a->contribution = malloc((manifest->buffer_floats + 1) * sizeof(float));
    a->images = filled(rows * image, 3);
    a->features = malloc((size_t)rows * model_feature_width(m) * sizeof(float));
    a->z = malloc((size_t)rows * spec->projection * sizeof(float));
    a->dz = filled((size_t)rows * spec->projection, 4);
    bool complete = a->params && a->grad && a->buffers && a->contribution && a->images && a->features && a->z && a->dz;
    return complete ? model_workspace_new(m, rows, &a->workspace) : ERR_MEMORY;
}

static void arrays_free(struct model_arrays *a)
{
    float *const all[] = {a->params, a->buffers, a->images, a->features, a->z, a->dz, a->grad, a->contribution};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    model_workspace_free(&a->workspace);
}

static void run_model(XXH64_state_t *h, const struct model *m, const struct model_spec *spec, uint32_t rows,
                      struct model_arrays *a)
{
    const struct manifest *manifest = model_manifest(m);
    model_init(m, SEED, a->params, a->buffers);
    hash_floats(h, a->params, manifest->parameter_floats);
    model_forward(m, MODEL_TRAIN, a->params, a->buffers, a->images, rows, a->workspace, a->features, a->z);
    hash_floats(h, a->features, (size_t)rows * model_feature_width(m));
    hash_floats(h, a->z, (size_t)rows * spec->projection);
    model_backward(m, a->params, a->dz, NULL, a->workspace, a->grad);
    hash_floats(h, a->grad, manifest->parameter_floats);
    model_buffer_contribution(m, a->workspace, a->contribution);
    hash_floats(h, a->contribution, manifest->buffer_floats);
}

static int add_model(XXH64_state_t *h, const struct model_spec *of, enum encoder_precision precision)
{
    enum { ROWS = 6 };
    struct model *m = NULL;
    struct model_arrays a = {0};
    struct model_spec spec = *of;
    spec.precision = precision;
    int rc = model_new(&spec, &m, NULL);
    if (rc == 0)
        rc = arrays_new(m, &spec, ROWS, &a);
    if (rc == 0)
        run_model(h, m, &spec, ROWS, &a);
    arrays_free(&a);
    model_free(&m);
    return rc;
}

static int add_models(XXH64_state_t *h, enum encoder_precision precision)
{
    const struct model_spec conv = {.family = ENCODER_CONV,
                                    .height = 21,
                                    .width = 19,
                                    .channels = 3,
                                    .stages = 3,
                                    .widths = {12, 24, 40},
                                    .groups = 4,
                                    .hidden = 52,
                                    .projection = 28};
    struct model_spec vit = {.family = ENCODER_VIT,
                             .height = 16,
                             .width = 16,
                             .channels = 1,
                             .patch = 4,
                             .dim = 40,
                             .depth = 1,
                             .heads = 2,
                             .mlp = 2,
                             .pool = VIT_POOL_MEAN,
                             .hidden = 36,
                             .projection = 20};
    struct model_spec resnet = {.family = ENCODER_RESNET,
                                .height = 9,
                                .width = 10,
                                .channels = 3,
                                .groups = 2,
                                .layers = RESNET_10,
                                .base = 6,
                                .norm = ENCODER_NORM_GROUP,
                                .hidden = 20,
                                .projection = 12};
    int rc = add_model(h, &conv, precision);
    rc = rc ? rc : add_model(h, &vit, precision);
    vit.pool = VIT_POOL_CLS;
    rc = rc ? rc : add_model(h, &vit, precision);
    rc = rc ? rc : add_model(h, &resnet, precision);
    resnet.norm = ENCODER_NORM_BATCH;
    return rc ? rc : add_model(h, &resnet, precision);
}

static int add_float32_models(XXH64_state_t *h)
{
    return add_models(h, PRECISION_FLOAT32);
}

/* ---- losses ---- */

struct loss_arrays {
    float *student, *teacher, *prototypes, *center, *dz;
    uint32_t *order;
    struct loss_workspace *workspace;
};

static int add_loss(XXH64_state_t *h, const struct loss_options *o)
{
    size_t rows = 2 * (size_t)o->b * o->D;
    struct loss_arrays a = {filled(rows, 5),
                            filled(rows, 6),
                            filled((size_t)o->K * o->D, 7),
                            filled(o->K, 8),
                            malloc(rows * sizeof(float)),
                            malloc(o->K * sizeof(uint32_t)),
                            NULL};
    struct loss_result result = {0};
    bool complete = a.student && a.teacher && a.prototypes && a.center && a.dz && a.order;
    int rc = complete ? loss_workspace_new(o, &a.workspace) : ERR_MEMORY;
    if (rc == 0) {
        for (uint32_t k = 0; k < o->K; k++)
            a.order[k] = o->K - 1 - k;
        vec_normalise_rows(a.prototypes, o->K, o->D, NULL);
        loss_decoupled(o, a.student, a.teacher, a.prototypes, o->objective == LOSS_CARP ? a.order : NULL,
                       o->objective == LOSS_DINO ? a.center : NULL, a.workspace, &result, a.dz);
        hash_floats(h, a.dz, rows);
        const double values[] = {result.loss, result.consistency, result.entropy, result.mean_entropy,
                                 result.coding_rate};
        XXH64_update(h, values, sizeof values);
    }
    loss_workspace_free(&a.workspace);
    float *const all[] = {a.student, a.teacher, a.prototypes, a.center, a.dz};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(a.order);
    return rc;
}

static int add_losses(XXH64_state_t *h)
{
    int rc = 0;
    struct loss_options o = {.b = 5,
                             .K = 60,
                             .block = 20,
                             .tau_s = 0.1f,
                             .tau_t = 0.07f,
                             .entropy_weight = 3,
                             .sinkhorn_epsilon = 0.05f,
                             .sinkhorn_iterations = 3,
                             .mean_entropy = 2,
                             .coding_rate = 1,
                             .coding_rate_epsilon = 0.5f,
                             .normalise = 1};
    const int objectives[] = {LOSS_CARP, LOSS_DINO, LOSS_SWAV};
    const uint32_t dimensions[] = {27, 9}; /* more than the slot's rows, and fewer: the coding rate takes two ways */
    for (size_t i = 0; rc == 0 && i < sizeof objectives / sizeof objectives[0]; i++)
        for (size_t j = 0; rc == 0 && j < sizeof dimensions / sizeof dimensions[0]; j++) {
            o.objective = objectives[i];
            o.D = dimensions[j];
            rc = add_loss(h, &o);
        }
    return rc;
}

/* ---- the E-step ---- */

static void fill_mixture(struct mixture_view *v, const float *values)
{
    memcpy(v->mean, values, (size_t)v->K * v->D * sizeof(float));
    vec_normalise_rows(v->mean, v->K, v->D, NULL);
    for (size_t i = 0; i < (size_t)v->K * v->D; i++)
        v->variance[i] = (1.5f + values[i]) / (float)v->D;
    for (uint32_t k = 0; k < v->K; k++) {
        v->weight[k] = 1 / (float)v->K;
        v->log_const[k] = -0.5f * (float)v->D + values[k];
    }
    v->version = 1;
    v->beta = 0.8;
}

static void hash_estep(XXH64_state_t *h, const struct estep_result *r, const struct stats_rows *rows)
{
    const struct responsibilities *g = &r->gamma;
    XXH64_update(h, g->index, g->start[g->N] * sizeof *g->index);
    hash_floats(h, g->gamma, g->start[g->N]);
    hash_floats(h, r->extra.novel_distance, r->extra.V);
    XXH64_update(h, &r->extra.loglik, sizeof r->extra.loglik);
    hash_floats(h, rows->s1, (size_t)rows->R * rows->D);
    hash_floats(h, rows->s2, (size_t)rows->R * rows->D);
}

static int add_estep(XXH64_state_t *h, uint32_t N, uint32_t K, uint32_t D)
{
    struct estep_options o = {.drop = 1e-6f, .novel_max = 2};
    struct estep *s = NULL;
    struct mixture_view *v = NULL;
    struct estep_result result;
    struct stats_rows rows;
    float *embeddings = filled((size_t)N * D, 9), *values = filled((size_t)K * D, 10);
    int rc = embeddings && values ? mixture_view_new(K, D, COVARIANCE_DIAGONAL, &v) : ERR_MEMORY;
    if (rc == 0)
        rc = estep_new(N, K, D, o, &s);
    stats_rows_init(&rows);
    if (rc == 0) {
        fill_mixture(v, values);
        vec_normalise_rows(embeddings, N, D, NULL);
        estep_use(s, v);
        estep_run(s, embeddings, N, &result);
        rc = stats_accumulate(embeddings, &result.gamma, K, D, COVARIANCE_DIAGONAL, &rows);
    }
    if (rc == 0)
        hash_estep(h, &result, &rows);
    stats_rows_fini(&rows);
    estep_free(&s);
    mixture_view_free(&v);
    free(embeddings);
    free(values);
    return rc;
}

/* OpenBLAS has kernels of their own for products of up to 100^3; sums over the inner dimension, which is 2 D, are cut
 * at a length that depends on the kernel. */
static int add_esteps(XXH64_state_t *h)
{
    int rc = add_estep(h, 7, 33, 10);
    if (rc == 0)
        rc = add_estep(h, 96, 200, 64);
    return rc == 0 ? add_estep(h, 24, 48, 520) : rc;
}

int numerics_fingerprint(enum encoder_precision precision, uint64_t *out)
{
    static int (*const parts[])(XXH64_state_t *) = {add_vectors,        add_libm,   add_views,
                                                    add_float32_models, add_losses, add_esteps};
    XXH64_state_t *state = XXH64_createState();
    int rc = state ? 0 : ERR_MEMORY;
    if (rc == 0)
        XXH64_reset(state, SEED);
    for (size_t i = 0; rc == 0 && i < sizeof parts / sizeof parts[0]; i++)
        rc = parts[i](state);
    if (rc == 0 && precision == PRECISION_BF16)
        rc = add_models(state, precision);
    if (rc == 0)
        *out = fingerprint_of(XXH64_digest(state));
    XXH64_freeState(state);
    return rc;
}
