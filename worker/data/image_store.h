/* Where decoded images go when they do not go to memory: a file that grows, set by set, while a part of it is mapped
 * to be written. The kernel writes pages out when it needs their memory, so that a set may be larger than that. */
#ifndef DECANT_WORKER_DATA_IMAGE_STORE_H
#define DECANT_WORKER_DATA_IMAGE_STORE_H

#include "worker/data/dataset.h"

struct image_store {
    int fd;
    const char *path; /* named in errors */
    uint64_t end;     /* of what is kept: where the next images begin */
};

/* Memory for `bytes` of images at the end of the file: d->images, in a mapping that dataset_fini ends. Space on the
 * disk is taken at once, since a page that finds none would kill the process. ERR_IO, ERR_MEMORY. */
int image_store_take(struct image_store *s, uint64_t bytes, struct dataset *d, struct error *e);
/* The first `bytes` of what was taken last stay. */
void image_store_keep(struct image_store *s, uint64_t bytes);

/* Maps `bytes` of a file from `offset` on; d->images points to the first of them. */
int image_store_map(int fd, uint64_t offset, uint64_t bytes, bool write, struct dataset *d);

#endif
