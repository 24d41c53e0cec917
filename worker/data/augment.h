/* The random view of an image: resized crop, flip, rotation, shear; blur; saturation, hue, greyscale, brightness,
 * contrast; solarisation, standardisation, erasing, in this order; a pure function of (seed, epoch, sample, view).
 * Bilinear sampling with the conventions of affine_grid / grid_sample (align_corners = false, zeros). */
#ifndef DECANT_WORKER_DATA_AUGMENT_H
#define DECANT_WORKER_DATA_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include "worker/data/pixel_scale.h"

struct augment_options {
    struct pixel_scale scale;
    float area_min, area_max, aspect, flip, jitter, brightness, contrast;
    /* Each is off when 0: */
    float saturation, hue;   /* with the jitter, of colour images: factor 1 +- this, turns +- this */
    float greyscale;         /* probability, of colour images */
    float blur, blur_sigma;  /* probability, largest sigma in pixels */
    float solarise;          /* probability */
    float rotation, shear;   /* +- degrees */
    float erase, erase_area; /* probability, largest share of the view */
    uint32_t side;           /* of the view, a square; 0: it has the image's size */
};

/* What a view does to its image, drawn from rng_open(seed, RNG_AUGMENT, epoch, sample, view). These uniform numbers
 * are always drawn, in this order: area, log of the aspect ratio, center x, center y, flip, jitter, brightness,
 * contrast; saturation, hue, greyscale, blur, sigma, solarise, rotation, shear, erase, its area, log of its aspect
 * ratio, x, y. */
struct augment_draw {
    float scale_x, scale_y;     /* crop width (negative: flipped) and height, as shares of the image's */
    float center_x, center_y;   /* of the crop, image spans -1..1; the crop lies inside */
    float brightness, contrast; /* factors */
    float saturation, hue;      /* factor (0: grey), radians */
    float sigma;                /* of the blur, pixels; 0: none */
    float rotation, shear;      /* radians, tangent */
    float erase[4];             /* left, top, right, bottom, as shares of the view; all 0: nothing */
    bool solarise;
};
void augment_draw(const struct augment_options *o, uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view,
                  struct augment_draw *out);
/* image (H,W,C) bytes, H, W and C within dataset.h's limits -> out (H,W,C) floats, or (side,side,C). */
void augment_apply(const struct augment_options *o, const struct augment_draw *d, const uint8_t *image, uint32_t H,
                   uint32_t W, uint32_t C, float *out);

/* Both of the above. */
void augment_view(const struct augment_options *o, const uint8_t *image, uint32_t H, uint32_t W, uint32_t C,
                  uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view, float *out);
/* Without randomness: (x/255 - mean)/deviation, for evaluation. n values whose channels take turns. */
void augment_standardise(const struct pixel_scale *s, uint32_t channels, const uint8_t *image, uint64_t n, float *out);

#endif
