/* k-means++ that is not done yet, in a checkpoint of the mixture:
 *
 *   init_rows F32 (n,D)      the embeddings that have come
 *   init_distance F32 (n)    of each from its nearest seed, squared; once there are seeds
 *   init_seeds U32 (c)       the seeds so far, rows of init_rows, in their order; likewise
 *
 * A checkpoint without them is of a mixture whose components are placed. */
#ifndef DECANT_SERVER_PROTOTYPE_SEEDING_FILE_H
#define DECANT_SERVER_PROTOTYPE_SEEDING_FILE_H

#include "common/error.h"
#include "common/safetensors.h"
#include "server/prototype/seeding.h"

/* Tensors that point into s, three at most; returns how many. */
size_t seeding_to_tensors(const struct seeding *s, struct tensor_view *out);
/* Into *s, a new one; freed, and NULL, when the file has none, so that there is nothing left to do. rows: as many must
 * have come by the file's step. ERR_FORMAT for a state that cannot be. */
int seeding_from_file(const struct safetensors *f, uint64_t rows, struct seeding **s, struct error *e);

#endif
