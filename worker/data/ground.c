/* Counting, in integers: the same on every machine. */
#include "worker/data/ground.h"

#include <string.h>
#include "worker/data/image_file.h"
#include "worker/data/limits.h"

/* PNG, WebP and TIFF may have transparency and say so further on; the other formats have none. */
bool ground_may_matter(const uint8_t *bytes, size_t size)
{
    const char *format = image_format_of(bytes, size, NULL);
    return format && strcmp(format, "JPEG") != 0 && strcmp(format, "netpbm") != 0;
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
