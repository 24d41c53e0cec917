/* Where the checkpoint is that a person names to start from, by any of its directories. */
#ifndef DECANT_PROTO_CHECKPOINT_PATH_H
#define DECANT_PROTO_CHECKPOINT_PATH_H

#include "common/error.h"
#include "proto/run_dir.h"

/* path: a regular file, which is taken as it is; a step's directory; a checkpoints directory or a run's, of which
 * `latest` names the step; or a pointer itself, as RUN/checkpoints/best. file: ENCODER_FILE or MIXTURE_FILE, looked
 * for in the step. ERR_NOT_FOUND says what was looked for, ERR_IO, ERR_FORMAT, ERR_RANGE. */
int checkpoint_path_find(const char *path, const char *file, char out[RUN_PATH_MAX], struct error *e);

#endif
