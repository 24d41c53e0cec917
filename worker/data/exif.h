/* The one thing that is read of an image's EXIF data: how it has to be turned to stand upright. EXIF is a TIFF file
 * without pixels: 'I' 'I' 42 0 (little-endian) or 'M' 'M' 0 42, the offset of a directory (u32), and there the number
 * of entries (u16) and entries of 12 bytes: tag, type (u16 each), count (u32), value. The tag is 0x0112, its type 3
 * (u16), its count 1. */
#ifndef DECANT_WORKER_DATA_EXIF_H
#define DECANT_WORKER_DATA_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* 1 to 8, as in struct image; 1 also when the bytes do not say, or are damaged: they are no part of the picture. */
uint8_t exif_orientation(const uint8_t *bytes, size_t size);

#endif
