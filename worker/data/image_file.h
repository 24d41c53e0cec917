/* Image files in memory to pixels. What a file is, its first bytes decide; its name decides only whether it is looked
 * at. */
#ifndef DECANT_WORKER_DATA_IMAGE_FILE_H
#define DECANT_WORKER_DATA_IMAGE_FILE_H

#include <stdbool.h>
#include "common/error.h"
#include "worker/data/image.h"

enum image_name {
    IMAGE_NAME_OTHER,  /* says nothing of an image: what is in it may be one all the same */
    IMAGE_NAME_READ,   /* .png .jpg .jpeg .ppm ...: of a format that is read */
    IMAGE_NAME_UNREAD, /* .gif .bmp .heic ...: of a format that is not */
    IMAGE_NAME_TEXT,   /* .txt .json ...: what stands beside images; never one */
};
/* By its ending, in any case. */
enum image_name image_name_kind(const char *name);

/* The format's name by the first bytes ("PNG", "GIF", "an HTML page"), NULL when they are of none that is known here.
 * readable: whether image_decode takes it; may be NULL. */
enum { IMAGE_MAGIC_MAX = 16 }; /* bytes that suffice */
const char *image_format_of(const uint8_t *bytes, size_t size, bool *readable);

/* What image_decode reads, for messages: "PNG, JPEG, WebP, TIFF or netpbm". */
extern const char image_formats_read[];

/* Both directions of what is decoded are at least min_side when the file's are; JPEG files may then be decoded at a
 * half, a quarter or an eighth of their size, which costs less. 0: full size. out: 1 to 4 channels, freed by the
 * caller, and upright as EXIF has it. 0, or with the cause (no file name): ERR_FORMAT, ERR_RANGE, ERR_MEMORY. */
int image_decode(const uint8_t *bytes, size_t size, uint32_t min_side, struct image *out, struct error *e);

#endif
