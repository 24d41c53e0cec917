/* Where the mixture's checkpoints lie below run.out, and what is found there at start:
 *
 *   OUT/checkpoints/step-NNNNNN/mixture.safetensors    ours
 *   OUT/checkpoints/step-NNNNNN/encoder.safetensors    the parameter server's, same step
 *   OUT/checkpoints/latest                             text: step-NNNNNN, the newest step that has both
 *   OUT/generation-prototype                           text: how often this server has been started
 *
 * Files are written atomically. A step counts for resuming only when both files are valid, so a crash between the two
 * writes, or in the middle of one, costs the steps since the one before. */
#ifndef DECANT_PROTOTYPE_CHECKPOINT_H
#define DECANT_PROTOTYPE_CHECKPOINT_H

#include "common/error.h"
#include "server/prototype/mixture_file.h"

/* Writes the mixture of its version below out, then `latest` if the encoder of that step is there already. */
int mixture_checkpoint_write(const char *out, const struct mixture *m, const struct mixture_file_info *info,
                             struct error *e);

/* Loads the newest step of which both files are valid into m (a new mixture); steps that are not are logged and passed
 * over. 0; ERR_NOT_FOUND when there is none; ERR_CONFIG when the newest belongs to another run or configuration. */
int mixture_checkpoint_resume(const char *out, const struct mixture_file_info *expected, struct mixture *m,
                              uint64_t *total_steps, struct error *e);

/* Raises the start counter on disk before anything is said to the network. */
int prototype_generation_raise(const char *out, uint64_t *generation, struct error *e);

#endif
