/* Whole models by central finite differences: for L = sum of fixed random weights times z and times the features, the
 * gradient of every tensor at random coordinates, in double. */
#include <setjmp.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/rng.h"
#include "proto/run_config.h"
#include "worker/nn/model.h"

enum { COORDINATES = 6 }; /* checked per tensor */

struct probe {
    struct model *model;
    struct model_workspace *ws;
    const struct manifest *manifest;
    uint32_t R;
    size_t outputs, features_count;
    real *params, *buffers, *images, *z, *weights, *grad, *features, *feature_weights;
};

static void fill_normal(struct rng *r, real *x, size_t n, double deviation)
{
    for (size_t i = 0; i < n; i++)
        x[i] = deviation * rng_normal(r);
}

/* Away from the initial values: norms with scale one and shift zero would hide mistakes. */
static void probe_open(struct probe *p, const struct model_spec *spec, uint32_t R)
{
    struct error e;
    struct rng r;
    rng_open(&r, 7, RNG_INIT, 1000, 0, 0);
    assert_int_equal(model_new(spec, &p->model, &e), 0);
    p->manifest = model_manifest(p->model);
    p->R = R;
    p->outputs = (size_t)R * spec->projection;
    p->features_count = (size_t)R * model_feature_width(p->model);
    size_t pixels = (size_t)R * spec->height * spec->width * spec->channels;
    p->params = calloc(p->manifest->parameter_floats, sizeof(real));
    p->grad = calloc(p->manifest->parameter_floats, sizeof(real));
    p->buffers = calloc(p->manifest->buffer_floats, sizeof(real));
    p->images = calloc(pixels, sizeof(real));
    p->z = calloc(p->outputs, sizeof(real));
    p->weights = calloc(p->outputs, sizeof(real));
    p->features = calloc(p->features_count, sizeof(real));
    p->feature_weights = calloc(p->features_count, sizeof(real));
    model_init(p->model, 3, p->params, p->buffers);
    for (size_t i = 0; i < p->manifest->parameter_floats; i++)
        p->params[i] += 0.1 * rng_normal(&r);
    fill_normal(&r, p->images, pixels, 1);
    fill_normal(&r, p->weights, p->outputs, 1);
    fill_normal(&r, p->feature_weights, p->features_count, 1);
    assert_int_equal(model_workspace_new(p->model, R, &p->ws), 0);
}

static void probe_close(struct probe *p)
{
    model_workspace_free(&p->ws);
    model_free(&p->model);
    free(p->params);
    free(p->grad);
    free(p->buffers);
    free(p->images);
    free(p->z);
    free(p->weights);
    free(p->features);
    free(p->feature_weights);
}

static double probe_value(struct probe *p, enum model_mode mode)
{
    model_forward(p->model, mode, p->params, p->buffers, p->images, p->R, p->ws, p->features, p->z);
    double sum = 0;
    for (size_t i = 0; i < p->outputs; i++)
        sum += p->weights[i] * p->z[i];
    for (size_t i = 0; i < p->features_count; i++)
        sum += p->feature_weights[i] * p->features[i];
    return sum;
}

static double slope(struct probe *p, size_t i)
{
    const double step = 1e-6; /* small, since deep networks have a kink of some ReLU nearby */
    real kept = p->params[i];
    p->params[i] = kept + step;
    double above = probe_value(p, MODEL_TEACHER);
    p->params[i] = kept - step;
    double below = probe_value(p, MODEL_TEACHER);
    p->params[i] = kept;
    return (above - below) / (2 * step);
}

static double largest(const real *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

/* Errors are relative to the largest gradient of the tensor, and in a tensor whose gradient vanishes (a bias before
 * BatchNorm) to the whole gradient's. */
static void check_tensor(struct probe *p, const struct manifest_entry *entry, double overall, struct rng *r)
{
    double scale = largest(p->grad + entry->offset, entry->count);
    scale = scale > 1e-6 * overall ? scale : overall;
    for (int k = 0; k < COORDINATES; k++) {
        size_t i = entry->offset + rng_below(r, (uint32_t)entry->count);
        double want = slope(p, i);
        if (!(fabs(p->grad[i] - want) <= 1e-6 * scale))
            fail_msg("%s[%zu]: %.12g, finite differences %.12g, scale %g", entry->name, i - entry->offset, p->grad[i],
                     want, scale);
    }
}

static void check_model(const struct model_spec *spec, uint32_t R)
{
    struct probe p;
    struct rng r;
    rng_open(&r, 11, RNG_INIT, 1001, 0, 0);
    probe_open(&p, spec, R);
    for (size_t i = 0; i < p.manifest->parameter_floats; i++)
        p.grad[i] = NAN; /* every element must be written */
    probe_value(&p, MODEL_TRAIN);
    model_backward(p.model, p.params, p.weights, p.feature_weights, p.ws, p.grad);
    double overall = largest(p.grad, p.manifest->parameter_floats);
    for (size_t i = 0; i < p.manifest->parameter_floats; i++)
        assert_true(isfinite(p.grad[i]));
    for (size_t t = 0; t < p.manifest->parameter_count; t++)
        check_tensor(&p, &p.manifest->parameters[t], overall, &r);
    probe_close(&p);
}

static struct model_spec conv_spec(void)
{
    return (struct model_spec){.family = ENCODER_CONV,
                               .height = 28,
                               .width = 28,
                               .channels = 1,
                               .stages = 4,
                               .widths = {8, 16, 24, 32},
                               .groups = 4,
                               .hidden = 20,
                               .projection = 10};
}

static void test_conv_two_rows(void **state)
{
    (void)state;
    struct model_spec spec = conv_spec();
    check_model(&spec, 2);
}

static void test_conv_recipe(void **state)
{
    (void)state;
    struct model_spec spec = conv_spec();
    uint32_t widths[] = {24, 48, 96, 192};
    for (int i = 0; i < 4; i++)
        spec.widths[i] = widths[i];
    spec.groups = 8;
    spec.hidden = 64;
    spec.projection = 128;
    check_model(&spec, 6);
}

static void test_conv_more_rows_than_a_chunk(void **state)
{
    (void)state;
    struct model_spec spec = conv_spec();
    spec.height = spec.width = 9;
    check_model(&spec, 70);
}

/* Widths that fill no panel, three channels, images of odd and unequal sides. */
static void test_conv_odd_shapes(void **state)
{
    (void)state;
    struct model_spec spec = {.family = ENCODER_CONV,
                              .height = 11,
                              .width = 6,
                              .channels = 3,
                              .stages = 3,
                              .widths = {6, 10, 14},
                              .groups = 2,
                              .hidden = 9,
                              .projection = 5};
    check_model(&spec, 5);
    spec.height = 1;
    check_model(&spec, 5);
}

static struct model_spec vit_spec(enum vit_pool pool)
{
    return (struct model_spec){.family = ENCODER_VIT,
                               .height = 12,
                               .width = 8,
                               .channels = 1,
                               .patch = 4,
                               .dim = 24,
                               .depth = 2,
                               .heads = 3,
                               .mlp = 2,
                               .pool = pool,
                               .hidden = 20,
                               .projection = 10};
}

static void test_vit_cls(void **state)
{
    (void)state;
    struct model_spec spec = vit_spec(VIT_POOL_CLS);
    check_model(&spec, 2);
}

static void test_vit_mean(void **state)
{
    (void)state;
    struct model_spec spec = vit_spec(VIT_POOL_MEAN);
    spec.channels = 3;
    check_model(&spec, 67); /* more than a chunk */
}

/* One token only, one head, a single block. */
static void test_vit_smallest(void **state)
{
    (void)state;
    struct model_spec spec = vit_spec(VIT_POOL_MEAN);
    spec.height = spec.width = 4;
    spec.heads = spec.depth = spec.mlp = 1;
    check_model(&spec, 3);
}

static void test_vit_benchmark_shape(void **state)
{
    (void)state;
    struct model_spec spec = vit_spec(VIT_POOL_CLS);
    spec.height = spec.width = 28;
    spec.dim = 64;
    spec.heads = 4;
    check_model(&spec, 6);
}

static struct model_spec resnet_spec(enum encoder_norm norm)
{
    return (struct model_spec){.family = ENCODER_RESNET,
                               .height = 12,
                               .width = 9,
                               .channels = 1,
                               .groups = 2,
                               .layers = RESNET_10,
                               .base = 4,
                               .norm = norm,
                               .hidden = 20,
                               .projection = 10};
}

static void test_resnet_group(void **state)
{
    (void)state;
    struct model_spec spec = resnet_spec(ENCODER_NORM_GROUP);
    check_model(&spec, 2);
    spec.channels = 3;
    spec.height = spec.width = 5;
    check_model(&spec, 35); /* more than a chunk */
}

static void test_resnet_batch(void **state)
{
    (void)state;
    struct model_spec spec = resnet_spec(ENCODER_NORM_BATCH);
    spec.base = 3; /* no groups to divide */
    check_model(&spec, 3);
    spec.channels = 3;
    spec.height = spec.width = 5;
    check_model(&spec, 35);
}

/* Every kind of block; the deepest one only as deep as it takes to have a block after a block in each stage. */
static void test_resnet_18(void **state)
{
    (void)state;
    struct model_spec spec = resnet_spec(ENCODER_NORM_GROUP);
    spec.layers = RESNET_18;
    spec.height = spec.width = 8;
    check_model(&spec, 4);
    spec.norm = ENCODER_NORM_BATCH;
    check_model(&spec, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_two_rows),
        cmocka_unit_test(test_conv_odd_shapes),
        cmocka_unit_test(test_conv_more_rows_than_a_chunk),
        cmocka_unit_test(test_conv_recipe),
        cmocka_unit_test(test_vit_smallest),
        cmocka_unit_test(test_vit_cls),
        cmocka_unit_test(test_vit_mean),
        cmocka_unit_test(test_vit_benchmark_shape),
        cmocka_unit_test(test_resnet_group),
        cmocka_unit_test(test_resnet_batch),
        cmocka_unit_test(test_resnet_18),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
