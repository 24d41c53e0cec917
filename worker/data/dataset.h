/* Image sets: N x H x W x C bytes, in memory or read when they are wanted, and, where there are any, labels. What
 * data.path is decides how it is read (docs/DATA.md): IDX (MNIST family), CIFAR binaries, .npy, .npz, tar shards, or
 * a directory of image files; or several of these, one after the other. Every image is brought to one size and one
 * number of channels on the way in.
 *
 *   struct dataset_options o = {.path = "photos", .side = 64, .channels = 3, .holdout = 10};
 *   struct dataset train;
 *   if (dataset_load(&o, DATASET_TRAIN, &train, &e) != 0) ...
 *
 * The result depends on the files' names and bytes and on the options, never on threads, locale or directory order. */
#ifndef DECANT_WORKER_DATA_DATASET_H
#define DECANT_WORKER_DATA_DATASET_H

#include <stdbool.h>
#include <stdint.h>
#include "common/error.h"
#include "proto/run_config.h"
#include "worker/data/limits.h"

struct image_source;
struct image_store;

struct dataset_options {
    const char *path;  /* a list of paths (common/path_list.h) */
    uint32_t limit;    /* keep the first images only; 0 keeps all */
    uint32_t side;     /* of the square that every image becomes; 0: the size of the first training image */
    uint32_t channels; /* 1 or 3; 0: those of the first training image */
    uint32_t holdout;  /* every holdout-th labelled image is a test image when there are none; 0: none are held out */
    uint64_t memory_bytes;           /* that the images may take; 0: no limit */
    enum data_background background; /* what transparency is composited on */
    bool cached;    /* decoded images stay in a file that is mapped (image_cache.h), and memory_bytes is no limit */
    bool on_demand; /* images are read once to know them, and again when they are wanted (image_source.h); likewise */
    const char *cache_directory; /* of that file; "" or NULL: the user's cache directory */
    struct image_store *store;   /* NULL, or where readers put images: image_cache.c's business */
    bool loose; /* images that lie beside class folders count, and then nothing has a label; else they are left out */
    bool names; /* keep the images' names: only who shows them pays for the memory */
    /* NULL, or called while images are loaded, from the thread that loads, often and with more and more done. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *progress_context;
};
struct dataset_options dataset_options_of(const struct run_config *c); /* points into c */

/* Of the images as they are in the files, before resizing. */
struct dataset_sizes {
    uint32_t height_min, height_max, width_min, width_max;
};

struct dataset {
    uint32_t count, height, width, channels, classes;
    uint8_t *images; /* (N,H,W,C); malloc'd, or inside: */
    void *map;       /* NULL, or a mapping of so many bytes, which may be read only */
    size_t map_bytes;
    struct image_source *source; /* NULL, or where images are, which is NULL then */
    uint64_t fingerprint;        /* with a source: of dataset_fingerprint */
    uint16_t *labels;            /* (N) each < classes, NULL when unlabelled */

    char **names; /* (N) file of each image, below the path that was loaded; NULL unless asked for, and where images
                   * are no files */
    struct dataset_sizes sizes;
    const char *format; /* name of the reader, static */
    uint32_t holdout;   /* every so many-th of the training files' images is a test image; 0: none is */
    char **class_names; /* (classes), then NULL; no array where the format has none */
    uint32_t skipped;   /* images that are there and not in the set, as far as they were counted */
    uint32_t problem_count;
    char *problems[DATASET_PROBLEMS_MAX]; /* the first ones, in the order of the files: "FILE: CAUSE" */
    uint32_t note_count;                  /* what was decided in place of the user; nothing is wrong */
    char *notes[DATASET_NOTES_MAX];
};

enum dataset_split { DATASET_TRAIN, DATASET_TEST };

/* 0, or with a text that names the file: ERR_NOT_FOUND (no such path, or no such split), ERR_IO, ERR_FORMAT, ERR_RANGE
 * (more than memory_bytes, too), ERR_MEMORY. Image files that cannot be read are no error as long as one can. */
int dataset_load(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e);
void dataset_fini(struct dataset *d);

/* Image i, for whoever reads each seldom (training has image_feed.h): where it is in memory, or read into scratch,
 * which has room for one. Thread-safe, each thread with a scratch of its own. As image_source_read. */
int dataset_image(const struct dataset *d, uint32_t i, uint8_t *scratch, const uint8_t **out, struct error *e);
size_t dataset_image_bytes(const struct dataset *d);

/* Hash of images, labels and shape: equal sets have equal fingerprints on every machine. 1 to FINGERPRINT_MASK
 * (proto/provenance.h). */
uint64_t dataset_fingerprint(const struct dataset *d);
/* What the hash begins with; then come images and labels. */
enum { DATASET_SHAPE = 6 };
void dataset_shape(const struct dataset *d, uint32_t shape[DATASET_SHAPE]);

/* Mean and standard deviation of pixels in 0..1: what data.mean and data.deviation should be. */
struct dataset_moments {
    double mean, deviation; /* of all */
    double channel_mean[DATASET_CHANNELS_MAX], channel_deviation[DATASET_CHANNELS_MAX];
};
int dataset_measure(const struct dataset *d, struct dataset_moments *out, struct error *e); /* as dataset_image */

#endif
