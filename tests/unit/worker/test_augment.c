/* Views against a slow double reference, written per pixel from grid_sample's definition; draws, limits, determinism.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/rng.h"
#include "worker/data/augment.h"
#include "worker/data/limits.h"

static const struct augment_options recipe = {0.3f, 1, 4.f / 3, 0.5f, 0.8f, 0.4f, 0.4f, 0.286f, 0.353f};

static double pixel(const uint8_t *image, int H, int W, int C, int y, int x, int c)
{
    return y < 0 || x < 0 || y >= H || x >= W ? 0 : image[(y * W + x) * C + c] / 255.0;
}

static double sample(const uint8_t *image, int H, int W, int C, double y, double x, int c)
{
    int y0 = (int)floor(y), x0 = (int)floor(x);
    double fy = y - y0, fx = x - x0;
    return (1 - fy) * ((1 - fx) * pixel(image, H, W, C, y0, x0, c) + fx * pixel(image, H, W, C, y0, x0 + 1, c)) +
           fy * ((1 - fx) * pixel(image, H, W, C, y0 + 1, x0, c) + fx * pixel(image, H, W, C, y0 + 1, x0 + 1, c));
}

static double clamp(double v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

static void reference(const struct augment_options *o, const struct augment_draw *d, const uint8_t *image, int H, int W,
                      int C, double *out)
{
    double mean = 0;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < C; c++) {
                double gx = d->scale_x * ((2 * x + 1.0) / W - 1) + d->center_x;
                double gy = d->scale_y * ((2 * y + 1.0) / H - 1) + d->center_y;
                double v = sample(image, H, W, C, ((gy + 1) * H - 1) / 2, ((gx + 1) * W - 1) / 2, c);
                mean += out[(y * W + x) * C + c] = clamp(v * d->brightness);
            }
    mean /= H * W * C;
    for (int i = 0; i < H * W * C; i++)
        out[i] = (clamp((out[i] - mean) * d->contrast + mean) - o->mean) / o->deviation;
}

static void random_image(uint8_t *image, size_t n, uint64_t seed)
{
    struct rng r;
    rng_open(&r, seed, RNG_JITTER, 0, 0, 0);
    for (size_t i = 0; i < n; i++)
        image[i] = (uint8_t)rng_u32(&r);
}

static void compare(const struct augment_options *o, int H, int W, int C, uint64_t samples)
{
    size_t n = (size_t)(H * W * C);
    uint8_t *image = malloc(n);
    float *got = malloc(n * sizeof *got);
    double *want = malloc(n * sizeof *want);
    for (uint64_t s = 0; s < samples; s++) {
        struct augment_draw d;
        random_image(image, n, s);
        augment_draw(o, 7, 1, s, (uint32_t)(s & 1), &d);
        augment_view(o, image, (uint32_t)H, (uint32_t)W, (uint32_t)C, 7, 1, s, (uint32_t)(s & 1), got);
        reference(o, &d, image, H, W, C, want);
        for (size_t i = 0; i < n; i++) /* float coordinates: 1e-6 of the width, times a full step of brightness */
            if (fabs(got[i] - want[i]) > 2e-4)
                fail_msg("%dx%dx%d sample %d pixel %d: %g, expected %g", H, W, C, (int)s, (int)i, got[i], want[i]);
    }
    free(image);
    free(got);
    free(want);
}

static void test_one_pixel(void **state)
{
    (void)state;
    compare(&recipe, 1, 1, 1, 20);
}

static void test_reference(void **state)
{
    (void)state;
    compare(&recipe, 28, 28, 1, 200);
    compare(&recipe, 17, 9, 3, 50);
    compare(&recipe, 3, 40, 4, 20);
}

static void test_largest_image(void **state)
{
    (void)state;
    compare(&recipe, DATASET_SIDE_MAX, DATASET_SIDE_MAX, DATASET_CHANNELS_MAX, 1);
}

static void test_identity(void **state)
{
    (void)state;
    const struct augment_options still = {1, 1, 1, 0, 0, 0, 0, 0.5f, 0.25f};
    uint8_t image[28 * 28];
    float view[28 * 28], plain[28 * 28];
    random_image(image, sizeof image, 3);
    augment_view(&still, image, 28, 28, 1, 1, 2, 3, 0, view);
    augment_standardise(&still, image, 28 * 28, plain);
    for (size_t i = 0; i < sizeof image; i++)
        assert_float_equal(view[i], plain[i], 2e-5);
    assert_float_equal(plain[0], (image[0] / 255.0 - 0.5) / 0.25, 1e-6);
}

static void test_flip(void **state)
{
    (void)state;
    const struct augment_options flipped = {1, 1, 1, 1, 0, 0, 0, 0, 1};
    const uint8_t image[2 * 3] = {0, 51, 102, 153, 204, 255};
    const float want[2 * 3] = {0.4f, 0.2f, 0, 1, 0.8f, 0.6f};
    float view[2 * 3];
    augment_view(&flipped, image, 2, 3, 1, 1, 2, 3, 0, view);
    for (size_t i = 0; i < 6; i++)
        assert_float_equal(view[i], want[i], 1e-6);
}

static void test_draws_stay_in_range(void **state)
{
    (void)state;
    int flips = 0, jitters = 0;
    double area = 0;
    for (uint64_t s = 0; s < 4000; s++) {
        struct augment_draw d;
        augment_draw(&recipe, 1, 0, s, 0, &d);
        float width = fabsf(d.scale_x);
        assert_true(width > 0 && width <= 1 && d.scale_y > 0 && d.scale_y <= 1);
        assert_true(fabsf(d.center_x) + width <= 1.000001f && fabsf(d.center_y) + d.scale_y <= 1.000001f);
        assert_true(fabsf(d.brightness - 1) <= 0.4001f && fabsf(d.contrast - 1) <= 0.4001f);
        flips += d.scale_x < 0;
        jitters += d.brightness != 1;
        area += width * d.scale_y / 4000;
    }
    assert_in_range(flips, 1850, 2150);
    assert_in_range(jitters, 3080, 3320);
    assert_true(area > 0.6 && area < 0.66); /* 0.65 less what the image's edge cuts off wide and tall crops */
}

static void test_pure_function_of_its_name(void **state)
{
    (void)state;
    uint8_t image[28 * 28];
    float a[28 * 28], b[28 * 28];
    random_image(image, sizeof image, 9);
    augment_view(&recipe, image, 28, 28, 1, 1, 2, 3, 0, a);
    augment_view(&recipe, image, 28, 28, 1, 5, 5, 5, 1, b);
    assert_memory_not_equal(a, b, sizeof a);
    augment_view(&recipe, image, 28, 28, 1, 1, 2, 3, 0, b);
    assert_memory_equal(a, b, sizeof a);
    augment_view(&recipe, image, 28, 28, 1, 1, 2, 3, 1, b);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_pixel),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_flip),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_largest_image),
        cmocka_unit_test(test_draws_stay_in_range),
        cmocka_unit_test(test_pure_function_of_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
