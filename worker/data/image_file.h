/* PNG and JPEG files in memory to pixels, told apart by their first bytes. */
#ifndef DECANT_WORKER_DATA_IMAGE_FILE_H
#define DECANT_WORKER_DATA_IMAGE_FILE_H

#include <stdbool.h>
#include "common/error.h"
#include "worker/data/image.h"

enum image_name { IMAGE_NAME_OTHER, IMAGE_NAME_READ, IMAGE_NAME_UNREAD };
/* By its ending, in any case: .png .jpg .jpeg are read, .gif .bmp .tif .tiff .webp .avif .heic are images all the same.
 */
enum image_name image_name_kind(const char *name);

/* Both directions of what is decoded are at least min_side when the file's are; JPEG files may then be decoded at a
 * half, a quarter or an eighth of their size, which costs less. 0: full size. out: 1 to 4 channels, freed by the
 * caller. 0, or with the cause (no file name): ERR_FORMAT, ERR_RANGE, ERR_MEMORY. */
int image_decode(const uint8_t *bytes, size_t size, uint32_t min_side, struct image *out, struct error *e);

#endif
