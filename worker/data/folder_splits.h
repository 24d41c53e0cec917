/* Which folders of a directory are its splits, by their names in any case:
 *     training    train  training  trainset
 *     test        test  testing  testset  val  valid  validation  valset  eval  evaluation  dev
 * The first of each list that is there is taken. Test folders count only beside a training folder: without one, every
 * folder is a class. */
#ifndef DECANT_WORKER_DATA_FOLDER_SPLITS_H
#define DECANT_WORKER_DATA_FOLDER_SPLITS_H

#include "worker/data/image_sink.h"

struct folder_splits {
    char train[DATASET_PATH_MAX]; /* the directory itself when it has no training folder */
    char test[DATASET_PATH_MAX];  /* "" when there is none */
    bool split;                   /* there is a training folder */
};

void folder_splits_find(const char *path, struct folder_splits *out);
/* Says which folders were taken when their names are not the plain ones, and what lies beside them and is not read. */
void folder_splits_note(const char *path, const struct folder_splits *s, struct image_sink *sink);
/* Whether a folder of that name was probably meant to be a split: one of the names above, or train2017, val_images. */
bool folder_name_is_of_a_split(const char *name);

/* Whether there are images in a folder or the folders in it, as far as a glance shows. */
bool folder_holds_images(const char *path);

/* Which split a file's name speaks of, by the words in it: train-0001.tar, imagenet_val.tar. rank: the lower, the
 * better among test splits. */
enum named_split { NAMED_NONE, NAMED_TRAIN, NAMED_TEST };
enum named_split folder_split_of_file(const char *name, int *rank);

#endif
