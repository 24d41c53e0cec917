/* One decoded image, and the arithmetic that brings images to a common size and number of channels. */
#ifndef DECANT_WORKER_DATA_IMAGE_H
#define DECANT_WORKER_DATA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/error.h"

struct image_size {
    uint32_t height, width, channels; /* channels: 1 grey, 2 grey with alpha, 3 colour, 4 colour with alpha */
};

struct image {
    struct image_size size, file; /* as decoded, and as in the file: a JPEG may be decoded smaller */
    uint8_t *pixels;              /* (H,W,C) */
    uint8_t orientation;          /* EXIF's 1 to 8, by which image_turn sets them upright; 0 or 1: they are */
};
void image_fini(struct image *image);

static inline size_t image_bytes(const struct image_size *s)
{
    return (size_t)s->height * s->width * s->channels;
}

/* Within limits.h's limits for what a file may hold: no zero, and no product of these overflows. */
bool image_size_is_sane(const struct image_size *s);

/* Takes the memory for an image whose size a file claims, within limits.h. ERR_RANGE, ERR_MEMORY. */
int image_claim(struct image *image, uint64_t height, uint64_t width, uint32_t channels, struct error *e);

/* Sets an image upright whose file says that it lies on a side or is mirrored. ERR_MEMORY. */
int image_turn(struct image *image, struct error *e);

/* n pixels from `from` to `to` channels, 1..4 each. Alpha is composited on `ground` (0 black, 255 white) when it is
 * dropped and opaque when it is added; grey is (19595 R + 38470 G + 7471 B + 32768) / 65536, as in ITU-R 601. in and
 * out may be the same when to <= from. */
void image_convert(const uint8_t *in, uint32_t from, uint8_t *out, uint32_t to, size_t n, uint8_t ground);

/* Resizes so that the image covers to->height x to->width, and cuts out the centre: the largest centred rectangle of
 * that shape, resampled with a triangle filter that is as wide as the reduction asks for (area-like when shrinking,
 * bilinear when growing). Integer arithmetic: the same bytes on every machine. out: to's size. Both sides of `in` are
 * at most IMAGE_SIDE_FILE_MAX, those of out at most DATASET_SIDE_MAX; alpha is weighed in by converting first.
 * 0 or ERR_MEMORY. */
int image_fit(const uint8_t *in, const struct image_size *from, uint8_t *out, const struct image_size *to,
              uint8_t ground);

#endif
