/* Counting, in integers: the same on every machine. */
#include "worker/data/ground.h"

#include <string.h>
#include "worker/data/image_file.h"
#include "worker/data/limits.h"

/* A PNG has alpha by its colour type (the byte behind signature, length, name, size and depth), or one transparent
 * colour or palette by a chunk called tRNS, before that of the pixels. */
static bool png_may(const uint8_t *b, size_t size)
{
    size_t at = 8;
    if (size > 25 && (b[25] & 4))
        return true;
    while (size - at >= 8) {
        uint32_t length = (uint32_t)b[at] << 24 | (uint32_t)b[at + 1] << 16 | (uint32_t)b[at + 2] << 8 | b[at + 3];
        if (memcmp(b + at + 4, "IDAT", 4) == 0)
            return false;
        if (memcmp(b + at + 4, "tRNS", 4) == 0 || length > size - at - 8 || size - at - 8 - length < 4)
            return true;
        at += 12 + (size_t)length;
    }
    return true;
}

/* A WebP says so in the header of its extended form, and in that of a lossless picture. */
static bool webp_may(const uint8_t *b, size_t size)
{
    if (size < 25 || memcmp(b + 12, "VP8 ", 4) == 0)
        return false;
    return memcmp(b + 12, "VP8X", 4) == 0 ? b[20] & 0x10 : b[24] & 0x10;
}

bool ground_may_matter(const uint8_t *bytes, size_t size)
{
    const char *format = image_format_of(bytes, size, NULL);
    if (format && strcmp(format, "PNG") == 0)
        return png_may(bytes, size);
    if (format && strcmp(format, "WebP") == 0)
        return webp_may(bytes, size);
    return format && strcmp(format, "TIFF") == 0;
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
