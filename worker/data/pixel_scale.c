/* Channels take turns, so a repeated pattern of them makes the loop the same for any number; see pixel_scale.h. */
#include "worker/data/pixel_scale.h"

#include "common/kernels.h"

static int check_count(const char *key, size_t values, uint32_t channels, struct error *e)
{
    if (values == 1 || values == channels)
        return 0;
    return error_set(e, ERR_CONFIG,
                     "%s has %zu values, and the images have %u channel%s: give one value, or one for each", key,
                     values, channels, channels == 1 ? "" : "s");
}

int pixel_scale_of(const struct run_config *c, uint32_t channels, struct pixel_scale *out, struct error *e)
{
    const struct config_floats *mean = &c->data.mean, *deviation = &c->data.deviation;
    int rc = check_count("data.mean", mean->count, channels, e);
    rc = rc ? rc : check_count("data.deviation", deviation->count, channels, e);
    for (uint32_t i = 0; rc == 0 && i < DATASET_CHANNELS_MAX; i++) {
        out->mean[i] = (float)mean->values[i < mean->count ? i : 0];
        out->deviation[i] = (float)deviation->values[i < deviation->count ? i : 0];
    }
    return rc;
}

struct pixel_scale pixel_scale_even(float mean, float deviation)
{
    struct pixel_scale s;
    for (uint32_t i = 0; i < DATASET_CHANNELS_MAX; i++) {
        s.mean[i] = mean;
        s.deviation[i] = deviation;
    }
    return s;
}

void pixel_scale_repeat(const float *channel, uint32_t channels, float out[PIXEL_PERIOD])
{
    ASSERT(channels > 0 && PIXEL_PERIOD % channels == 0);
    for (uint32_t j = 0; j < PIXEL_PERIOD; j++)
        out[j] = channel[j % channels];
}

STATIC_KERNEL(void, apply_pattern,
              (const float *restrict mean, const float *restrict scale, size_t n, float *restrict x),
              (mean, scale, n, x))
{
    size_t i = 0;
    for (; i + PIXEL_PERIOD <= n; i += PIXEL_PERIOD)
        for (size_t j = 0; j < PIXEL_PERIOD; j++)
            x[i + j] = (x[i + j] - mean[j]) * scale[j];
    for (size_t j = 0; i + j < n; j++)
        x[i + j] = (x[i + j] - mean[j]) * scale[j];
}

void pixel_scale_apply(const struct pixel_scale *s, uint32_t channels, size_t n, float *x)
{
    float mean[PIXEL_PERIOD], scale[PIXEL_PERIOD];
    pixel_scale_repeat(s->mean, channels, mean);
    pixel_scale_repeat(s->deviation, channels, scale);
    for (size_t j = 0; j < PIXEL_PERIOD; j++)
        scale[j] = 1 / scale[j];
    apply_pattern(mean, scale, n, x);
}
