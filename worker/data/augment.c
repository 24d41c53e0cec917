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
#include "worker/data/dataset.h"
#include "worker/data/limits.h"

enum { LINE_MAX = DATASET_SIDE_MAX * DATASET_CHANNELS_MAX, LANES = 16 };

/* Where one output coordinate samples: source index `at` (-1..size-1) and the weights of `at` and `at + 1`. */
struct tap {
    int at;
    float low, high;
};

void augment_draw(const struct augment_options *o, uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view,
                  struct augment_draw *out)
{
    struct rng r;
    float u[8];
    rng_open(&r, seed, RNG_AUGMENT, epoch, sample, view);
    for (size_t i = 0; i < 8; i++)
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
}

/* Pixel i of `size` has its centre at (2i+1)/size - 1 in the view and, scaled and moved, at `at` in the image. */
static struct tap tap_of(uint32_t i, uint32_t size, float scale, float center)
{
    float x = scale * ((float)(2 * i + 1) / (float)size - 1) + center;
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

static void resample(const struct augment_draw *d, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C, float *out)
{
    float line[LINE_MAX + 2 * DATASET_CHANNELS_MAX] = {0}, low[LINE_MAX], high[LINE_MAX];
    int32_t at[LINE_MAX];
    size_t n = (size_t)W * C;
    for (uint32_t x = 0; x < W; x++) {
        struct tap t = tap_of(x, W, d->scale_x, d->center_x);
        for (uint32_t c = 0; c < C; c++) {
            at[x * C + c] = (t.at + 1) * (int)C + (int)c;
            low[x * C + c] = t.low / 255;
            high[x * C + c] = t.high / 255;
        }
    }
    for (uint32_t y = 0; y < H; y++) {
        struct tap t = tap_of(y, H, d->scale_y, d->center_y);
        const uint8_t *upper = t.at >= 0 ? image + (size_t)t.at * n : NULL;
        const uint8_t *lower = t.at + 1 < (int)H ? image + (size_t)(t.at + 1) * n : NULL;
        blend_rows(upper, t.low, lower, t.high, n, line + C);
        blend_columns(line, at, low, high, C, n, out + y * n);
    }
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

/* x = (clamp((x - center) * factor + center, 0, 1) - mean) / deviation. */
STATIC_KERNEL(void, contrast_and_standardise,
              (float *restrict x, size_t n, float center, float factor, float mean, float deviation),
              (x, n, center, factor, mean, deviation))
{
    float scale = 1 / deviation;
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - center) * factor + center;
        v = v > 0 ? v : 0;
        v = v < 1 ? v : 1;
        x[i] = (v - mean) * scale;
    }
}

void augment_apply(const struct augment_options *o, const struct augment_draw *d, const uint8_t *image, uint32_t H,
                   uint32_t W, uint32_t C, float *out)
{
    ASSERT(H <= DATASET_SIDE_MAX && W <= DATASET_SIDE_MAX && C <= DATASET_CHANNELS_MAX);
    size_t n = (size_t)H * W * C;
    resample(d, image, H, W, C, out);
    float mean = brighten(out, n, d->brightness);
    contrast_and_standardise(out, n, mean, d->contrast, o->mean, o->deviation);
}

void augment_view(const struct augment_options *o, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                  uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view, float *out)
{
    struct augment_draw d;
    augment_draw(o, seed, epoch, sample, view, &d);
    augment_apply(o, &d, image, H, W, C, out);
}

KERNEL(void, augment_standardise, (const struct augment_options *o, const uint8_t *image, uint64_t n, float *out),
       (o, image, n, out))
{
    for (uint64_t i = 0; i < n; i++)
        out[i] = ((float)image[i] / 255 - o->mean) / o->deviation;
}
