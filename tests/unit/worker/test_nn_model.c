/* Whole models: configuration errors, manifest, initial values, the convolutional network against a slow one in float64
 * in all three modes, and what the slot's purity rests on: a sample's features depend on that sample alone, and a
 * workspace has no memory. */
#include "tests/unit/worker/nn_support.h"

#include <math.h>
#include <string.h>
#include "proto/run_config.h"
#include "worker/nn/model.h"

enum { HIDDEN = 12, PROJECTION = 6 };

static struct model_spec conv_spec(void)
{
    return (struct model_spec){.family = ENCODER_CONV,
                               .height = 9,
                               .width = 6,
                               .channels = 2,
                               .stages = 2,
                               .widths = {6, 10},
                               .groups = 2,
                               .hidden = HIDDEN,
                               .projection = PROJECTION};
}

static struct model_spec recipe_spec(void)
{
    return (struct model_spec){.family = ENCODER_CONV,
                               .height = 28,
                               .width = 28,
                               .channels = 1,
                               .stages = 4,
                               .widths = {24, 48, 96, 192},
                               .groups = 8,
                               .hidden = 256,
                               .projection = 128};
}

static struct model_spec vit_spec(enum vit_pool pool)
{
    return (struct model_spec){.family = ENCODER_VIT,
                               .height = 8,
                               .width = 12,
                               .channels = 1,
                               .patch = 4,
                               .dim = 16,
                               .depth = 2,
                               .heads = 2,
                               .mlp = 2,
                               .pool = pool,
                               .hidden = HIDDEN,
                               .projection = PROJECTION};
}

static struct model_spec resnet_spec(enum encoder_norm norm)
{
    return (struct model_spec){.family = ENCODER_RESNET,
                               .height = 7,
                               .width = 10,
                               .channels = 3,
                               .groups = 2,
                               .layers = RESNET_10,
                               .base = 4,
                               .norm = norm,
                               .hidden = HIDDEN,
                               .projection = PROJECTION};
}

struct rig {
    struct model *model;
    struct model_workspace *ws;
    const struct manifest *manifest;
    struct model_spec spec;
    uint32_t R, F;
    real *params, *buffers, *images, *features, *z;
};

static void rig_open(struct rig *g, struct model_spec spec, uint32_t R)
{
    struct error e;
    *g = (struct rig){.spec = spec, .R = R};
    assert_int_equal(model_new(&spec, &g->model, &e), 0);
    assert_int_equal(model_workspace_new(g->model, R, &g->ws), 0);
    g->manifest = model_manifest(g->model);
    g->F = model_feature_width(g->model);
    g->params = nn_take(g->manifest->parameter_floats);
    g->buffers = nn_take(g->manifest->buffer_floats);
    g->images = nn_random(5, (size_t)R * spec.height * spec.width * spec.channels);
    g->features = nn_take((size_t)R * g->F);
    g->z = nn_take((size_t)R * spec.projection);
    model_init(g->model, 1, g->params, g->buffers);
    real *noise = nn_random(6, g->manifest->parameter_floats);
    for (size_t i = 0; i < g->manifest->parameter_floats; i++)
        g->params[i] += REAL(0.1) * noise[i];
    free(noise);
}

static void rig_close(struct rig *g)
{
    model_workspace_free(&g->ws);
    model_free(&g->model);
    real *all[] = {g->params, g->buffers, g->images, g->features, g->z};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void rig_forward(struct rig *g, enum model_mode mode)
{
    model_forward(g->model, mode, g->params, g->buffers, g->images, g->R, g->ws, g->features, g->z);
}

/* ---- configuration ---- */

static void expect_refused(struct model_spec spec, const char *key)
{
    struct error e = {0};
    struct model *m = NULL;
    assert_int_equal(model_new(&spec, &m, &e), ERR_CONFIG);
    assert_null(m);
    if (!strstr(e.text, key))
        fail_msg("'%s' does not name %s", e.text, key);
}

static void test_refused(void **state)
{
    (void)state;
    struct model_spec s = conv_spec();
    s.groups = 4;
    expect_refused(s, "encoder.groups");
    s = conv_spec();
    s.stages = 0;
    expect_refused(s, "encoder.widths");
    s = conv_spec();
    s.hidden = 0;
    expect_refused(s, "head.hidden");
    s = conv_spec();
    s.projection = 0;
    expect_refused(s, "mixture.dimensions");
    s = conv_spec();
    s.channels = 0;
    expect_refused(s, "images");
    s = conv_spec();
    s.family = 77;
    expect_refused(s, "encoder.model");
    s = vit_spec(VIT_POOL_CLS);
    s.patch = 5;
    expect_refused(s, "encoder.patch");
    s = vit_spec(VIT_POOL_CLS);
    s.heads = 3;
    expect_refused(s, "encoder.heads");
    s = vit_spec(VIT_POOL_CLS);
    s.depth = 65;
    expect_refused(s, "encoder.depth");
    s = resnet_spec(ENCODER_NORM_GROUP);
    s.groups = 3;
    expect_refused(s, "encoder.groups");
    s.groups = 0;
    expect_refused(s, "encoder.groups");
    s.base = 0;
    expect_refused(s, "encoder.width");
}

/* ---- manifest and initial values ---- */

static const struct manifest_entry *entry_of(const struct manifest *m, const char *name, bool buffer)
{
    const struct manifest_entry *entries = buffer ? m->buffers : m->parameters;
    size_t n = buffer ? m->buffer_count : m->parameter_count;
    for (size_t i = 0; i < n; i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void test_manifest(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, recipe_spec(), 2);
    assert_int_equal(g.manifest->parameter_floats, 367784);
    assert_int_equal(g.manifest->buffer_floats, 4 * 256);
    const struct manifest_entry *conv = entry_of(g.manifest, "conv1.weight", false);
    assert_int_equal(conv->shape[0], 24);
    assert_int_equal(conv->shape[1], 9);
    for (size_t i = 0; i < g.manifest->parameter_count; i++) {
        const struct manifest_entry *p = &g.manifest->parameters[i];
        assert_int_equal(p->decay, p->rank > 1);
        assert_true(p->clip && !p->unit_rows && p->lr_scale == 1);
    }
    assert_true(entry_of(g.manifest, "head.bn2.var", true)->momentum == 0.1);
    assert_int_equal(g.F, 192);
    rig_close(&g);
}

static double deviation(const real *x, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    return sqrt(squares / (double)n - sum * sum / (double)n / (double)n);
}

static void test_initial_values(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, recipe_spec(), 2);
    size_t n = g.manifest->parameter_floats;
    real *again = nn_take(n), *other = nn_take(n), *buffers = nn_take(g.manifest->buffer_floats);
    model_init(g.model, 1, g.params, g.buffers);
    model_init(g.model, 1, again, buffers);
    model_init(g.model, 2, other, buffers);
    assert_memory_equal(g.params, again, n * sizeof(real));
    assert_memory_not_equal(g.params, other, n * sizeof(real));
    const struct manifest_entry *conv = entry_of(g.manifest, "conv3.weight", false);
    double bound = 1 / sqrt(9.0 * 48); /* U(-bound, bound) has deviation bound / sqrt 3 */
    for (size_t i = 0; i < conv->count; i++)
        assert_true(fabs((double)g.params[conv->offset + i]) <= bound);
    assert_true(fabs(deviation(g.params + conv->offset, conv->count) / (bound / sqrt(3)) - 1) < 0.05);
    const struct manifest_entry *linear = entry_of(g.manifest, "head.linear1.weight", false);
    assert_true(fabs(deviation(g.params + linear->offset, linear->count) / 0.02 - 1) < 0.05);
    assert_true(g.params[entry_of(g.manifest, "norm2.weight", false)->offset] == 1);
    assert_true(g.params[entry_of(g.manifest, "head.linear3.bias", false)->offset] == 0);
    assert_true(buffers[entry_of(g.manifest, "head.bn1.var", true)->offset + 5] == 1);
    free(again);
    free(other);
    free(buffers);
    rig_close(&g);
}

/* ---- the slow network ---- */

struct slow {
    const struct rig *g;
    size_t height, width, channels; /* of the current activation */
    double *x;                      /* (R, height, width, channels), later (R, channels) */
};

static const real *tensor(const struct slow *s, const char *prefix, int i, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%d.%s", prefix, i, name);
    return s->g->params + entry_of(s->g->manifest, full, false)->offset;
}

static double pixel(const struct slow *s, size_t sample, size_t y, size_t x, size_t c)
{
    if (y == 0 || x == 0 || y > s->height || x > s->width)
        return 0;
    return s->x[((sample * s->height + y - 1) * s->width + x - 1) * s->channels + c];
}

static void slow_conv(struct slow *s, const real *weight, size_t out)
{
    size_t height = (s->height + 1) / 2, width = (s->width + 1) / 2, p = 0;
    double *y = calloc(s->g->R * height * width * out, sizeof *y);
    for (size_t r = 0; r < s->g->R * height * width; r++)
        for (size_t o = 0; o < out; o++, p++)
            for (size_t k = 0; k < 9 * s->channels; k++) {
                size_t tap = k / s->channels, at = r % (height * width);
                y[p] +=
                    (double)weight[o * 9 * s->channels + k] * pixel(s, r / (height * width), 2 * (at / width) + tap / 3,
                                                                    2 * (at % width) + tap % 3, k % s->channels);
            }
    free(s->x);
    s->x = y;
    s->height = height;
    s->width = width;
    s->channels = out;
}

static void slow_groupnorm(struct slow *s, const real *gamma, const real *beta, size_t groups)
{
    size_t size = s->channels / groups, pixels = s->height * s->width, count = pixels * size;
    for (size_t k = 0; k < s->g->R * groups; k++) {
        double *x = s->x + k / groups * pixels * s->channels + k % groups * size, mean = 0, variance = 0;
        for (size_t i = 0; i < count; i++)
            mean += x[i / size * s->channels + i % size] / (double)count;
        for (size_t i = 0; i < count; i++)
            variance += pow(x[i / size * s->channels + i % size] - mean, 2) / (double)count;
        for (size_t i = 0; i < count; i++) {
            double *value = &x[i / size * s->channels + i % size];
            size_t c = k % groups * size + i % size;
            *value = fmax(0, (*value - mean) / sqrt(variance + 1e-5) * (double)gamma[c] + (double)beta[c]);
        }
    }
}

static void slow_pool(struct slow *s)
{
    size_t pixels = s->height * s->width;
    double *y = calloc(s->g->R * s->channels, sizeof *y);
    for (size_t i = 0; i < s->g->R * pixels * s->channels; i++)
        y[i / (pixels * s->channels) * s->channels + i % s->channels] += s->x[i] / (double)pixels;
    free(s->x);
    s->x = y;
}

static void slow_linear(struct slow *s, const real *weight, const real *bias, size_t out)
{
    double *y = calloc(s->g->R * out, sizeof *y);
    for (size_t i = 0; i < s->g->R * out; i++) {
        y[i] = (double)bias[i % out];
        for (size_t k = 0; k < s->channels; k++)
            y[i] += (double)weight[i % out * s->channels + k] * s->x[i / out * s->channels + k];
    }
    free(s->x);
    s->x = y;
    s->channels = out;
}

/* mean and variance are outputs with batch statistics, inputs without. */
static void slow_batchnorm_gelu(struct slow *s, const real *gamma, const real *beta, bool batch, double *mean,
                                double *variance)
{
    size_t n = s->channels, R = s->g->R;
    for (size_t j = 0; batch && j < n; j++) {
        mean[j] = variance[j] = 0;
        for (size_t r = 0; r < R; r++)
            mean[j] += s->x[r * n + j] / (double)R;
        for (size_t r = 0; r < R; r++)
            variance[j] += pow(s->x[r * n + j] - mean[j], 2) / (double)R;
    }
    for (size_t i = 0; i < R * n; i++) {
        size_t j = i % n;
        double u = (s->x[i] - mean[j]) / sqrt(variance[j] + 1e-5) * (double)gamma[j] + (double)beta[j];
        s->x[i] = u * 0.5 * erfc(-u / sqrt(2));
    }
}

struct statistics {
    double mean[2][HIDDEN], variance[2][HIDDEN];
};

/* features (R,F) and z (R,projection), both to be freed. */
static void slow_forward(const struct rig *g, bool batch, struct statistics *t, double **features, double **z)
{
    const struct model_spec *spec = &g->spec;
    size_t pixels = (size_t)g->R * spec->height * spec->width * spec->channels;
    struct slow s = {.g = g, .height = spec->height, .width = spec->width, .channels = spec->channels};
    s.x = calloc(pixels, sizeof *s.x);
    for (size_t i = 0; i < pixels; i++)
        s.x[i] = (double)g->images[i];
    for (int i = 1; i <= (int)spec->stages; i++) {
        slow_conv(&s, tensor(&s, "conv", i, "weight"), spec->widths[i - 1]);
        slow_groupnorm(&s, tensor(&s, "norm", i, "weight"), tensor(&s, "norm", i, "bias"), spec->groups);
    }
    slow_pool(&s);
    *features = calloc((size_t)g->R * g->F, sizeof **features);
    memcpy(*features, s.x, (size_t)g->R * g->F * sizeof **features);
    for (int i = 1; i <= 3; i++) {
        slow_linear(&s, tensor(&s, "head.linear", i, "weight"), tensor(&s, "head.linear", i, "bias"),
                    i < 3 ? HIDDEN : PROJECTION);
        if (i < 3)
            slow_batchnorm_gelu(&s, tensor(&s, "head.bn", i, "weight"), tensor(&s, "head.bn", i, "bias"), batch,
                                t->mean[i - 1], t->variance[i - 1]);
    }
    *z = s.x;
}

/* Everything that a forward pass says, with tolerance for a network's depth. */
static void assert_same(const char *what, const real *got, const double *want, size_t n)
{
    double scale = 0;
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 10 * NN_TOLERANCE * scale))
            fail_msg("%s[%zu] = %.9g, expected %.9g", what, i, (double)got[i], want[i]);
}

static void check_against_slow(struct model_spec spec, uint32_t R, enum model_mode mode)
{
    struct rig g;
    struct statistics t;
    double *features, *z;
    rig_open(&g, spec, R);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < HIDDEN; j++) {
            g.buffers[(2 * i) * HIDDEN + j] = (real)(t.mean[i][j] = 0.1 * j - 0.3 * i);
            g.buffers[(2 * i + 1) * HIDDEN + j] = (real)(t.variance[i][j] = 0.5 + 0.2 * j + i);
        }
    slow_forward(&g, mode != MODEL_EVAL, &t, &features, &z);
    rig_forward(&g, mode);
    assert_same("features", g.features, features, (size_t)R * g.F);
    assert_same("z", g.z, z, (size_t)R * PROJECTION);
    if (mode == MODEL_TRAIN) {
        real *contribution = nn_take(g.manifest->buffer_floats);
        model_buffer_contribution(g.model, g.ws, contribution);
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < HIDDEN; j++)
                t.variance[i][j] *= (double)R / (R - 1);
            assert_same("mean", contribution + 2 * i * HIDDEN, t.mean[i], HIDDEN);
            assert_same("variance", contribution + (2 * i + 1) * HIDDEN, t.variance[i], HIDDEN);
        }
        free(contribution);
    }
    free(features);
    free(z);
    rig_close(&g);
}

static void test_against_slow(void **state)
{
    (void)state;
    struct model_spec odd = conv_spec(), deep = conv_spec();
    deep.height = deep.width = 28;
    deep.channels = 1;
    deep.stages = 4;
    for (int i = 0; i < 4; i++)
        deep.widths[i] = 6 + 2 * i;
    for (int mode = MODEL_TRAIN; mode <= MODEL_EVAL; mode++) {
        check_against_slow(odd, 5, mode);
        check_against_slow(deep, 35, mode);
    }
}

/* ---- purity ---- */

/* Alone in pairs, a sample has the same features, bit for bit, as among seventy, whose pass spans several chunks. */
static void check_independence(struct model_spec spec)
{
    struct rig g;
    uint32_t R = 70;
    size_t image = (size_t)spec.height * spec.width * spec.channels;
    rig_open(&g, spec, R);
    rig_forward(&g, MODEL_EVAL);
    real *pair = nn_take((size_t)2 * g.F);
    for (uint32_t i = 0; i + 2 <= R; i += 17) {
        model_forward(g.model, MODEL_EVAL, g.params, g.buffers, g.images + i * image, 2, g.ws, pair, NULL);
        assert_memory_equal(pair, g.features + (size_t)i * g.F, (size_t)2 * g.F * sizeof(real));
    }
    free(pair);
    rig_close(&g);
}

static void test_samples_are_independent(void **state)
{
    (void)state;
    check_independence(conv_spec());
    check_independence(vit_spec(VIT_POOL_CLS));
    check_independence(vit_spec(VIT_POOL_MEAN));
    check_independence(resnet_spec(ENCODER_NORM_GROUP));
    check_independence(resnet_spec(ENCODER_NORM_BATCH)); /* with running statistics */
}

/* Forward and backward in a used workspace give the bytes of a fresh one. */
static void check_no_memory(struct model_spec spec)
{
    struct rig g;
    rig_open(&g, spec, 40);
    size_t n = g.manifest->parameter_floats, outputs = (size_t)40 * spec.projection;
    real *dz = nn_random(8, outputs), *first = nn_take(n), *second = nn_take(n), *z = nn_take(outputs);
    rig_forward(&g, MODEL_TRAIN);
    model_backward(g.model, g.params, dz, NULL, g.ws, first);
    memcpy(z, g.z, outputs * sizeof(real));
    real kept = g.images[0];
    g.images[0] = 100;
    rig_forward(&g, MODEL_TEACHER);
    rig_forward(&g, MODEL_TRAIN);
    model_backward(g.model, g.params, dz, NULL, g.ws, second);
    assert_memory_not_equal(first, second, n * sizeof(real));
    g.images[0] = kept;
    rig_forward(&g, MODEL_TRAIN);
    model_backward(g.model, g.params, dz, NULL, g.ws, second);
    assert_memory_equal(z, g.z, outputs * sizeof(real));
    assert_memory_equal(first, second, n * sizeof(real));
    free(dz);
    free(first);
    free(second);
    free(z);
    rig_close(&g);
}

static void test_workspace_has_no_memory(void **state)
{
    (void)state;
    check_no_memory(conv_spec());
    check_no_memory(vit_spec(VIT_POOL_CLS));
    check_no_memory(resnet_spec(ENCODER_NORM_GROUP));
    check_no_memory(resnet_spec(ENCODER_NORM_BATCH));
}

/* The float gradient, too, is a gradient: a small step along it changes sum dz.z by its squared length. */
static void check_descent(struct model_spec spec)
{
    struct rig g;
    rig_open(&g, spec, 16);
    size_t n = g.manifest->parameter_floats, outputs = (size_t)16 * spec.projection;
    real *dz = nn_random(8, outputs), *grad = nn_take(n), *start = nn_take(n);
    double value[2] = {0}, length = 0;
    rig_forward(&g, MODEL_TRAIN);
    model_backward(g.model, g.params, dz, NULL, g.ws, grad);
    memcpy(start, g.params, n * sizeof(real));
    for (size_t i = 0; i < n; i++)
        length += (double)grad[i] * (double)grad[i];
    double step = 5e-3 / sqrt(length);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            g.params[i] = (real)((double)start[i] + (side ? step : -step) * (double)grad[i]);
        rig_forward(&g, MODEL_TEACHER);
        for (size_t i = 0; i < outputs; i++)
            value[side] += (double)dz[i] * (double)g.z[i];
    }
    assert_true(fabs((value[1] - value[0]) / (2 * step * length) - 1) < 0.02);
    free(dz);
    free(grad);
    free(start);
    rig_close(&g);
}

static void test_descent(void **state)
{
    (void)state;
    check_descent(conv_spec());
    check_descent(vit_spec(VIT_POOL_CLS));
    check_descent(vit_spec(VIT_POOL_MEAN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_initial_values),
        cmocka_unit_test(test_against_slow),
        cmocka_unit_test(test_samples_are_independent),
        cmocka_unit_test(test_workspace_has_no_memory),
        cmocka_unit_test(test_descent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
