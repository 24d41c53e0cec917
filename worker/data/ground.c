/* Counting, in integers: the same on every machine. */
#include "worker/data/ground.h"

#include <string.h>
#include "worker/data/limits.h"

/* A PNG says it in its colour type, or (palettes, one transparent colour) in a chunk further on; the other formats that
 * are read have no transparency. */
bool ground_may_matter(const uint8_t *bytes, size_t size)
{
    return size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

void ground_vote(struct ground *g, const uint8_t *pixels, const struct image_size *size)
{
    uint32_t C = size->channels;
    size_t n = (size_t)size->height * size->width;
    uint64_t opaque = 0, dark = 0;
    bool transparent = false;
    for (size_t i = 0; (C == 2 || C == 4) && i < n; i++) {
        const uint8_t *pixel = pixels + i * C;
        uint8_t grey;
        transparent = transparent || pixel[C - 1] < 255;
        if (pixel[C - 1] < 128)
            continue;
        image_convert(pixel, C - 1, &grey, 1, 1, 0);
        opaque++;
        dark += grey <= GROUND_DARK_MAX;
    }
    if (!transparent)
        return;
    g->images++;
    g->opaque += opaque;
    g->dark += dark;
}

uint8_t ground_choice(const struct ground *g)
{
    return 2 * g->dark > g->opaque ? GROUND_WHITE : GROUND_BLACK;
}
