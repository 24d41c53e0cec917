/* Standardisation of pixels: (x - mean) / deviation, for each channel its own. */
#ifndef DECANT_WORKER_DATA_PIXEL_SCALE_H
#define DECANT_WORKER_DATA_PIXEL_SCALE_H

#include "proto/run_config.h"
#include "worker/data/limits.h"

struct pixel_scale {
    float mean[DATASET_CHANNELS_MAX], deviation[DATASET_CHANNELS_MAX]; /* of pixels in 0..1 */
};

/* data.mean and data.deviation for images of so many channels, where they are one value for all or one for each.
 * ERR_CONFIG when their numbers differ otherwise. */
int pixel_scale_of(const struct run_config *c, uint32_t channels, struct pixel_scale *out, struct error *e);
/* One value for all channels. */
struct pixel_scale pixel_scale_even(float mean, float deviation);

/* The values of `channels` repeated PIXEL_PERIOD long: a multiple of every number of channels, and of the floats of
 * every vector, so that a loop over pixels is the same for all. */
enum { PIXEL_PERIOD = 48 };
void pixel_scale_repeat(const float *channel, uint32_t channels, float out[PIXEL_PERIOD]);

/* x = (x - mean) / deviation, of n values whose channels take turns, the first one's first. */
void pixel_scale_apply(const struct pixel_scale *s, uint32_t channels, size_t n, float *x);

#endif
