/* Plain loops over rows; the ones that take time are compiled for several vector widths (KERNEL). */
#include "worker/data/augment_ops.h"

#include <math.h>
#include <string.h>
#include "common/error.h"
#include "common/kernels.h"
#include "worker/data/limits.h"

enum {
    SIDE_MAX = DATASET_SIDE_MAX,
    LINE_MAX = DATASET_SIDE_MAX * DATASET_CHANNELS_MAX,
    RADIUS_MAX = 15 /* 3 AUGMENT_SIGMA_MAX */
};

/* The four neighbours of each output pixel of a row, and their weights over 255. */
struct corners {
    int32_t at[4][SIDE_MAX]; /* pixels from the image's first */
    float weight[4][SIDE_MAX];
};

static inline __attribute__((always_inline)) float limit(float v, float most)
{
    v = v > 0 ? v : 0;
    return v < most ? v : most;
}

STATIC_KERNEL(void, find_corners,
              (const struct augment_affine *m, float y, uint32_t H, uint32_t W, uint32_t n, struct corners *restrict c),
              (m, y, H, W, n, c))
{
    float right = (float)W - 1, bottom = (float)H - 1, middle = ((float)n - 1) / 2;
    for (uint32_t i = 0; i < n; i++) {
        float x = (float)i - middle;
        float sx = limit(m->ax * x + m->bx * y + m->cx, right), sy = limit(m->ay * x + m->by * y + m->cy, bottom);
        int32_t x0 = (int32_t)sx, y0 = (int32_t)sy, x1 = x0 + 1 < (int32_t)W ? x0 + 1 : x0;
        int32_t y1 = y0 + 1 < (int32_t)H ? y0 + 1 : y0;
        float fx = sx - (float)x0, fy = (sy - (float)y0) / 255, gy = 1.0f / 255 - fy;
        c->at[0][i] = y0 * (int32_t)W + x0;
        c->at[1][i] = y0 * (int32_t)W + x1;
        c->at[2][i] = y1 * (int32_t)W + x0;
        c->at[3][i] = y1 * (int32_t)W + x1;
        c->weight[0][i] = gy * (1 - fx);
        c->weight[1][i] = gy * fx;
        c->weight[2][i] = fy * (1 - fx);
        c->weight[3][i] = fy * fx;
    }
}

static void blend_corners(const struct corners *c, const uint8_t *image, uint32_t n, uint32_t C, float *out)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < C; k++) {
            float v = 0;
            for (int j = 0; j < 4; j++)
                v += c->weight[j][i] * (float)image[(size_t)c->at[j][i] * C + k];
            out[(size_t)i * C + k] = v;
        }
}

void augment_resample_affine(const struct augment_affine *m, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                             struct augment_size size, float *out)
{
    struct corners c;
    ASSERT(size.width <= SIDE_MAX && C <= DATASET_CHANNELS_MAX);
    for (uint32_t y = 0; y < size.height; y++) {
        find_corners(m, (float)y - ((float)size.height - 1) / 2, H, W, size.width, &c);
        blend_corners(&c, image, size.width, C, out + (size_t)y * size.width * C);
    }
}

/* ---- blur ---- */

/* weight[0] of the middle, weight[d] of either neighbour at distance d; they sum to one over both sides. */
static int gaussian(float sigma, float weight[RADIUS_MAX + 1])
{
    int radius = (int)ceilf(3 * sigma);
    float sum = 1;
    weight[0] = 1;
    for (int d = 1; d <= radius; d++) {
        weight[d] = expf(-0.5f * (float)(d * d) / (sigma * sigma));
        sum += 2 * weight[d];
    }
    for (int d = 0; d <= radius; d++)
        weight[d] /= sum;
    return radius;
}

STATIC_KERNEL(void, weigh, (const float *restrict x, float weight, size_t n, float *restrict out), (x, weight, n, out))
{
    for (size_t i = 0; i < n; i++)
        out[i] = weight * x[i];
}

STATIC_KERNEL(void, weigh_pair,
              (const float *restrict a, const float *restrict b, float weight, size_t n, float *restrict out),
              (a, b, weight, n, out))
{
    for (size_t i = 0; i < n; i++)
        out[i] += weight * (a[i] + b[i]);
}

static void blur_row(float *row, uint32_t W, uint32_t C, int radius, const float *weight)
{
    float line[LINE_MAX + 2 * RADIUS_MAX * DATASET_CHANNELS_MAX];
    size_t n = (size_t)W * C, margin = (size_t)radius * C;
    memcpy(line + margin, row, n * sizeof *row);
    for (size_t i = 0; i < margin; i++) {
        line[i] = row[i % C];
        line[margin + n + i] = row[n - C + i % C];
    }
    weigh(line + margin, weight[0], n, row);
    for (int d = 1; d <= radius; d++)
        weigh_pair(line + margin - (size_t)d * C, line + margin + (size_t)d * C, weight[d], n, row);
}

static int bounded(int y, int H)
{
    return y < 0 ? 0 : y < H ? y : H - 1;
}

/* Rows above the current one have been overwritten: the newest `radius` of them are kept as they were, row y at
 * kept[y mod (radius + 1)]. */
static void blur_columns(float *x, int H, size_t n, int radius, const float *weight)
{
    float kept[RADIUS_MAX + 1][LINE_MAX];
    for (int y = 0; y < H; y++) {
        float *row = x + (size_t)y * n;
        const float *own = kept[y % (radius + 1)];
        memcpy(kept[y % (radius + 1)], row, n * sizeof *row);
        weigh(own, weight[0], n, row);
        for (int d = 1; d <= radius; d++) {
            int below = bounded(y + d, H);
            weigh_pair(kept[bounded(y - d, H) % (radius + 1)], below > y ? x + (size_t)below * n : own, weight[d], n,
                       row);
        }
    }
}

void augment_blur(float *x, uint32_t H, uint32_t W, uint32_t C, float sigma)
{
    float weight[RADIUS_MAX + 1];
    ASSERT(sigma > 0 && sigma <= AUGMENT_SIGMA_MAX && W <= SIDE_MAX && C <= DATASET_CHANNELS_MAX);
    int radius = gaussian(sigma, weight);
    for (uint32_t y = 0; y < H; y++)
        blur_row(x + (size_t)y * W * C, W, C, radius, weight);
    blur_columns(x, (int)H, (size_t)W * C, radius, weight);
}

/* ---- colour ---- */

/* m = (L + saturation (I - L)) R: R the rotation about the grey axis, L the projection on the luma. */
static void colour_matrix(float saturation, float hue, float m[3][3])
{
    static const float luma[3] = {0.299f, 0.587f, 0.114f};
    float c = cosf(hue), s = sinf(hue) / sqrtf(3);
    float turn[3] = {(1 + 2 * c) / 3, (1 - c) / 3 - s, (1 - c) / 3 + s}; /* the matrix's first row; it is circulant */
    for (int j = 0; j < 3; j++) {
        float grey = 0;
        for (int i = 0; i < 3; i++)
            grey += luma[i] * turn[(j - i + 3) % 3];
        for (int i = 0; i < 3; i++)
            m[i][j] = grey + saturation * (turn[(j - i + 3) % 3] - grey);
    }
}

STATIC_KERNEL(void, mix_channels, (float *restrict x, size_t n, const float m[3][3]), (x, n, m))
{
    for (size_t i = 0; i < n; i++) {
        float r = x[3 * i], g = x[3 * i + 1], b = x[3 * i + 2];
        x[3 * i] = limit(m[0][0] * r + m[0][1] * g + m[0][2] * b, 1);
        x[3 * i + 1] = limit(m[1][0] * r + m[1][1] * g + m[1][2] * b, 1);
        x[3 * i + 2] = limit(m[2][0] * r + m[2][1] * g + m[2][2] * b, 1);
    }
}

void augment_colour(float *x, size_t n, float saturation, float hue)
{
    float m[3][3];
    colour_matrix(saturation, hue, m);
    mix_channels(x, n, m);
}

KERNEL(void, augment_solarise, (float *x, size_t n), (x, n))
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0.5f ? x[i] : 1 - x[i];
}
