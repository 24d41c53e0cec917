/* The images that a command line names, at the size that a run's encoder takes: image files one by one, whole image
 * sets (docs/DATA.md), or several of both, with a name for each. */
#ifndef DECANT_CLI_IMAGE_SET_H
#define DECANT_CLI_IMAGE_SET_H

#include "cli/evaluation_meter.h"
#include "worker/data/dataset.h"

/* Brings images at `path` to what the run was trained on, where its configuration leaves size or channels to its own
 * images and those can be looked at. */
void image_set_fit(const struct run_config *config, const char *path, struct dataset_options *o);

/* All images at n > 0 paths, none held out of the training images, data.limit aside. out->names: PATH/FILE, or PATH#I
 * for the I-th image of a set that has no files; PATH itself for an image file. A folder's loose images count beside
 * its folders, then without labels, but for the run's own images. Labels and classes are those of the set, when there
 * is one path only. split: of the sets; DATASET_TEST means held-out images where there are no others. An image file
 * that is there and cannot be read is left out with a line in out->problems, in a set and among several paths
 * (`*.jpg`); ERR_* with a text when none is left, and for any other path that cannot be read. */
int image_set_load(const struct run_config *config, const char *const *paths, size_t n, enum dataset_split split,
                   struct evaluation_meter *meter, struct dataset *out, struct error *e);
/* Of a run's own images that could not be loaded: rc, with option in e as the one that names others. */
int image_set_own_failed(int rc, const char *option, struct error *e);
/* What could not be read, for people, where the meter writes: the first few files by name. */
void image_set_warn(const struct dataset *d, struct evaluation_meter *meter);
/* --split train|test: -1, or the exit code having said what is wrong. command: its name. */
int image_set_split(const char *command, const char *name, enum dataset_split *out);
/* A dataset_options.progress; its context is the meter. */
void image_set_progress(void *meter, uint64_t done, uint64_t total);

#endif
