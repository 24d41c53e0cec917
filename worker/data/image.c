/* Resampling is separable: each source row is blended into `width` columns, then each output row blends those. Weights
 * are integers that sum to WEIGHT_ONE; between the passes values keep eight more bits than a pixel has. */
#include "worker/data/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "worker/data/limits.h"

enum {
    WEIGHT_BITS = 14,
    WEIGHT_ONE = 1 << WEIGHT_BITS,
    FRACTION_BITS = 8, /* of the values between the passes */
};

void image_fini(struct image *image)
{
    free(image->pixels);
    *image = (struct image){0};
}

bool image_size_is_sane(const struct image_size *s)
{
    return s->height - 1 < IMAGE_SIDE_FILE_MAX && s->width - 1 < IMAGE_SIDE_FILE_MAX &&
           s->channels - 1 < DATASET_CHANNELS_MAX && (uint64_t)s->height * s->width <= IMAGE_PIXELS_FILE_MAX;
}

int image_claim(struct image *image, uint64_t height, uint64_t width, uint32_t channels, struct error *e)
{
    if (height == 0 || width == 0 || height > IMAGE_SIDE_FILE_MAX || width > IMAGE_SIDE_FILE_MAX ||
        height * width > IMAGE_PIXELS_FILE_MAX)
        return error_set(e, ERR_RANGE, "%llux%llu pixels, at most %d a side and %d in all", (unsigned long long)height,
                         (unsigned long long)width, IMAGE_SIDE_FILE_MAX, IMAGE_PIXELS_FILE_MAX);
    image->size = (struct image_size){(uint32_t)height, (uint32_t)width, channels};
    image->pixels = malloc(image_bytes(&image->size));
    return image->pixels ? 0 : error_set(e, ERR_MEMORY, "no memory for %zu bytes of pixels", image_bytes(&image->size));
}

/* ---- orientation ---- */

/* Where the stored image's first row and column belong: 2 top and right, 3 bottom and right, 4 bottom and left; 5 to 8
 * have rows for columns: left and top, right and top, right and bottom, left and bottom. */
int image_turn(struct image *image, struct error *e)
{
    unsigned o = image->orientation;
    if (o < 2 || o > 8)
        return 0;
    bool exchange = o >= 5, last_row_first = o == 3 || o == 4 || o == 6 || o == 7,
         last_column_first = o == 2 || o == 3 || o == 7 || o == 8;
    struct image_size in = image->size, file = image->file;
    uint32_t C = in.channels, H = exchange ? in.width : in.height, W = exchange ? in.height : in.width;
    uint8_t *pixels = malloc(image_bytes(&in)), *out = pixels;
    if (!pixels)
        return error_set(e, ERR_MEMORY, "no memory to turn it upright");
    for (uint32_t y = 0; y < H; y++)
        for (uint32_t x = 0; x < W; x++, out += C) {
            uint32_t row = exchange ? x : y, column = exchange ? y : x;
            row = last_row_first ? in.height - 1 - row : row;
            column = last_column_first ? in.width - 1 - column : column;
            memcpy(out, image->pixels + ((size_t)row * in.width + column) * C, C);
        }
    free(image->pixels);
    image->pixels = pixels;
    image->orientation = 1;
    image->size = (struct image_size){H, W, C};
    if (exchange)
        image->file = (struct image_size){file.width, file.height, file.channels};
    return 0;
}

/* ---- channels ---- */

static uint8_t over(uint8_t value, uint8_t alpha, uint8_t ground)
{
    return (uint8_t)((value * alpha + ground * (255 - alpha) + 127) / 255);
}

static uint8_t grey_of(uint8_t r, uint8_t g, uint8_t b)
{
    return (uint8_t)((19595u * r + 38470u * g + 7471u * b + 32768u) >> 16);
}

/* A pixel of `from` channels as colour and alpha. */
static void unpack(const uint8_t *in, uint32_t from, uint8_t rgba[4])
{
    uint8_t alpha = from == 2 ? in[1] : from == 4 ? in[3] : 255;
    for (uint32_t c = 0; c < 3; c++)
        rgba[c] = from < 3 ? in[0] : in[c];
    rgba[3] = alpha;
}

static void pack(const uint8_t rgba[4], uint8_t *out, uint32_t to, uint8_t ground)
{
    bool opaque = to == 1 || to == 3;
    uint8_t rgb[3];
    for (uint32_t c = 0; c < 3; c++)
        rgb[c] = opaque ? over(rgba[c], rgba[3], ground) : rgba[c];
    if (to < 3)
        out[0] = rgb[0] == rgb[1] && rgb[1] == rgb[2] ? rgb[0] : grey_of(rgb[0], rgb[1], rgb[2]);
    else
        memcpy(out, rgb, 3);
    if (!opaque)
        out[to - 1] = rgba[3];
}

void image_convert(const uint8_t *in, uint32_t from, uint8_t *out, uint32_t to, size_t n, uint8_t ground)
{
    uint8_t rgba[4];
    if (from == to) {
        memmove(out, in, n * from);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        unpack(in + i * from, from, rgba);
        pack(rgba, out + i * to, to, ground);
    }
}

/* ---- size ---- */

/* What one output coordinate blends: source indices first..first+count-1. */
struct taps {
    uint32_t first, count;
    uint32_t *weights; /* (count), sum WEIGHT_ONE */
};

struct axis {
    uint32_t size; /* outputs */
    struct taps *taps;
    uint32_t *weights; /* of all of them */
};

static void axis_fini(struct axis *a)
{
    free(a->taps);
    free(a->weights);
}

/* Rounds the triangle's weights; what rounding lost goes to the largest, so that a flat image stays as it is. */
static void weigh(struct taps *t, double center, double support)
{
    double sum = 0;
    uint32_t total = 0, largest = 0;
    for (uint32_t i = 0; i < t->count; i++)
        sum += fmax(0, 1 - fabs(t->first + i + 0.5 - center) / support);
    for (uint32_t i = 0; i < t->count; i++) {
        double w = fmax(0, 1 - fabs(t->first + i + 0.5 - center) / support) / sum;
        t->weights[i] = (uint32_t)(w * WEIGHT_ONE); /* down, so that the sum stays below one */
        total += t->weights[i];
        if (t->weights[i] > t->weights[largest])
            largest = i;
    }
    t->weights[largest] += WEIGHT_ONE - total;
}

/* `out` coordinates over the `span` source pixels that begin at `start`, of `in` in all. */
static int axis_init(struct axis *a, uint32_t in, double start, double span, uint32_t out)
{
    double scale = span / out, support = fmax(scale, 1);
    size_t most = (size_t)(2 * support) + 3;
    *a = (struct axis){
        .size = out, .taps = calloc(out, sizeof *a->taps), .weights = calloc(out * most, sizeof(uint32_t))};
    if (!a->taps || !a->weights)
        return ERR_MEMORY;
    for (uint32_t i = 0; i < out; i++) {
        struct taps *t = &a->taps[i];
        double center = start + (i + 0.5) * scale;
        double low = fmax(0, floor(center - support)), high = fmin(in, ceil(center + support));
        t->first = (uint32_t)low;
        t->count = (uint32_t)(high - low);
        t->weights = a->weights + i * most;
        ASSERT(t->count >= 1 && t->count <= most);
        weigh(t, center, support);
    }
    return 0;
}

/* in (H,W,C) -> out (H,axis,C), with FRACTION_BITS more. */
static void blend_columns(const uint8_t *in, const struct image_size *s, const struct axis *a, uint16_t *out)
{
    uint32_t C = s->channels;
    for (uint32_t y = 0; y < s->height; y++)
        for (uint32_t x = 0; x < a->size; x++, out += C) {
            const struct taps *t = &a->taps[x];
            const uint8_t *from = in + ((size_t)y * s->width + t->first) * C;
            for (uint32_t c = 0; c < C; c++) {
                uint32_t sum = 1u << (WEIGHT_BITS - FRACTION_BITS - 1);
                for (uint32_t i = 0; i < t->count; i++)
                    sum += t->weights[i] * from[i * C + c];
                out[c] = (uint16_t)(sum >> (WEIGHT_BITS - FRACTION_BITS));
            }
        }
}

/* in (H,n) -> out (axis,n). */
static void blend_rows(const uint16_t *in, size_t n, const struct axis *a, uint8_t *out)
{
    for (uint32_t y = 0; y < a->size; y++) {
        const struct taps *t = &a->taps[y];
        for (size_t j = 0; j < n; j++) {
            uint32_t sum = 1u << (WEIGHT_BITS + FRACTION_BITS - 1);
            for (uint32_t i = 0; i < t->count; i++)
                sum += t->weights[i] * in[(t->first + i) * n + j];
            out[y * n + j] = (uint8_t)(sum >> (WEIGHT_BITS + FRACTION_BITS));
        }
    }
}

/* out: to's height and width, from's channels. */
static int resample(const uint8_t *in, const struct image_size *from, uint8_t *out, const struct image_size *to)
{
    double h = from->height, w = from->width, H = to->height, W = to->width;
    double crop_w = w * H >= h * W ? h * W / H : w, crop_h = w * H >= h * W ? h : w * H / W;
    struct axis columns = {0}, rows = {0};
    uint16_t *between = malloc((size_t)from->height * to->width * from->channels * sizeof *between);
    int rc = between ? axis_init(&columns, from->width, (w - crop_w) / 2, crop_w, to->width) : ERR_MEMORY;
    if (rc == 0)
        rc = axis_init(&rows, from->height, (h - crop_h) / 2, crop_h, to->height);
    if (rc == 0) {
        blend_columns(in, from, &columns, between);
        blend_rows(between, (size_t)to->width * from->channels, &rows, out);
    }
    axis_fini(&columns);
    axis_fini(&rows);
    free(between);
    return rc;
}

/* Resizes first, since most images shrink; room for the source's channels is taken when they are more. */
static int resample_and_convert(const uint8_t *in, const struct image_size *from, uint8_t *out,
                                const struct image_size *to)
{
    size_t n = (size_t)to->height * to->width;
    uint8_t *resized = malloc(n * from->channels);
    int rc = resized ? resample(in, from, resized, to) : ERR_MEMORY;
    if (rc == 0)
        image_convert(resized, from->channels, out, to->channels, n, 0); /* no alpha here */
    free(resized);
    return rc;
}

/* Alpha has to be weighed in before pixels are mixed. */
static int composite_and_fit(const uint8_t *in, const struct image_size *from, uint8_t *out,
                             const struct image_size *to, uint8_t ground)
{
    struct image_size opaque = {from->height, from->width, from->channels - 1};
    size_t n = (size_t)from->height * from->width;
    uint8_t *pixels = malloc(n * opaque.channels);
    if (!pixels)
        return ERR_MEMORY;
    image_convert(in, from->channels, pixels, opaque.channels, n, ground);
    int rc = image_fit(pixels, &opaque, out, to, ground);
    free(pixels);
    return rc;
}

int image_fit(const uint8_t *in, const struct image_size *from, uint8_t *out, const struct image_size *to,
              uint8_t ground)
{
    if (from->height == to->height && from->width == to->width) {
        image_convert(in, from->channels, out, to->channels, (size_t)to->height * to->width, ground);
        return 0;
    }
    if (from->channels == to->channels)
        return resample(in, from, out, to);
    if (from->channels == 2 || from->channels == 4)
        return composite_and_fit(in, from, out, to, ground);
    return resample_and_convert(in, from, out, to);
}
