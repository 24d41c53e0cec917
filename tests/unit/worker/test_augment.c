/* Views against a slow double reference, written per pixel from grid_sample's definition; draws, limits, determinism.
 */
#include <string.h>
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
#include "worker/data/augment_ops.h"
#include "worker/data/dataset.h"

#define EVEN(m, s)                                                                                                     \
    {                                                                                                                  \
        {m, m, m, m},                                                                                                  \
        {                                                                                                              \
            s, s, s, s                                                                                                 \
        }                                                                                                              \
    }

static const struct augment_options recipe = {.area_min = 0.3f,
                                              .area_max = 1,
                                              .aspect = 4.f / 3,
                                              .flip = 0.5f,
                                              .jitter = 0.8f,
                                              .brightness = 0.4f,
                                              .contrast = 0.4f,
                                              .scale = EVEN(0.286f, 0.353f)};
/* Everything at once, each often enough to be seen in a few views. */
static const struct augment_options everything = {.area_min = 0.3f,
                                                  .area_max = 1,
                                                  .aspect = 4.f / 3,
                                                  .flip = 0.5f,
                                                  .jitter = 0.8f,
                                                  .brightness = 0.4f,
                                                  .contrast = 0.4f,
                                                  .scale = {{0.286f, 0.5f, 0.1f, 0.7f}, {0.353f, 0.25f, 0.6f, 1}},
                                                  .saturation = 0.6f,
                                                  .hue = 0.3f,
                                                  .greyscale = 0.2f,
                                                  .blur = 0.6f,
                                                  .blur_sigma = 2,
                                                  .solarise = 0.3f,
                                                  .rotation = 40,
                                                  .shear = 20,
                                                  .erase = 0.5f,
                                                  .erase_area = 0.4f};

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

/* Turned views continue the edge outward. */
static double sample_inside(const uint8_t *image, int H, int W, int C, double y, double x, int c)
{
    return sample(image, H, W, C, fmin(fmax(y, 0), H - 1), fmin(fmax(x, 0), W - 1), c);
}

/* (y, x) spans -1..1 over the view. In pixels from the crop's centre: scaled, sheared along x, turned. */
static double reference_pixel(const struct augment_draw *d, const uint8_t *image, int H, int W, int C, double y,
                              double x, int c)
{
    double gx = d->scale_x * x, gy = d->scale_y * y;
    if (d->rotation == 0 && d->shear == 0)
        return sample(image, H, W, C, ((gy + d->center_y + 1) * H - 1) / 2, ((gx + d->center_x + 1) * W - 1) / 2, c);
    double px = gx * W / 2 + d->shear * gy * H / 2, py = gy * H / 2;
    double tx = cos(d->rotation) * px - sin(d->rotation) * py, ty = sin(d->rotation) * px + cos(d->rotation) * py;
    return sample_inside(image, H, W, C, ty + ((d->center_y + 1.0) * H - 1) / 2, tx + ((d->center_x + 1.0) * W - 1) / 2,
                         c);
}

/* Gauss in both directions at once, normalised over all taps, edges continued. */
static void reference_blur(double sigma, int H, int W, int C, double *x)
{
    int r = (int)ceil(3 * sigma);
    double *copy = malloc(sizeof *copy * (size_t)(H * W * C));
    memcpy(copy, x, sizeof *copy * (size_t)(H * W * C));
    for (int i = 0; i < H * W * C; i++) {
        int c = i % C, column = i / C % W, row = i / C / W;
        double sum = 0, weights = 0;
        for (int dy = -r; dy <= r; dy++)
            for (int dx = -r; dx <= r; dx++) {
                double weight = exp(-(dx * dx + dy * dy) / (2 * sigma * sigma));
                int sy = row + dy < 0 ? 0 : row + dy < H ? row + dy : H - 1;
                int sx = column + dx < 0 ? 0 : column + dx < W ? column + dx : W - 1;
                sum += weight * copy[(sy * W + sx) * C + c];
                weights += weight;
            }
        x[i] = sum / weights;
    }
    free(copy);
}

/* Rodrigues' rotation about (1,1,1)/sqrt(3), then a blend with the luma. */
static void reference_colour(double saturation, double hue, double v[3])
{
    double mean = (v[0] + v[1] + v[2]) / 3, c = cos(hue), s = sin(hue) / sqrt(3), turned[3];
    for (int i = 0; i < 3; i++) /* the cross product of the axis and v */
        turned[i] = c * v[i] + s * (v[(i + 2) % 3] - v[(i + 1) % 3]) + (1 - c) * mean;
    double luma = 0.299 * turned[0] + 0.587 * turned[1] + 0.114 * turned[2];
    for (int i = 0; i < 3; i++)
        v[i] = clamp(luma + saturation * (turned[i] - luma));
}

static bool erased(const struct augment_draw *d, int H, int W, int y, int x)
{
    return d->erase[2] > 0 && x >= (int)(d->erase[0] * (float)W) && x < (int)(d->erase[2] * (float)W + 0.5f) &&
           y >= (int)(d->erase[1] * (float)H) && y < (int)(d->erase[3] * (float)H + 0.5f);
}

static void reference(const struct augment_options *o, const struct augment_draw *d, const uint8_t *image, int IH,
                      int IW, int C, double *out)
{
    int H = o->side ? (int)o->side : IH, W = o->side ? (int)o->side : IW;
    double mean = 0;
    for (int i = 0; i < H * W * C; i++)
        out[i] = reference_pixel(d, image, IH, IW, C, (2 * (i / C / W) + 1.0) / H - 1, (2 * (i / C % W) + 1.0) / W - 1,
                                 i % C);
    if (d->sigma > 0)
        reference_blur(d->sigma, H, W, C, out);
    for (int i = 0; C == 3 && i < H * W; i++)
        reference_colour(d->saturation, d->hue, out + 3 * i);
    for (int i = 0; i < H * W * C; i++)
        mean += out[i] = clamp(out[i] * d->brightness);
    mean /= H * W * C;
    for (int i = 0; i < H * W * C; i++) {
        double v = clamp((out[i] - mean) * d->contrast + mean);
        v = d->solarise && v >= 0.5 ? 1 - v : v;
        out[i] = erased(d, H, W, i / C / W, i / C % W) ? 0 : (v - o->scale.mean[i % C]) / o->scale.deviation[i % C];
    }
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
    size_t bytes = (size_t)(H * W * C), n = o->side ? o->side * o->side * (size_t)C : bytes;
    uint8_t *image = malloc(bytes);
    float *got = malloc(n * sizeof *got);
    double *want = malloc(n * sizeof *want);
    for (uint64_t s = 0; s < samples; s++) {
        struct augment_draw d;
        random_image(image, bytes, s);
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

static void test_reference_of_everything(void **state)
{
    (void)state;
    compare(&everything, 1, 1, 3, 20);
    compare(&everything, 28, 28, 1, 100);
    compare(&everything, 32, 32, 3, 100);
    compare(&everything, 9, 17, 3, 50);
    compare(&everything, 40, 3, 4, 20);
}

/* Views smaller and larger than the image, upright and turned. */
static void test_reference_of_other_sizes(void **state)
{
    (void)state;
    struct augment_options local = recipe, turned = everything;
    local.side = turned.side = 11;
    local.area_min = 0.05f;
    local.area_max = 0.3f;
    compare(&local, 28, 28, 1, 50);
    compare(&local, 5, 9, 3, 50);
    compare(&turned, 28, 28, 1, 50);
    compare(&turned, 24, 31, 3, 50);
    turned.side = 40;
    compare(&turned, 9, 7, 3, 20);
    local.side = 1;
    compare(&local, 28, 28, 3, 20);
}

/* One at a time, so that none hides another. */
static void test_reference_of_each(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        struct augment_options o = recipe;
        o.saturation = i == 0 ? 1 : 0;
        o.hue = i == 1 ? 0.5f : 0;
        o.greyscale = i == 2 ? 1 : 0;
        o.blur = i == 3 ? 1 : 0;
        o.blur_sigma = AUGMENT_SIGMA_MAX;
        o.solarise = i == 4 ? 1 : 0;
        o.rotation = i == 5 ? 180 : 0;
        o.shear = i == 5 ? 0 : i == 6 ? 60 : 0;
        compare(&o, 19, 24, 3, 20);
    }
}

static void test_largest_image(void **state)
{
    (void)state;
    struct augment_options turned = recipe;
    turned.rotation = 90;
    turned.blur = 1;
    turned.blur_sigma = 0.5f;
    compare(&turned, DATASET_SIDE_MAX, DATASET_SIDE_MAX, DATASET_CHANNELS_MAX, 1);
    compare(&recipe, DATASET_SIDE_MAX, DATASET_SIDE_MAX, DATASET_CHANNELS_MAX, 1);
}

static void test_identity(void **state)
{
    (void)state;
    const struct augment_options still = {.area_min = 1, .area_max = 1, .aspect = 1, .scale = EVEN(0.5f, 0.25f)};
    uint8_t image[28 * 28];
    float view[28 * 28], plain[28 * 28];
    random_image(image, sizeof image, 3);
    augment_view(&still, image, 28, 28, 1, 1, 2, 3, 0, view);
    augment_standardise(&still.scale, 1, image, 28 * 28, plain);
    for (size_t i = 0; i < sizeof image; i++)
        assert_float_equal(view[i], plain[i], 2e-5);
    assert_float_equal(plain[0], (image[0] / 255.0 - 0.5) / 0.25, 1e-6);
}

/* Each channel its own mean and deviation, in the order of the channels, to the last value. */
static void test_channels_are_scaled_apart(void **state)
{
    (void)state;
    const struct pixel_scale s = {{0.1f, 0.2f, 0.4f}, {0.5f, 1, 2}};
    uint8_t image[3 * 67];
    float out[3 * 67];
    random_image(image, sizeof image, 4);
    augment_standardise(&s, 3, image, sizeof image, out);
    for (size_t i = 0; i < sizeof image; i++)
        assert_float_equal(out[i], (image[i] / 255.0 - s.mean[i % 3]) / s.deviation[i % 3], 1e-6);
}

static void test_flip(void **state)
{
    (void)state;
    const struct augment_options flipped = {.area_min = 1, .area_max = 1, .aspect = 1, .flip = 1, .scale = EVEN(0, 1)};
    const uint8_t image[2 * 3] = {0, 51, 102, 153, 204, 255};
    const float want[2 * 3] = {0.4f, 0.2f, 0, 1, 0.8f, 0.6f};
    float view[2 * 3];
    augment_view(&flipped, image, 2, 3, 1, 1, 2, 3, 0, view);
    for (size_t i = 0; i < 6; i++)
        assert_float_equal(view[i], want[i], 1e-6);
}

/* Draws that came later leave those before alone, and where everything is off nothing is drawn. */
static void test_defaults_are_as_before(void **state)
{
    (void)state;
    for (uint64_t s = 0; s < 200; s++) {
        struct augment_draw plain, all;
        augment_draw(&recipe, 1, 0, s, 0, &plain);
        augment_draw(&everything, 1, 0, s, 0, &all);
        assert_true(plain.scale_x == all.scale_x && plain.scale_y == all.scale_y && plain.center_x == all.center_x &&
                    plain.center_y == all.center_y && plain.brightness == all.brightness &&
                    plain.contrast == all.contrast);
        assert_true(plain.saturation == 1 && plain.hue == 0 && plain.sigma == 0 && !plain.solarise &&
                    plain.rotation == 0 && plain.shear == 0 && plain.erase[2] == 0);
    }
}

static void test_later_draws_stay_in_range(void **state)
{
    (void)state;
    enum { N = 4000 };
    int grey = 0, blurred = 0, solarised = 0, erasures = 0;
    double rotation = 0, hue = 0, area = 0, sigma = 0;
    for (uint64_t s = 0; s < N; s++) {
        struct augment_draw d;
        augment_draw(&everything, 1, 0, s, 0, &d);
        assert_true(d.saturation == 0 || fabsf(d.saturation - 1) <= 0.6001f);
        assert_true(fabsf(d.hue) <= 0.3001f * 6.2832f && (d.saturation > 0 || d.hue == 0));
        assert_true(d.sigma == 0 || (d.sigma >= 0.1f && d.sigma <= 2));
        assert_true(fabsf(d.rotation) <= 0.6982f && fabsf(d.shear) <= 0.364f);
        grey += d.saturation == 0;
        blurred += d.sigma > 0;
        sigma += d.sigma;
        solarised += d.solarise;
        rotation += fabsf(d.rotation) / N;
        hue += fabsf(d.hue) / N;
        if (d.erase[2] == 0)
            continue;
        float width = d.erase[2] - d.erase[0], height = d.erase[3] - d.erase[1];
        assert_true(d.erase[0] >= 0 && d.erase[1] >= 0 && d.erase[2] <= 1.00001f && d.erase[3] <= 1.00001f);
        assert_true(width > 0 && height > 0 && width * height < 0.4001f);
        erasures++;
        area += width * height;
    }
    assert_in_range(grey, 700, 900);        /* 800, deviation 25 */
    assert_in_range(blurred, 2270, 2530);   /* 2400, 31 */
    assert_in_range(solarised, 1080, 1320); /* 1200, 29 */
    assert_in_range(erasures, 1870, 2130);  /* 2000, 32 */
    assert_true(fabs(sigma / blurred - 1.05) < 0.05);
    assert_true(fabs(rotation - 0.349) < 0.013);  /* half of 40 degrees */
    assert_true(fabs(hue - 0.64 * 0.942) < 0.04); /* of those with jitter and in colour */
    assert_true(fabs(area / erasures - 0.21) < 0.02);
}

/* Red, turned by a third of a circle, is green; grey stays grey; without saturation red is its luma. */
static void test_colour_by_hand(void **state)
{
    (void)state;
    float x[6] = {1, 0, 0, 0.5f, 0.5f, 0.5f};
    augment_colour(x, 2, 1, 2 * 3.14159265f / 3);
    const float green[6] = {0, 1, 0, 0.5f, 0.5f, 0.5f};
    for (int i = 0; i < 6; i++)
        assert_float_equal(x[i], green[i], 1e-6);
    float red[3] = {1, 0, 0};
    augment_colour(red, 1, 0, 0);
    for (int i = 0; i < 3; i++)
        assert_float_equal(red[i], 0.299f, 1e-6);
}

/* A quarter turn: what was left is on top. */
static void test_turn_by_hand(void **state)
{
    (void)state;
    const uint8_t image[4] = {255, 0, 255, 0};
    float out[4];
    const struct augment_affine quarter = {.bx = 1, .cx = 0.5f, .ay = -1, .cy = 0.5f};
    augment_resample_affine(&quarter, image, 2, 2, 1, (struct augment_size){2, 2}, out);
    assert_true(out[0] > 0.999f && out[1] > 0.999f && out[2] < 0.001f && out[3] < 0.001f);
}

/* An image without contrast stays what it is, whatever blurs and turns it. */
static void test_flat_image_stays_flat(void **state)
{
    (void)state;
    struct augment_options o = everything;
    uint8_t image[20 * 20];
    float view[20 * 20];
    o.brightness = o.contrast = o.solarise = o.erase = 0;
    o.area_max = 0.8f; /* upright crops blend with what is outside only at the very edge */
    memset(image, 204, sizeof image);
    for (uint64_t s = 0; s < 50; s++) {
        augment_view(&o, image, 20, 20, 1, 1, 0, s, 0, view);
        for (int i = 0; i < 20 * 20; i++)
            assert_float_equal(view[i], (0.8f - o.scale.mean[0]) / o.scale.deviation[0], 1e-5);
    }
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
        cmocka_unit_test(test_channels_are_scaled_apart),
        cmocka_unit_test(test_flip),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_largest_image),
        cmocka_unit_test(test_draws_stay_in_range),
        cmocka_unit_test(test_pure_function_of_its_name),
        cmocka_unit_test(test_reference_of_everything),
        cmocka_unit_test(test_reference_of_each),
        cmocka_unit_test(test_reference_of_other_sizes),
        cmocka_unit_test(test_defaults_are_as_before),
        cmocka_unit_test(test_later_draws_stay_in_range),
        cmocka_unit_test(test_colour_by_hand),
        cmocka_unit_test(test_turn_by_hand),
        cmocka_unit_test(test_flat_image_stays_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
