/* The parts of a view that not every view has. All work on (H,W,C) floats in 0..1, H and W at most DATASET_SIDE_MAX,
 * C at most DATASET_CHANNELS_MAX; none allocates. */
#ifndef DECANT_WORKER_DATA_AUGMENT_OPS_H
#define DECANT_WORKER_DATA_AUGMENT_OPS_H

#include <stddef.h>
#include <stdint.h>

#define AUGMENT_SIGMA_MAX 5.0f /* of the blur, pixels */

struct augment_size {
    uint32_t height, width;
};

/* Where output pixel (x, y), counted from the centre of the output, is taken from: (ax x + bx y + cx, ay x + by y + cy)
 * in pixels of the image. */
struct augment_affine {
    float ax, bx, cx, ay, by, cy;
};

/* image (H,W,C) bytes -> out (size,C), by bilinear sampling; what lies outside the image is its nearest edge, so that
 * a turned page has no dark corners. */
void augment_resample_affine(const struct augment_affine *m, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                             struct augment_size size, float *out);
/* Gaussian blur, cut off at three sigma; the edge is continued outward. 0 < sigma <= AUGMENT_SIGMA_MAX, pixels. */
void augment_blur(float *x, uint32_t H, uint32_t W, uint32_t C, float sigma);
/* Colour pixels (n,3): turned by `hue` radians about the grey axis, which keeps their mean, then drawn towards their
 * luma (0.299 R + 0.587 G + 0.114 B) by `saturation` (0: grey, 1: as they are), clamped to 0..1. */
void augment_colour(float *x, size_t n, float saturation, float hue);
/* x = x >= 0.5 ? 1 - x : x */
void augment_solarise(float *x, size_t n);

#endif
