/* Bilinear sampling is separable: each output row blends two source rows (a vector operation over the image's width)
 * into a line with a zero pixel on either side, which stands for what lies outside the image; each output column then
 * blends two neighbours of that line, with indices and weights computed once per view. */
#include "worker/data/augment.h"

#include <math.h>
#include <stddef.h>
#include <stdbool.h>
#include "common/error.h"
#include "common/rng.h"
#include "common/kernels.h"
#include "worker/data/augment_ops.h"
#include "worker/data/dataset.h"
#include "worker/data/limits.h"

#define SIGMA_MIN 0.1f       /* of a blur */
#define ERASE_AREA_MIN 0.02f /* of an erased box, share of the view */
#define ERASE_ASPECT 3.3f    /* its aspect ratio is between 1/this and this */
static const float pi = 3.14159265358979f;

enum { DRAWS = 21 }; /* uniform numbers of a view: augment.h has their order */
enum { LINE_MAX = DATASET_SIDE_MAX * DATASET_CHANNELS_MAX, LANES = 16 };

/* Where one output coordinate samples: source index `at` (-1..size-1) and the weights of `at` and `at + 1`. */
struct tap {
    int at;
    float low, high;
};

/* A box in the view: +- ERASE_ASPECT, wholly inside. u: area, aspect, x, y. */
static void draw_box(float area_max, const float u[4], float box[4])
{
    float area = ERASE_AREA_MIN + u[0] * (fmaxf(area_max, ERASE_AREA_MIN) - ERASE_AREA_MIN);
    float aspect = expf((2 * u[1] - 1) * logf(ERASE_ASPECT));
    float width = fminf(1, sqrtf(area * aspect)), height = fminf(1, sqrtf(area / aspect));
    box[0] = u[2] * (1 - width);
    box[1] = u[3] * (1 - height);
    box[2] = box[0] + width;
    box[3] = box[1] + height;
}

/* The draws that came later. u: from saturation on. */
static void draw_rest(const struct augment_options *o, bool jitter, const float *u, struct augment_draw *d)
{
    bool grey = u[2] < o->greyscale;
    d->saturation = grey ? 0 : jitter ? 1 + (2 * u[0] - 1) * o->saturation : 1;
    d->hue = jitter && !grey ? (2 * u[1] - 1) * o->hue * 2 * pi : 0;
    d->sigma = u[3] < o->blur ? fminf(SIGMA_MIN + u[4] * fmaxf(o->blur_sigma - SIGMA_MIN, 0), AUGMENT_SIGMA_MAX) : 0;
    d->solarise = u[5] < o->solarise;
    d->rotation = (2 * u[6] - 1) * o->rotation * pi / 180;
    d->shear = tanf((2 * u[7] - 1) * o->shear * pi / 180);
    if (u[8] < o->erase)
        draw_box(o->erase_area, u + 9, d->erase);
}

void augment_draw(const struct augment_options *o, uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view,
                  struct augment_draw *out)
{
    struct rng r;
    float u[DRAWS];
    rng_open(&r, seed, RNG_AUGMENT, epoch, sample, view);
    for (size_t i = 0; i < DRAWS; i++)
        u[i] = rng_uniform(&r);
    float area = o->area_min + u[0] * (o->area_max - o->area_min);
    float aspect = expf((2 * u[1] - 1) * logf(o->aspect));
    float width = fminf(1, sqrtf(area * aspect)), height = fminf(1, sqrtf(area / aspect));
    bool jitter = u[5] < o->jitter;
    *out = (struct augment_draw){
        .scale_x = u[4] < o->flip ? -width : width,
        .scale_y = height,
        .center_x = (2 * u[2] - 1) * (1 - width),
        .center_y = (2 * u[3] - 1) * (1 - height),
        .brightness = jitter ? 1 + (2 * u[6] - 1) * o->brightness : 1,
        .contrast = jitter ? 1 + (2 * u[7] - 1) * o->contrast : 1,
    };
    draw_rest(o, jitter, u + 8, out);
}

/* Pixel i of a view of `n` has its centre at (2i+1)/n - 1 and, scaled and moved, at `at` in an image of `size`. */
static struct tap tap_of(uint32_t i, uint32_t n, uint32_t size, float scale, float center)
{
    float x = scale * ((float)(2 * i + 1) / (float)n - 1) + center;
    float pixel = ((x + 1) * (float)size - 1) / 2;
    pixel =
        fminf(fmaxf(pixel, -0.5f), (float)size - 0.5f); /* holds for every crop inside the image, but for rounding */
    float floor = floorf(pixel);
    return (struct tap){(int)floor, 1 - (pixel - floor), pixel - floor};
}

/* line (n) = low * a + high * b; a or b is NULL outside the image. */
STATIC_KERNEL(void, blend_rows,
              (const uint8_t *restrict a, float low, const uint8_t *restrict b, float high, size_t n,
               float *restrict line),
              (a, low, b, high, n, line))
{
    for (size_t i = 0; i < n; i++)
        line[i] = a ? low * (float)a[i] : 0;
    if (b)
        for (size_t i = 0; i < n; i++)
            line[i] += high * (float)b[i];
}

/* out (n): at[i] indexes the padded line, its right neighbour lies C further. */
STATIC_KERNEL(void, blend_columns,
              (const float *restrict line, const int32_t *restrict at, const float *restrict low,
               const float *restrict high, size_t C, size_t n, float *restrict out),
              (line, at, low, high, C, n, out))
{
    const float *restrict right = line + C;
    for (size_t i = 0; i < n; i++)
        out[i] = low[i] * line[at[i]] + high[i] * right[at[i]];
}

static void resample_upright(const struct augment_draw *d, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                             struct augment_size view, float *out)
{
    float line[LINE_MAX + 2 * DATASET_CHANNELS_MAX] = {0}, low[LINE_MAX], high[LINE_MAX];
    int32_t at[LINE_MAX];
    size_t n = (size_t)W * C, out_n = (size_t)view.width * C;
    for (uint32_t x = 0; x < view.width; x++) {
        struct tap t = tap_of(x, view.width, W, d->scale_x, d->center_x);
        for (uint32_t c = 0; c < C; c++) {
            at[x * C + c] = (t.at + 1) * (int)C + (int)c;
            low[x * C + c] = t.low / 255;
            high[x * C + c] = t.high / 255;
        }
    }
    for (uint32_t y = 0; y < view.height; y++) {
        struct tap t = tap_of(y, view.height, H, d->scale_y, d->center_y);
        const uint8_t *upper = t.at >= 0 ? image + (size_t)t.at * n : NULL;
        const uint8_t *lower = t.at + 1 < (int)H ? image + (size_t)(t.at + 1) * n : NULL;
        blend_rows(upper, t.low, lower, t.high, n, line + C);
        blend_columns(line, at, low, high, C, out_n, out + y * out_n);
    }
}

/* The crop about its centre, sheared along x, then turned: lengths are pixels, so that angles stay angles. */
static struct augment_affine affine_of(const struct augment_draw *d, uint32_t H, uint32_t W, struct augment_size view)
{
    float c = cosf(d->rotation), s = sinf(d->rotation);
    float scale_x = d->scale_x * (float)W / (float)view.width, scale_y = d->scale_y * (float)H / (float)view.height;
    return (struct augment_affine){
        .ax = c * scale_x,
        .bx = (c * d->shear - s) * scale_y,
        .cx = ((d->center_x + 1) * (float)W - 1) / 2,
        .ay = s * scale_x,
        .by = (s * d->shear + c) * scale_y,
        .cy = ((d->center_y + 1) * (float)H - 1) / 2,
    };
}

static void resample(const struct augment_draw *d, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                     struct augment_size view, float *out)
{
    if (d->rotation == 0 && d->shear == 0) {
        resample_upright(d, image, H, W, C, view, out);
        return;
    }
    struct augment_affine m = affine_of(d, H, W, view);
    augment_resample_affine(&m, image, H, W, C, view, out);
}

/* The mean pixel, which standardised is 0, takes the place of the box. */
static void erase(const float box[4], uint32_t H, uint32_t W, uint32_t C, float *x)
{
    uint32_t left = (uint32_t)(box[0] * (float)W), right = (uint32_t)(box[2] * (float)W + 0.5f);
    uint32_t top = (uint32_t)(box[1] * (float)H), bottom = (uint32_t)(box[3] * (float)H + 0.5f);
    for (uint32_t y = top; y < bottom && y < H; y++)
        for (size_t i = (size_t)left * C; i < (size_t)right * C && i < (size_t)W * C; i++)
            x[(size_t)y * W * C + i] = 0;
}

/* x = min(factor * x, 1) for x >= 0; returns the mean, summed in a fixed order of lanes. */
STATIC_KERNEL(float, brighten, (float *restrict x, size_t n, float factor), (x, n, factor))
{
    float lane[LANES] = {0}, sum = 0;
    size_t whole = n / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            float v = x[i + j] * factor;
            x[i + j] = v < 1 ? v : 1;
            lane[j] += x[i + j];
        }
    for (size_t i = whole; i < n; i++) {
        x[i] = x[i] * factor < 1 ? x[i] * factor : 1;
        sum += x[i];
    }
    for (size_t j = 0; j < LANES; j++)
        sum += lane[j];
    return sum / (float)n;
}

/* x = clamp((x - center) * factor + center, 0, 1) */
STATIC_KERNEL(void, contrast, (float *restrict x, size_t n, float center, float factor), (x, n, center, factor))
{
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - center) * factor + center;
        v = v > 0 ? v : 0;
        x[i] = v < 1 ? v : 1;
    }
}

void augment_apply(const struct augment_options *o, const struct augment_draw *d, const uint8_t *image, uint32_t H,
                   uint32_t W, uint32_t C, float *out)
{
    ASSERT(H <= DATASET_SIDE_MAX && W <= DATASET_SIDE_MAX && C <= DATASET_CHANNELS_MAX && o->side <= DATASET_SIDE_MAX);
    struct augment_size view = {o->side ? o->side : H, o->side ? o->side : W};
    size_t n = (size_t)view.height * view.width * C;
    resample(d, image, H, W, C, view, out);
    if (d->sigma > 0)
        augment_blur(out, view.height, view.width, C, d->sigma);
    if (C == 3 && (d->saturation != 1 || d->hue != 0))
        augment_colour(out, n / 3, d->saturation, d->hue);
    float mean = brighten(out, n, d->brightness);
    contrast(out, n, mean, d->contrast);
    if (d->solarise)
        augment_solarise(out, n);
    pixel_scale_apply(&o->scale, C, n, out);
    if (d->erase[2] > 0)
        erase(d->erase, view.height, view.width, C, out);
}

void augment_view(const struct augment_options *o, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                  uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view, float *out)
{
    struct augment_draw d;
    augment_draw(o, seed, epoch, sample, view, &d);
    augment_apply(o, &d, image, H, W, C, out);
}

STATIC_KERNEL(void, standardise,
              (const float *restrict mean, const float *restrict deviation, const uint8_t *restrict image, uint64_t n,
               float *restrict out),
              (mean, deviation, image, n, out))
{
    uint64_t i = 0;
    for (; i + PIXEL_PERIOD <= n; i += PIXEL_PERIOD)
        for (uint64_t j = 0; j < PIXEL_PERIOD; j++)
            out[i + j] = ((float)image[i + j] / 255 - mean[j]) / deviation[j];
    for (uint64_t j = 0; i + j < n; j++)
        out[i + j] = ((float)image[i + j] / 255 - mean[j]) / deviation[j];
}

void augment_standardise(const struct pixel_scale *s, uint32_t channels, const uint8_t *image, uint64_t n, float *out)
{
    float mean[PIXEL_PERIOD], deviation[PIXEL_PERIOD];
    pixel_scale_repeat(s->mean, channels, mean);
    pixel_scale_repeat(s->deviation, channels, deviation);
    standardise(mean, deviation, image, n, out);
}
