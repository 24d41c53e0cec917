/* Every offset is checked against the size before it is followed. */
#include "worker/data/exif.h"

#include <stdbool.h>
#include <string.h>

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_BYTES = 12, HEADER_BYTES = 8 };

static uint32_t number(const uint8_t *b, uint32_t width, bool big_endian)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < width; i++)
        value = value << 8 | b[big_endian ? i : width - 1 - i];
    return value;
}

uint8_t exif_orientation(const uint8_t *b, size_t size)
{
    bool big = size >= HEADER_BYTES && memcmp(b, "MM\0*", 4) == 0;
    if (!big && (size < HEADER_BYTES || memcmp(b, "II*\0", 4) != 0))
        return 1;
    size_t at = number(b + 4, 4, big);
    if (at > size || size - at < 2)
        return 1;
    uint32_t entries = number(b + at, 2, big);
    for (at += 2; entries > 0 && size - at >= ENTRY_BYTES; entries--, at += ENTRY_BYTES) {
        if (number(b + at, 2, big) != TAG_ORIENTATION)
            continue;
        uint32_t value = number(b + at + 8, 2, big);
        bool sound = number(b + at + 2, 2, big) == TYPE_SHORT && number(b + at + 4, 4, big) == 1;
        return sound && value >= 1 && value <= 8 ? (uint8_t)value : 1;
    }
    return 1;
}
