/* Image sets in memory: N x H x W x C bytes and, where there are any, labels. IDX files (MNIST family), gzipped or not.
 */
#ifndef DECANT_WORKER_DATA_DATASET_H
#define DECANT_WORKER_DATA_DATASET_H

#include <stdint.h>
#include "common/error.h"

enum {
    DATASET_SIDE_MAX = 512,    /* pixels; augmentation keeps a few rows of an image on the stack */
    DATASET_CHANNELS_MAX = 4,  /* grey, colour, colour with alpha */
    DATASET_CLASSES_MAX = 100, /* EMNIST has 62; a larger label means that the file is not what it claims to be */
};

struct dataset {
    uint32_t count, height, width, channels, classes;
    uint8_t *images; /* (N,H,W,C) */
    uint8_t *labels; /* (N) each < classes, NULL when unlabelled */
};

enum dataset_split { DATASET_TRAIN, DATASET_TEST };
/* path: a directory with train-images-idx3-ubyte[.gz] ... t10k-labels-idx1-ubyte[.gz]; without the labels file the set
 * is unlabelled. limit 0: all. 0, or ERR_IO, ERR_FORMAT, ERR_RANGE, ERR_MEMORY with a text that names the file. */
int dataset_load(const char *path, enum dataset_split split, uint32_t limit, struct dataset *out, struct error *e);
void dataset_fini(struct dataset *d);

#endif
