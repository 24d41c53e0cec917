/* Weights that a run begins with in the place of random ones (encoder.init): read once, before step 0, by this server
 * alone. What a tensor is called decides where it goes:
 *
 *   ours           in a checkpoint of ours       in any other safetensors file
 *   conv1.weight   teacher.conv1.weight          conv1.weight, or what encoder.init_map says
 *   head.bn1.mean  buffer.head.bn1.mean          likewise
 *
 * Student and teacher both begin with it. A tensor that is not there, or has another shape, keeps its random value, so
 * that the head or the number of prototypes may change; every tensor's fate is in the log. */
#ifndef DECANT_SERVER_PARAMETER_INITIAL_WEIGHTS_H
#define DECANT_SERVER_PARAMETER_INITIAL_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>
#include "common/error.h"
#include "proto/manifest.h"
#include "proto/run_config.h"

struct initial_weights;

/* Reads what c->encoder.init names; *out stays NULL when that is empty. ERR_CONFIG with the key and the cause: whoever
 * starts again would meet the same file. ERR_MEMORY. */
int initial_weights_open(const struct run_config *c, struct initial_weights **out, struct error *e);
void initial_weights_free(struct initial_weights **w);
/* Of the file's bytes, for the checkpoints' metadata (proto/provenance.h). */
uint64_t initial_weights_fingerprint(const struct initial_weights *w);

struct initial_counts {
    size_t taken, absent, other_shape, skipped; /* of the manifest's entries; skipped: the map says so */
    size_t backbone;                            /* of those taken: neither of the head nor prototypes */
    size_t frozen;                              /* of those not taken: encoder.freeze leaves them at random */
    size_t unused;                              /* tensors of the file */
};

/* Writes every tensor that fits over params (parameter_floats) and buffers (buffer_floats; NULL when there are none).
 * ERR_CONFIG when none does, or one of them is not finite. */
int initial_weights_apply(const struct initial_weights *w, const struct manifest *m, float *params, float *buffers,
                          struct initial_counts *counts, struct error *e);

#endif
