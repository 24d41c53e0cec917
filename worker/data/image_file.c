/* Which decoder. */
#include "worker/data/image_file.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "worker/data/image_codec.h"

enum image_name image_name_kind(const char *name)
{
    static const char *const read[] = {".png", ".jpg", ".jpeg"};
    static const char *const unread[] = {".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic"};
    const char *ending = strrchr(name, '.');
    if (!ending || ending == name)
        return IMAGE_NAME_OTHER;
    for (size_t i = 0; i < sizeof read / sizeof read[0]; i++)
        if (strcasecmp(ending, read[i]) == 0)
            return IMAGE_NAME_READ;
    for (size_t i = 0; i < sizeof unread / sizeof unread[0]; i++)
        if (strcasecmp(ending, unread[i]) == 0)
            return IMAGE_NAME_UNREAD;
    return IMAGE_NAME_OTHER;
}

int image_decode(const uint8_t *bytes, size_t size, uint32_t min_side, struct image *out, struct error *e)
{
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, jpeg[] = {0xff, 0xd8, 0xff};
    *out = (struct image){0};
    if (size == 0)
        return error_set(e, ERR_FORMAT, "an empty file");
    int rc;
    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        rc = image_decode_png(bytes, size, out, e);
    else if (size >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        rc = image_decode_jpeg(bytes, size, min_side, out, e);
    else
        rc = error_set(e, ERR_FORMAT, "neither PNG nor JPEG");
    if (rc != 0)
        image_fini(out);
    else if (out->file.height == 0)
        out->file = out->size;
    return rc;
}
