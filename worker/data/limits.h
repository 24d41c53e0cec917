/* What the files of an image set may claim: every limit of worker/data, each with its reason. Beyond one of them a file
 * is refused with a message that names the limit; what a file claims within them is taken only as data.memory allows.
 */
#ifndef DECANT_WORKER_DATA_LIMITS_H
#define DECANT_WORKER_DATA_LIMITS_H

#include <stdint.h>

enum {
    DATASET_SIDE_MAX = 512,       /* pixels of a training image; augmentation keeps a few rows of it on the stack */
    DATASET_CHANNELS_MAX = 4,     /* grey, grey with alpha, colour, colour with alpha */
    DATASET_CLASSES_MAX = 4096,   /* ImageNet-21k's subsets stay below; votes of k-NN are kept on the stack */
    DATASET_IMAGES_MAX = 1 << 28, /* images of a set: at the smallest useful sizes more than memory holds */
    DATASET_PROBLEMS_MAX = 100,   /* problems kept in words; the rest is only counted */
    DATASET_NOTES_MAX = 16,       /* of these there are a few kinds, each once */
    DATASET_PATH_MAX = 1200,      /* bytes of a path below data.path, which itself has at most 1023 */

    IMAGE_SIDE_FILE_MAX = 1 << 15,   /* side of an image file before it is resized: panoramas have 30 000 pixels */
    IMAGE_PIXELS_FILE_MAX = 1 << 26, /* 67 million, 268 MB decoded: the largest common cameras have 61 million */
    IMAGE_BYTES_FILE_MAX = 1 << 28,  /* of an image file: the above, uncompressed */
    PNG_CHUNKS_MAX = 1000,           /* ancillary chunks kept by libpng (its own default) */
    PNG_CHUNK_BYTES_MAX = 8000000,   /* of one of them (libpng's default): compressed text can grow a thousandfold */
    JPEG_SCANS_MAX = 500, /* progressive scans: each costs a pass over the image, a bomb has tens of thousands */

    GROUND_IMAGES_MAX = 64,   /* images with alpha that decide what all are composited on: each is decoded once more */
    GROUND_PEEK_BYTES = 4096, /* of each, by which files without alpha are told: a palette and most profiles fit */
    GROUND_FILES_MAX = 1 << 12, /* files looked at to find them, at the cost of opening each */
    GROUND_DARK_MAX = 63,       /* grey of a pixel that would vanish on black: a quarter of the range, by choice */

    FOLDER_DEPTH_MAX = 8,             /* folders below a class folder */
    FOLDER_ENTRIES_MAX = 1 << 24,     /* directory entries visited; ImageNet has 1.4 million */
    FOLDER_DIRECTORIES_MAX = 1 << 16, /* directories visited: links between siblings make up factorially many */
    FOLDER_THREADS_MAX = 8,           /* threads that decode; each may hold one decoded file */

    NPY_HEADER_MAX = 1 << 16,  /* bytes of a .npy header; numpy itself writes 118 for these arrays */
    ZIP_ENTRIES_MAX = 1 << 16, /* arrays in an .npz */
};

#endif
