/* Batches of images that training will want, read ahead of it by threads of their own: the order of a run's samples is
 * known, so that what the next slots need can be read while this one is computed. Memory is that of a fixed number of
 * batches; what was read and is not wanted any more makes room for what is.
 *
 *   image_feed_want(feed, key, images);                       // soon; returns at once
 *   rc = image_feed_take(feed, key, images, &pixels, &e);     // waits, and reads itself what nobody has read yet
 *   ... (size, H, W, C) bytes at pixels ...
 *   image_feed_release(feed, key);
 *
 * A batch is known by its key; smaller keys are wanted sooner. What is read when changes nothing of what is read. All
 * functions are thread-safe. */
#ifndef DECANT_WORKER_DATA_IMAGE_FEED_H
#define DECANT_WORKER_DATA_IMAGE_FEED_H

#include "worker/data/image_source.h"

struct image_feed_options {
    const struct image_source *source;
    size_t image_bytes;
    uint32_t size;    /* images a batch */
    uint32_t batches; /* that memory is taken for; more than are ever taken at a time */
    uint32_t threads; /* that read; fewer when the system grants no more */
};

struct image_feed;
int image_feed_new(const struct image_feed_options *o, struct image_feed **out, struct error *e); /* ERR_MEMORY */
void image_feed_free(struct image_feed **f);                                                      /* none is taken */

/* images: (size). Ignored when there is no room but that of batches which are wanted sooner. */
void image_feed_want(struct image_feed *f, uint64_t key, const uint32_t *images);
/* images may be NULL when the key is known to be wanted. As image_source_read. */
int image_feed_take(struct image_feed *f, uint64_t key, const uint32_t *images, const uint8_t **pixels,
                    struct error *e);
void image_feed_release(struct image_feed *f, uint64_t key);
/* Nothing below this key is wanted any more. */
void image_feed_pass(struct image_feed *f, uint64_t key);
/* The first image that could not be read, whoever wanted it; false when all could. */
bool image_feed_failure(struct image_feed *f, struct error *out);

#endif
