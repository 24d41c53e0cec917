/* The random view of an image: resized crop, flip, brightness and contrast, standardisation; a pure function of
 * (seed, epoch, sample, view). Bilinear sampling with the conventions of affine_grid / grid_sample (align_corners = false, zeros). */
#ifndef DECANT_WORKER_DATA_AUGMENT_H
#define DECANT_WORKER_DATA_AUGMENT_H

#include <stdint.h>

struct augment_options { float area_min, area_max, aspect, flip, jitter, brightness, contrast, mean, deviation; };

/* image (H,W,C) bytes -> out (H,W,C) floats. */
void augment_view(const struct augment_options *o, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                  uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view, float *out);
/* Without randomness: (x/255 - mean)/deviation, for evaluation. n pixels. */
void augment_standardise(const struct augment_options *o, const uint8_t *image, uint64_t n, float *out);

#endif
