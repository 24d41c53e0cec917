/* The residual encoder against PyTorch in float64: features and projections in training and evaluation, a sum over
 * every tensor's gradient, and what goes into the running statistics (tests/golden/make_resnet.py, which says where
 * the numbers come from). */
#include "tests/unit/worker/nn_support.h"

#include <jansson.h>
#include <string.h>
#include "proto/choices.h"
#include "tests/unit/kernels_each.h"
#include "worker/nn/model.h"

enum { ROWS = 6, IMAGES = 1 << 24, WEIGHTS = 2 << 24, PROBE = 3 << 24 };

static const struct model_spec small = {.family = ENCODER_RESNET,
                                        .height = 8,
                                        .width = 11,
                                        .channels = 3,
                                        .groups = 2,
                                        .layers = RESNET_10,
                                        .base = 4,
                                        .hidden = 9,
                                        .projection = 5};

/* A network is deep: its sums lose more than one layer's (nn_support.h). Gradients pass all of it twice. */
static const double OUTPUT_TOLERANCE = sizeof(real) == sizeof(double) ? 1e-11 : 2e-5;
static const double GRADIENT_TOLERANCE = sizeof(real) == sizeof(double) ? 1e-10 : 1e-3;

static double value(uint32_t index)
{
    uint32_t x = index;
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    x ^= x >> 16;
    return ((double)(x >> 8) - 8388608) / 8388608;
}

static real *values(uint32_t first, size_t n)
{
    real *x = nn_take(n);
    for (size_t i = 0; i < n; i++)
        x[i] = (real)value(first + (uint32_t)i);
    return x;
}

struct golden {
    json_t *json;
    struct model *model;
    const struct manifest *manifest;
    struct model_workspace *ws;
    real *params, *buffers, *images, *features, *z;
};

static bool is_scale(const struct manifest_entry *p)
{
    const char *dot = strrchr(p->name, '.');
    return p->rank == 1 && strcmp(dot, ".weight") == 0;
}

static void golden_open(struct golden *g, enum encoder_norm norm)
{
    struct model_spec spec = small;
    struct error e;
    json_error_t error;
    spec.norm = norm;
    g->json = json_load_file(
        norm == ENCODER_NORM_BATCH ? "tests/golden/resnet_batch.json" : "tests/golden/resnet_group.json", 0, &error);
    assert_non_null(g->json);
    assert_int_equal(model_new(&spec, &g->model, &e), 0);
    assert_int_equal(model_workspace_new(g->model, ROWS, &g->ws), 0);
    g->manifest = model_manifest(g->model);
    g->params = values(0, g->manifest->parameter_floats);
    for (size_t t = 0; t < g->manifest->parameter_count; t++) {
        const struct manifest_entry *p = &g->manifest->parameters[t];
        for (real *x = g->params + p->offset; x < g->params + p->offset + p->count; x++)
            *x = is_scale(p) ? 1 + *x / 4 : *x / 2;
    }
    g->buffers = nn_take(g->manifest->buffer_floats);
    g->images = values(IMAGES, (size_t)ROWS * spec.height * spec.width * spec.channels);
    g->features = nn_take((size_t)ROWS * model_feature_width(g->model));
    g->z = nn_take((size_t)ROWS * spec.projection);
}

static void golden_close(struct golden *g)
{
    real *all[] = {g->params, g->buffers, g->images, g->features, g->z};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    model_workspace_free(&g->ws);
    model_free(&g->model);
    json_decref(g->json);
}

static void expect(const struct golden *g, const char *name, const real *got, size_t n)
{
    const json_t *want = json_object_get(g->json, name);
    double scale = 0;
    assert_int_equal(json_array_size(want), n);
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(json_number_value(json_array_get(want, i))));
    for (size_t i = 0; i < n; i++) {
        double w = json_number_value(json_array_get(want, i));
        if (!(fabs((double)got[i] - w) <= OUTPUT_TOLERANCE * scale))
            fail_msg("%s[%zu] = %.12g, PyTorch %.12g, scale %g", name, i, (double)got[i], w, scale);
    }
}

/* The manifest's norms of the head are called bn. */
static const json_t *gradient_of(const struct golden *g, const char *tensor)
{
    char name[64];
    snprintf(name, sizeof name, "%s", tensor);
    if (strncmp(name, "head.bn", 7) == 0)
        snprintf(name, sizeof name, "head.norm%s", tensor + 7);
    return json_object_get(json_object_get(g->json, "gradients"), name);
}

static void expect_gradient(const struct golden *g, const struct manifest_entry *p, const real *grad, double overall)
{
    const json_t *want = gradient_of(g, p->name);
    if (!want)
        fail_msg("PyTorch has no %s", p->name);
    double norm = 0, sum = 0, scale = fmax(json_number_value(json_array_get(want, 0)), 1e-3 * overall);
    for (size_t i = 0; i < p->count; i++) {
        norm += (double)grad[p->offset + i] * (double)grad[p->offset + i];
        sum += (double)grad[p->offset + i] * value(PROBE + (uint32_t)i);
    }
    const double got[] = {sqrt(norm), sum};
    for (size_t i = 0; i < 2; i++)
        if (!(fabs(got[i] - json_number_value(json_array_get(want, i))) <= GRADIENT_TOLERANCE * scale))
            fail_msg("%s: %s %.12g, PyTorch %.12g", p->name, i ? "sum" : "norm", got[i],
                     json_number_value(json_array_get(want, i)));
}

static void check_training(struct golden *g)
{
    size_t outputs = (size_t)ROWS * small.projection, n = g->manifest->parameter_floats;
    real *dz = values(WEIGHTS, outputs), *grad = nn_take(n), *statistics = nn_take(g->manifest->buffer_floats);
    double overall = 0;
    model_forward(g->model, MODEL_TRAIN, g->params, g->buffers, g->images, ROWS, g->ws, g->features, g->z);
    expect(g, "features", g->features, (size_t)ROWS * model_feature_width(g->model));
    expect(g, "z", g->z, outputs);
    model_buffer_contribution(g->model, g->ws, statistics);
    expect(g, "buffers", statistics, g->manifest->buffer_floats);
    model_backward(g->model, g->params, dz, NULL, g->ws, grad);
    for (size_t i = 0; i < n; i++)
        overall += (double)grad[i] * (double)grad[i];
    for (size_t t = 0; t < g->manifest->parameter_count; t++)
        expect_gradient(g, &g->manifest->parameters[t], grad, sqrt(overall));
    free(dz);
    free(grad);
    free(statistics);
}

static void check_evaluation(struct golden *g)
{
    for (size_t t = 0; t < g->manifest->buffer_count; t++) {
        const struct manifest_entry *b = &g->manifest->buffers[t];
        bool variance = strcmp(strrchr(b->name, '.'), ".var") == 0;
        for (uint32_t i = 0; i < b->count; i++)
            g->buffers[b->offset + i] = (real)(variance ? 1 + value(7 + i) / 2 : value(i) / 4);
    }
    model_forward(g->model, MODEL_EVAL, g->params, g->buffers, g->images, ROWS, g->ws, g->features, g->z);
    expect(g, "evaluated", g->features, (size_t)ROWS * model_feature_width(g->model));
    expect(g, "evaluated_z", g->z, (size_t)ROWS * small.projection);
}

/* The teacher's pass measures its batch as the student's does. */
static void check_teacher(struct golden *g)
{
    size_t n = g->manifest->buffer_floats;
    real *student = nn_take(n), *teacher = nn_take(n);
    model_forward(g->model, MODEL_TRAIN, g->params, g->buffers, g->images, ROWS, g->ws, NULL, g->z);
    model_buffer_contribution(g->model, g->ws, student);
    model_forward(g->model, MODEL_TEACHER, g->params, g->buffers, g->images, ROWS, g->ws, NULL, g->z);
    model_buffer_contribution(g->model, g->ws, teacher);
    assert_memory_equal(teacher, student, n * sizeof(real));
    free(student);
    free(teacher);
}

static void check(enum encoder_norm norm)
{
    struct golden g;
    golden_open(&g, norm);
    check_training(&g);
    check_evaluation(&g);
    check_teacher(&g);
    golden_close(&g);
}

static void test_group(void **state)
{
    (void)state;
    check(ENCODER_NORM_GROUP);
}

static void test_batch(void **state)
{
    (void)state;
    check(ENCODER_NORM_BATCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_group), cmocka_unit_test(test_batch)};
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
