/* The image files below a directory, by class: what is a class and what is an image, before any file is opened.
 *
 *   DIR/cat/1.png  DIR/cat/old/2.jpg  DIR/dog/1.jpeg     class folders: "cat" is label 0, "dog" is 1
 *   DIR/1.png  DIR/2.jpg                                  flat: unlabelled
 *
 * Names are sorted by their bytes, whatever the locale; a class is a folder with at least one image in it or below it.
 * Files come first image of each class first, then the second of each, and so on, so that the first n of them are
 * drawn from all classes. Hidden names (starting with a dot) are passed over in silence, and so are files that are no
 * images by their name; links are followed, but not to a folder that they lie in. */
#ifndef DECANT_WORKER_DATA_IMAGE_LIST_H
#define DECANT_WORKER_DATA_IMAGE_LIST_H

#include "common/buf.h"
#include "worker/data/image_sink.h"

struct image_entry {
    char *name;             /* relative to the directory; in a shard, SHARD/NAME */
    uint32_t class;         /* 0 when flat */
    uint32_t position;      /* in its class, in sorted order; in shards, in the order of the archives */
    uint32_t shard;         /* index into shards, when there are any */
    uint64_t offset, bytes; /* of the file in the shard */
};

struct image_list {
    char root[DATASET_PATH_MAX];
    struct image_entry *entries; /* (count) */
    size_t count, room;
    char **classes; /* (class_count) sorted, then NULL; no array when flat */
    uint32_t class_count;
    char **shards; /* (shard_count) paths of the archives that hold the files; NULL: the files lie in root */
    uint32_t shard_count;
    bool numbered; /* classes are numbers without names */
};

/* The bytes of a file. ERR_* with the cause, without its name. */
int image_entry_read(const struct image_list *l, const struct image_entry *x, struct buf **out, struct error *e);
/* Its first n bytes, as far as they are there; how many. 0 when it cannot be read, too. */
size_t image_entry_peek(const struct image_list *l, const struct image_entry *x, uint8_t *out, size_t n);

/* Files and folders that cannot be used become problems of sink. ERR_IO when the directory itself cannot be read,
 * ERR_RANGE beyond limits.h, ERR_MEMORY. An empty list is no error. */
int image_list_read(const char *root, struct image_sink *sink, struct image_list *out, struct error *e);
/* Drops entries for which keep is false, in place. */
void image_list_filter(struct image_list *l, bool (*keep)(const void *arg, const struct image_entry *x),
                       const void *arg);
/* Gives classes the numbers they have in names; those that are not there are dropped and noted as problems of sink. */
int image_list_renumber(struct image_list *l, char *const *names, uint32_t n, struct image_sink *sink);
/* Whether no image lies directly in the lowest folder that holds them all: then that folder, its path, is probably
 * wrapped around the classes. */
bool image_list_is_wrapped(const struct image_list *l, char folder[DATASET_PATH_MAX]);
void image_list_fini(struct image_list *l);

#endif
