/* The images in tar archives of the WebDataset layout, by place: archives are looked through once for where each
 * image's bytes are, and images are then read like files.
 *
 *   0001.jpg  0001.cls  0002.jpg  0002.cls  a/0003.png  a/0003.cls ...
 *
 * A sample is what follows one another under the same name up to the first dot; its image is its first file that is
 * called like one and has no second dot, its label the number in its .cls file. Either all samples have a label or
 * the archives are unlabelled. Samples come in the order of the archives, which come in the order of their names. */
#ifndef DECANT_WORKER_DATA_TAR_LIST_H
#define DECANT_WORKER_DATA_TAR_LIST_H

#include "worker/data/image_list.h"

/* Appends an archive's samples to a list that begins as zeros. What is wrong with a sample becomes a problem of sink;
 * an archive that cannot be read to its end is an error: ERR_IO, ERR_FORMAT, ERR_RANGE beyond limits.h, ERR_MEMORY. */
int tar_list_add(struct image_list *l, const char *path, struct image_sink *sink, struct error *e);
/* Call after the last: decides whether the list is labelled. */
void tar_list_close(struct image_list *l, struct image_sink *sink);
/* Whether a file is a tar archive with an image in it. */
bool tar_list_recognises(const char *path);

#endif
