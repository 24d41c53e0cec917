/* The run's directory as the parameter server sees it:
 *
 *   OUT/checkpoints/step-NNNNNN/encoder.safetensors   ours; the other server of the run writes its file beside it
 *   OUT/checkpoints/latest                            text "step-NNNNNN", by whoever finds the step complete
 *   OUT/generation-parameter                          decimal; how many times this server has started
 *
 * A step is complete when it has as many *.safetensors files as the run has servers that checkpoint. Every file is
 * written atomically (common/files.h), so that a crash leaves a missing file or a whole one; a file that is damaged
 * later fails its checksum, and the step before is taken. */
#ifndef DECANT_SERVER_PARAMETER_CHECKPOINTS_H
#define DECANT_SERVER_PARAMETER_CHECKPOINTS_H

#include <stdint.h>
#include "common/error.h"
#include "proto/run_config.h"
#include "server/parameter/weights_file.h"

/* Writes the step's encoder file into run.out, and `latest` when that completes the step. */
int encoder_checkpoint_write(const struct run_config *c, const struct encoder_state *s, struct error *e);
/* The newest step whose files are all sound. ERR_NOT_FOUND when there is none; ERR_CONFIG when the newest sound one is
 * of another configuration: going on from an older one would quietly lose work. */
int encoder_checkpoint_resume(const struct run_config *c, struct encoder_state *out, struct error *e);

/* Raises the generation by one, durably, and returns it. ERR_FORMAT when the file is not a number. */
int parameter_generation_raise(const char *out_dir, uint64_t *generation, struct error *e);

#endif
