/* The images of one path: dataset_load's part. */
#ifndef DECANT_WORKER_DATA_DATASET_ONE_H
#define DECANT_WORKER_DATA_DATASET_ONE_H

#include "worker/data/dataset.h"

/* As dataset_load, of options whose path is one path as the file system knows it, and no list. */
int dataset_load_one(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e);
/* What struct dataset's `format` can be, by its text; NULL when it is none of these. */
const char *dataset_format_of(const char *text);

#define DATASET_FORMAT_SEVERAL "several" /* of a list of paths with unlike formats */

#endif
