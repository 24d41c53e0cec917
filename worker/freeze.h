/* Which parameters training leaves as they are (encoder.freeze): their learning rate is 0 in the manifest, they take no
 * part in the gradient's norm, and their running statistics stay. Gradients are computed for them all the same. */
#ifndef DECANT_WORKER_FREEZE_H
#define DECANT_WORKER_FREEZE_H

#include <stdint.h>
#include "common/error.h"
#include "proto/manifest.h"
#include "proto/run_config.h"

/* m: of an encoder and its head, entries in the order of the network, head.* last. A stage is the number in the first
 * part of a name, "conv2.weight", "block2.norm1.bias"; what comes before the first stage belongs to it, what comes
 * after the last one only to the whole. stages: the first so many, 0 none, -1 everything but head.*. ERR_CONFIG when
 * there are fewer. */
int freeze_stages(struct manifest *m, int64_t stages, struct error *e);
/* The same as the run's configuration has it. ERR_CONFIG also when the loss has a term on features (loss.feature_rate)
 * and nothing is left that could change them. */
int freeze_of(struct manifest *m, const struct run_config *c, struct error *e);

#endif
