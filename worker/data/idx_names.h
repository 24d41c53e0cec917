/* Near names of IDX files, which people and other libraries give them: train-images.idx3-ubyte,
 * emnist-...-idx3-ubyte. */
#ifndef DECANT_WORKER_DATA_IDX_NAMES_H
#define DECANT_WORKER_DATA_IDX_NAMES_H

#include <stdbool.h>

/* The name of a file in the directory that was probably meant to be called `wanted`, as idx.c has it; the first by its
 * bytes. */
bool idx_near_name(const char *directory, const char *wanted, char name[256]);

#endif
