/* What transparent images are composited on when the user leaves it open: black, unless most of what is opaque in them
 * would vanish there, as dark drawings do; then white. Transparent training images vote, opaque ones do not. */
#ifndef DECANT_WORKER_DATA_GROUND_H
#define DECANT_WORKER_DATA_GROUND_H

#include "worker/data/image.h"

enum { GROUND_BLACK = 0, GROUND_GREY = 128, GROUND_WHITE = 255 };

struct ground {
    uint64_t opaque,
        dark;        /* pixels of transparent images that are at least half opaque, and how many of them are dark */
    uint32_t images; /* transparent ones */
};

/* Whether the bytes that an image file begins with, some thousand, leave it possible that it is transparent. */
bool ground_may_matter(const uint8_t *bytes, size_t size);
/* size->channels 2 or 4 may vote; others never do. */
void ground_vote(struct ground *g, const uint8_t *pixels, const struct image_size *size);
uint8_t ground_choice(const struct ground *g);

#endif
