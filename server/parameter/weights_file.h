/* The encoder's checkpoint file, encoder.safetensors: everything that a run needs to go on, and that an evaluation
 * needs to rebuild the encoder, without any other file.
 *
 *   "__metadata__"        format "decant-encoder-1", kind "encoder", run, step, total_steps (decimal), config (hash, 16
 *                 hex digits), optimiser ("adamw", "sgd"), what proto/provenance.h lists; the checksum comes from
 *                 common/safetensors.h
 *   student.NAME  F32     each parameter, in manifest order, with its shape
 *   teacher.NAME  F32     likewise
 *   buffer.NAME   F32     each buffer
 *   adam_m.NAME, adam_v.NAME, or sgd_v.NAME  F32   the optimiser's moments
 *   manifest      U8 (n)  the parameter manifest, JSON as on the wire
 *   config_ini    U8 (n)  the resolved configuration, as an INI file; run.out, the intervals, worker.*, net.* and
 *                         redis.* at their defaults: the bytes depend on what was computed, not on where
 *
 * The texts stand last, so that the floats are aligned. "Encoder at step t" is the state before any update of step t.
 * The same state gives the same bytes. */
#ifndef DECANT_SERVER_PARAMETER_WEIGHTS_FILE_H
#define DECANT_SERVER_PARAMETER_WEIGHTS_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include "common/error.h"
#include "proto/provenance.h"
#include "proto/run_config.h"
#include "server/parameter/weights.h"

/* A snapshot: shares the vectors with the run, owns the rest. */
struct encoder_state {
    uint64_t step, total_steps;
    struct provenance provenance;
    struct manifest manifest;
    struct weight_vectors vectors;
};

void encoder_state_fini(struct encoder_state *s);

/* Names have room for the longest prefix of a checkpoint's tensors. */
bool weights_file_names_fit(const struct manifest *m);
int weights_file_write(const char *path, const struct run_config *c, const struct encoder_state *s, struct error *e);
/* ERR_CONFIG when it is sound but of another configuration, ERR_FORMAT when it is not sound. */
int weights_file_read(const char *path, const struct run_config *c, struct encoder_state *out, struct error *e);

#endif
