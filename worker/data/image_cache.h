/* Decoded sets in files that every process of a machine maps (data.cache = file). A set is decoded once; who comes
 * later, or again, finds it by its sources: the paths, and of every file below them the name, the size and the times
 * of its last changes. What the files hold is not read for that, so a file that is changed without a trace of it is
 * not noticed.
 *
 *   struct image_cache c;
 *   rc = image_cache_open(&c, &options, split, &e);
 *   if (!image_cache_read(&c, &set)) {
 *       rc = image_cache_lock(&c, &e);            // waits for another process that decodes the same
 *       if (rc == 0 && !image_cache_read(&c, &set)) {
 *           rc = image_cache_begin(&c, &e);       // readers put images into c.store from now on
 *           ...
 *           rc = image_cache_finish(&c, &set, &e);
 *       }
 *   }
 *   image_cache_close(&c);
 *
 * A file is whole or not there: it is written beside its place, synced and renamed. It is not believed before its
 * owner, sizes, checksum and every number in it were checked; one that fails is as good as none, and is replaced. A
 * newer one of the same paths and options replaces an older one, which whoever has it mapped keeps. */
#ifndef DECANT_WORKER_DATA_IMAGE_CACHE_H
#define DECANT_WORKER_DATA_IMAGE_CACHE_H

#include "worker/data/image_store.h"

enum { IMAGE_CACHE_DIRECTORY_MAX = 1024 };

struct image_cache {
    char directory[IMAGE_CACHE_DIRECTORY_MAX], path[1200], unfinished[1216];
    uint64_t place, source; /* hashes: of paths and options; of these and the files */
    int lock;               /* -1: not held */
    struct image_store store;
};

/* Where files lie, which is made when it is missing. ERR_CONFIG: nowhere, or it cannot be written to. */
int image_cache_place(const struct dataset_options *o, char directory[IMAGE_CACHE_DIRECTORY_MAX], struct error *e);
/* ERR_CONFIG: there is no place for it; ERR_NOT_FOUND, ERR_IO: a path, or the directory. */
int image_cache_open(struct image_cache *c, const struct dataset_options *o, enum dataset_split split, struct error *e);
void image_cache_close(struct image_cache *c); /* also after a failure of open */

bool image_cache_read(const struct image_cache *c, struct dataset *out); /* false: not there, or not whole */
int image_cache_lock(struct image_cache *c, struct error *e);
int image_cache_begin(struct image_cache *c, struct error *e);
/* The store's images become out's, mapped read-only. out: everything else of the set. */
int image_cache_finish(struct image_cache *c, struct dataset *out, struct error *e);

#endif
