/* From a list of image files to images in the sink: chooses the size and the ground, decodes, labels. A file that
 * cannot be read is noted and left out. */
#ifndef DECANT_WORKER_DATA_IMAGE_LOAD_H
#define DECANT_WORKER_DATA_IMAGE_LOAD_H

#include "worker/data/image_list.h"

/* Lets the training images vote for the ground: all of them, whatever share or split is loaded, so that all come to the
 * same choice. */
void image_load_judge(const struct image_list *train, struct image_sink *sink);
/* Loads wanted, which is train itself or the list of test images: those get the labels of the training classes. Both
 * lists are used up, but for image_list_fini. */
int image_load(struct image_list *train, struct image_list *wanted, struct image_sink *sink, struct error *e);

#endif
