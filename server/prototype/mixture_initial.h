/* A mixture that a run begins with in the place of a random one (mixture.init): read once, before step 0. */
#ifndef DECANT_SERVER_PROTOTYPE_MIXTURE_INITIAL_H
#define DECANT_SERVER_PROTOTYPE_MIXTURE_INITIAL_H

#include "common/error.h"
#include "server/prototype/mixture.h"

/* m: a new mixture; it becomes version 0. path: a checkpoint of a mixture, whose statistics are taken over, or a file
 * with "mean" or "prototypes" F32 (K',D), around which fresh components are placed (decant export). Of more than K
 * rows the K heaviest are taken, or the first where the file does not say, in their order; of fewer, the rest is
 * random by the seed. *taken: how many are from the file. ERR_FORMAT on damage, ERR_CONFIG for another D, with the
 * path. fingerprint: of the file's bytes (proto/provenance.h). */
int mixture_initial_read(const char *path, uint64_t seed, struct mixture *m, uint32_t *taken, uint64_t *fingerprint,
                         struct error *e);

#endif
