/* Image sets in memory: N x H x W x C bytes and, where there are any, labels. IDX files (MNIST family), gzipped or not. */
#ifndef DECANT_WORKER_DATA_DATASET_H
#define DECANT_WORKER_DATA_DATASET_H

#include <stdint.h>
#include "common/error.h"

struct dataset {
    uint32_t count, height, width, channels, classes;
    uint8_t *images; /* (N,H,W,C) */
    uint8_t *labels; /* (N), NULL when unlabelled */
};

enum dataset_split { DATASET_TRAIN, DATASET_TEST };
/* path: a directory with train-images-idx3-ubyte[.gz] ... t10k-labels-idx1-ubyte[.gz]. limit 0: all. */
int dataset_load(const char *path, enum dataset_split split, uint32_t limit, struct dataset *out, struct error *e);
void dataset_fini(struct dataset *d);

#endif
