/* The images of one path: dataset_load's part. */
#ifndef DECANT_WORKER_DATA_DATASET_ONE_H
#define DECANT_WORKER_DATA_DATASET_ONE_H

#include "worker/data/dataset.h"

/* As dataset_load, of options whose path is one path as the file system knows it, and no list. */
int dataset_load_one(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e);

#endif
