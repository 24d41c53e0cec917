/* The encoder's checkpoints in the run's directory (proto/run_dir.h). */
#ifndef DECANT_SERVER_PARAMETER_ENCODER_CHECKPOINT_H
#define DECANT_SERVER_PARAMETER_ENCODER_CHECKPOINT_H

#include "common/error.h"
#include "proto/run_config.h"
#include "server/parameter/weights_file.h"

/* Writes the step's encoder file into run.out, and `latest` when that completes the step. */
int encoder_checkpoint_write(const struct run_config *c, const struct encoder_state *s, struct error *e);
/* The newest step, at or below step_max, whose files are all sound. ERR_NOT_FOUND when there is none; ERR_CONFIG when
 * the newest sound one is of another configuration; ERR_FORMAT when all are damaged. */
int encoder_checkpoint_resume(const struct run_config *c, uint64_t step_max, struct encoder_state *out,
                              struct error *e);

#endif
