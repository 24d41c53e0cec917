/* The mixture's checkpoints in the run's directory (proto/run_dir.h). */
#ifndef DECANT_SERVER_PROTOTYPE_MIXTURE_CHECKPOINT_H
#define DECANT_SERVER_PROTOTYPE_MIXTURE_CHECKPOINT_H

#include "common/error.h"
#include "proto/run_config.h"
#include "server/prototype/mixture_file.h"

/* Writes the mixture of its version below run.out, then `latest` if that completes the step. */
int mixture_checkpoint_write(const struct run_config *c, const struct mixture *m, const struct mixture_facts *facts,
                             struct error *e);

/* Loads the newest step, at or below step_max, of which all files are sound into m (a new mixture); steps that are not
 * are logged and passed over. 0; ERR_NOT_FOUND when there is none; ERR_CONFIG when the newest belongs to another run or
 * configuration; ERR_FORMAT when all are damaged. */
int mixture_checkpoint_resume(const struct run_config *c, uint64_t step_max, struct mixture *m,
                              struct mixture_facts *facts, struct error *e);

#endif
