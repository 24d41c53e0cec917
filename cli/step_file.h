/* What the two files of a step say about themselves, and whether they belong together: a mixture that was put beside
 * another run's encoder looks sound by itself, and every figure about the two would be wrong. Bytes follow from the
 * configuration (with its seed) and the step, so that run, step and configuration name a state. */
#ifndef DECANT_CLI_STEP_FILE_H
#define DECANT_CLI_STEP_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include "common/error.h"
#include "common/safetensors.h"
#include "proto/run_config.h"

#define STEP_UNKNOWN UINT64_MAX

struct step_identity {
    uint64_t step;
    char run[64], config[32]; /* name, and hash of the configuration in hexadecimal */
    char data[32];            /* fingerprint of the images; empty in files of earlier versions */
};

/* ERR_FORMAT when one of them is missing, or is none. */
int step_identity_read(const struct safetensors *file, struct step_identity *out, struct error *e);
/* The step that the directory's name says; STEP_UNKNOWN for another name. */
uint64_t step_of_directory(const char *directory);
/* An encoder of its directory's step, STEP_UNKNOWN for whichever, and a mixture of that encoder. ERR_STATE says what
 * differs. */
int step_identity_placed(const struct step_identity *file, uint64_t step, struct error *e);
int step_identity_match(const struct step_identity *encoder, const struct step_identity *mixture, struct error *e);

/* The directory that the step lies in is of the same run: by OUT/config.ini, of OUT/checkpoints/STEP. 0 also when there
 * is none. ERR_STATE for another run's or another configuration's, ERR_IO when that may not be read. */
int step_identity_home(const struct step_identity *encoder, const struct run_config *config, const char *directory,
                       struct error *e);

/* The directory is that of a step of a stream, which has a mixture and no encoder: by the mixture's own configuration.
 * False for whatever cannot be read. */
bool step_is_stream(const char *directory);

/* The configuration that a file of a step holds. ERR_FORMAT, ERR_CONFIG. */
int step_file_config(const struct safetensors *encoder, struct run_config *out, struct error *e);

#endif
