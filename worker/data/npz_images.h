/* Images in an archive's array, read again by their number: possible where the archive holds the array as it is. */
#ifndef DECANT_WORKER_DATA_NPZ_IMAGES_H
#define DECANT_WORKER_DATA_NPZ_IMAGES_H

#include <stdbool.h>
#include <zip.h>
#include "worker/data/image_source.h"

struct npz_images {
    uint64_t index;         /* of the array in its archive */
    uint64_t offset;        /* of the first image in the array's bytes */
    struct image_size size; /* of each */
    const char *where;      /* named in messages; copied */
};

bool npz_images_possible(zip_t *z, uint64_t index);
/* Takes z over, whatever comes of it. ERR_IO, ERR_MEMORY. */
int npz_images_new(zip_t *z, const struct npz_images *images, struct image_access *out, struct error *e);

#endif
