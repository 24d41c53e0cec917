/* One look at each value, and none at those that can change nothing. */
#include "worker/data/contrast.h"

void contrast_init(struct contrast *c)
{
    *c = (struct contrast){.low = 255};
}

static void see_flat(struct contrast *c, uint32_t i, uint32_t images)
{
    c->first = c->flat == 0 || i < c->first ? i : c->first;
    c->flat += images;
}

void contrast_add(struct contrast *c, uint32_t i, const uint8_t *image, size_t bytes, uint32_t channels)
{
    size_t same = channels; /* a pixel at a time: one colour, not one value */
    while (same < bytes && image[same] == image[same - channels])
        same++;
    if (same == bytes)
        see_flat(c, i, 1);
    for (size_t k = 0; c->high - c->low < CONTRAST_MIN && k < bytes; k++) {
        c->low = image[k] < c->low ? image[k] : c->low;
        c->high = image[k] > c->high ? image[k] : c->high;
    }
}

void contrast_merge(struct contrast *c, const struct contrast *more)
{
    if (more->flat > 0)
        see_flat(c, more->first, more->flat);
    c->low = more->low < c->low ? more->low : c->low;
    c->high = more->high > c->high ? more->high : c->high;
}
