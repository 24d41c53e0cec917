/* Files in which images of one size lie one after the other at equal distances: read again by their number. */
#ifndef DECANT_WORKER_DATA_RAW_IMAGES_H
#define DECANT_WORKER_DATA_RAW_IMAGES_H

#include "worker/data/image_source.h"

struct raw_layout {
    struct image_size size;
    uint32_t label_bytes; /* before each image, passed over */
    bool planes;          /* (C,H,W) instead of (H,W,C) */
};

/* An access without files. ERR_MEMORY. */
int raw_images_new(const struct raw_layout *layout, struct image_access *out);
/* `count` images from byte `offset` on; their places follow those of the files before. The file stays open. ERR_*. */
int raw_images_add(struct image_access *a, const char *path, uint64_t offset, uint64_t count, struct error *e);

#endif
