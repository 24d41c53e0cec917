/* The decoders behind image_decode, one per format. They know of no file names and of no other format. bytes are the
 * whole file; what comes out and which errors there are: image_file.h. */
#ifndef DECANT_WORKER_DATA_IMAGE_CODEC_H
#define DECANT_WORKER_DATA_IMAGE_CODEC_H

#include "worker/data/image.h"

int image_decode_png(const uint8_t *bytes, size_t size, struct image *out, struct error *e);
int image_decode_jpeg(const uint8_t *bytes, size_t size, uint32_t min_side, struct image *out, struct error *e);
int image_decode_webp(const uint8_t *bytes, size_t size, struct image *out, struct error *e);
int image_decode_tiff(const uint8_t *bytes, size_t size, struct image *out, struct error *e);
int image_decode_netpbm(const uint8_t *bytes, size_t size, struct image *out, struct error *e);

#endif
