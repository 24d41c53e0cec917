/* The images of a set that stay in their files and are read when they are wanted (data.cache = none): which image is
 * where, and what it was when the set was first read. An image that is gone since then, or has other pixels, is an
 * error, never a quiet change of what is trained on.
 *
 * A reader lends an image_access; image_sink.c notes the places and hashes. Reading is thread-safe. */
#ifndef DECANT_WORKER_DATA_IMAGE_SOURCE_H
#define DECANT_WORKER_DATA_IMAGE_SOURCE_H

#include "worker/data/image.h"

enum { IMAGE_SOURCE_NAME_MAX = 400 }; /* bytes of an image's name in messages */

/* How a reader reads one of its images again. `place`: the reader's own number for it. */
struct image_access {
    void *state; /* the access's; NULL: there is none */
    /* Pixels of any size, freed by the caller. ERR_* with the cause, without a name. */
    int (*read)(void *state, uint32_t place, struct image *out, struct error *e);
    void (*name)(const void *state, uint32_t place, char out[IMAGE_SOURCE_NAME_MAX]);
    void (*free)(void *state);
};
void image_access_free(struct image_access *a);

/* Images of one path. */
struct image_part {
    struct image_access access;
    struct image_size size; /* that all of them get */
    uint8_t ground;         /* what transparency is composited on */
    uint32_t count;
    uint32_t *places; /* (count) */
    uint64_t *hashes; /* (count) of the pixels that were first seen */
};

struct image_source {
    struct image_part *parts; /* (count), one after the other */
    uint32_t count;
};

/* A source of one part without images, which may come to have as many as `room`. ERR_MEMORY. */
int image_source_new(uint32_t room, struct image_source **out);
void image_source_free(struct image_source **s);
/* The parts of *from follow those of *into, which may be NULL; *from is used up. ERR_MEMORY. */
int image_source_join(struct image_source **into, struct image_source **from);

uint64_t image_source_hash(const uint8_t *pixels, const struct image_size *size);
/* Image i into `out`, as many bytes as its size has. With a text that names the image: ERR_NOT_FOUND, ERR_IO: it is
 * gone; ERR_FORMAT: it is not what it was; ERR_MEMORY. */
int image_source_read(const struct image_source *s, uint32_t i, uint8_t *out, struct error *e);

#endif
