/* A checkpoint as a reader sees it: found from any of the directories that a person would name, opened, and its
 * configuration parsed. Files are written by the two servers:
 *
 *   RUN/checkpoints/latest                              text: step-NNNNNN
 *   RUN/checkpoints/step-NNNNNN/encoder.safetensors     teacher.NAME, buffer.NAME, manifest, config_ini ...;
 *                                                       a stream has none, and `encoder` is empty then
 *   RUN/checkpoints/step-NNNNNN/mixture.safetensors     mean, weight, mass, usage ...; absent in joint runs */
#ifndef DECANT_CLI_CHECKPOINT_H
#define DECANT_CLI_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include "cli/step_list.h"
#include "common/error.h"
#include "common/safetensors.h"
#include "proto/run_config.h"

struct checkpoint {
    char directory[CHECKPOINT_PATH_MAX]; /* of the step */
    uint64_t step;
    struct run_config config;
    struct safetensors encoder, mixture;
    bool has_mixture;
};

/* The one way to a step for every reader. path: a run's directory, its checkpoints directory, a step's, or a pointer
 * to one, as RUN/checkpoints/best. ERR_STATE when the files do not belong together, or into that directory
 * (step_file.h). Texts say which file is missing, damaged, or may not be read, and why. */
int checkpoint_open(const char *path, struct checkpoint *out, struct error *e);
void checkpoint_close(struct checkpoint *c);

/* The step's directory only: the one that `latest` names or, with a warning in the log, the newest complete one when
 * `latest` is missing, damaged, or names none. ERR_NOT_FOUND, or what is wrong with `latest`, when there is none;
 * ERR_IO when that cannot be told. */
int checkpoint_find(const char *path, char directory[CHECKPOINT_PATH_MAX], struct error *e);

#endif
