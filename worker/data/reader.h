/* The readers behind dataset_load, one per file format; dataset.c has the table. */
#ifndef DECANT_WORKER_DATA_READER_H
#define DECANT_WORKER_DATA_READER_H

#include "worker/data/image_sink.h"

struct dataset_reader {
    const char *name;                     /* as `decant dataset check` prints it */
    bool (*recognises)(const char *path); /* by names or first bytes; says nothing about the rest */
    bool (*has_test)(const char *path);   /* whether there are test images beside the training images */
    /* Feeds sink with the split that it wants: the test images when sink->test and has_test, else (a share of) the
     * training images. Calls image_sink_begin, image_sink_open and image_sink_put, not image_sink_close. */
    int (*read)(const char *path, struct image_sink *sink, struct error *e);
};

extern const struct dataset_reader idx_reader, cifar_reader, npy_reader, npz_reader, tar_reader, image_folder_reader;

#endif
