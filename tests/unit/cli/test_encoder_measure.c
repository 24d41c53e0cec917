/* Statistics that are measured for an evaluation: those of the images, whatever the number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/encoder_load.h"
#include "cli/evaluation_meter.h"
#include "common/rng.h"
#include "worker/data/augment.h"

enum { IMAGES = 200, SIDE = 8, PIXELS = SIDE * SIDE, BLOCK = 64 };

struct bench {
    struct run_config config;
    struct dataset images;
    struct encoder encoder;
    uint32_t all[IMAGES];
    struct error e;
};

static int setup(void **state)
{
    static const char *const keys[] = {"encoder.widths=8,16",  "encoder.groups=4", "head.hidden=16",
                                       "mixture.dimensions=8", "data.mean=0.3",    "data.deviation=0.2"};
    struct bench *t = calloc(1, sizeof *t);
    struct rng r;
    assert_int_equal(run_config_load(&t->config, NULL, NULL, keys, sizeof keys / sizeof keys[0], &t->e), 0);
    t->images = (struct dataset){.count = IMAGES, .height = SIDE, .width = SIDE, .channels = 1};
    t->images.images = malloc(IMAGES * PIXELS);
    rng_open(&r, 1, RNG_JITTER, 0, 0, 0);
    for (uint32_t i = 0; i < IMAGES * PIXELS; i++)
        t->images.images[i] = (uint8_t)(rng_u32(&r) % 256 * (i / PIXELS) / IMAGES); /* later images are brighter */
    for (uint32_t i = 0; i < IMAGES; i++)
        t->all[i] = i;
    assert_int_equal(encoder_random(&t->config, &t->images, 7, &t->encoder, &t->e), 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct bench *t = *state;
    encoder_fini(&t->encoder);
    free(t->images.images);
    free(t);
    return 0;
}

static size_t floats(const struct bench *t)
{
    return model_manifest(t->encoder.model)->buffer_floats;
}

/* What the model says of these rows, added to sum. */
static void add_contribution(struct bench *t, const uint32_t *rows, uint32_t n, double *sum)
{
    struct model_workspace *ws;
    float *x = calloc((size_t)n * PIXELS, sizeof *x), *z = calloc((size_t)n * t->encoder.projection, sizeof *z);
    float *contribution = calloc(floats(t), sizeof *contribution);
    assert_int_equal(model_workspace_new(t->encoder.model, n, &ws), 0);
    for (uint32_t i = 0; i < n; i++)
        augment_standardise(&t->encoder.scale, 1, t->images.images + (size_t)rows[i] * PIXELS, PIXELS, x + i * PIXELS);
    model_forward(t->encoder.model, MODEL_TEACHER, t->encoder.params, t->encoder.buffers, x, n, ws, NULL, z);
    model_buffer_contribution(t->encoder.model, ws, contribution);
    for (size_t i = 0; i < floats(t); i++)
        sum[i] += contribution[i];
    model_workspace_free(&ws);
    free(x);
    free(z);
    free(contribution);
}

/* Three blocks of 64: every third image, so that each block has dark and bright ones; the last eight are left out. */
static void test_it_is_the_mean_over_blocks(void **state)
{
    struct bench *t = *state;
    double *sum = calloc(floats(t), sizeof *sum);
    for (uint32_t block = 0; block < 3; block++) {
        uint32_t rows[BLOCK];
        for (uint32_t i = 0; i < BLOCK; i++)
            rows[i] = 3 * i + block;
        add_contribution(t, rows, BLOCK, sum);
    }
    assert_int_equal(encoder_measure(&t->encoder, &t->images, t->all, IMAGES, 1, &t->e), 0);
    for (size_t i = 0; i < floats(t); i++)
        assert_true(t->encoder.buffers[i] == (float)(sum[i] / 3));
    free(sum);
}

static void test_threads_change_nothing(void **state)
{
    struct bench *t = *state;
    float *one = calloc(floats(t), sizeof *one);
    assert_int_equal(encoder_measure(&t->encoder, &t->images, t->all, IMAGES, 1, &t->e), 0);
    memcpy(one, t->encoder.buffers, floats(t) * sizeof *one);
    memset(t->encoder.buffers, 0, floats(t) * sizeof *one);
    assert_int_equal(encoder_measure(&t->encoder, &t->images, t->all, IMAGES, 3, &t->e), 0);
    assert_memory_equal(t->encoder.buffers, one, floats(t) * sizeof *one);
    free(one);
}

static void test_it_tells_how_far_it_is(void **state)
{
    struct bench *t = *state;
    struct evaluation_meter m;
    char text[256] = "";
    FILE *f = tmpfile();
    evaluation_meter_init(&m, "evaluating", f, true);
    evaluation_meter_stage(&m, "encoder", "statistics");
    m.shown = -1; /* long ago */
    t->encoder.meter = &m;
    assert_int_equal(encoder_measure(&t->encoder, &t->images, t->all, IMAGES, 1, &t->e), 0);
    t->encoder.meter = NULL;
    rewind(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    assert_non_null(strstr(text, "encoder: statistics  33 %"));
    fclose(f);
}

static void test_few_images(void **state)
{
    struct bench *t = *state;
    double *sum = calloc(floats(t), sizeof *sum);
    float *before = calloc(floats(t), sizeof *before);
    memcpy(before, t->encoder.buffers, floats(t) * sizeof *before);
    assert_int_equal(encoder_measure(&t->encoder, &t->images, t->all, 1, 2, &t->e), 0);
    assert_memory_equal(t->encoder.buffers, before, floats(t) * sizeof *before);
    add_contribution(t, t->all, 5, sum);
    assert_int_equal(encoder_measure(&t->encoder, &t->images, t->all, 5, 2, &t->e), 0);
    for (size_t i = 0; i < floats(t); i++)
        assert_true(t->encoder.buffers[i] == (float)sum[i]);
    free(sum);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_is_the_mean_over_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_tells_how_far_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_few_images, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
