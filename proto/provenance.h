/* What a run was computed from and by: the fingerprint of its images and those of the arithmetic of its processes. Each
 * server keeps one in memory and in the metadata of its checkpoints, so that a run does not go on with other images, or
 * with processes that round otherwise, without anybody knowing.
 *
 * The parameter server alone decides who takes part: with two judges each could believe another worker, and between
 * them refuse all. Workers greet the prototype server once they are admitted, and it writes down what they tell.
 *
 * A fingerprint is a whole number from 1 to 2^53 - 1, which a scalar of a message carries exactly; 0 is "not known". In
 * metadata and logs it has 14 hexadecimal digits:
 *
 *   data              of the images, from the first worker that tells
 *   data_before       of the images before, and
 *   data_since        the step at which those of `data` took their place; both only after run.accept_data
 *   numerics          of the arithmetic of the run's first worker
 *   numerics_other    of a worker that rounds otherwise, admitted by run.numerics = any; the newest kind, if any
 *   server_numerics   of the arithmetic of the server that wrote the file
 *   server_other      of the server that it took over from, likewise, if that rounds otherwise
 *   init              of the file that the run began with (encoder.init, mixture.init), if any
 *
 * Checkpoints of earlier versions have none of them: what is not known is learnt from the next worker. */
#ifndef DECANT_PROTO_PROVENANCE_H
#define DECANT_PROTO_PROVENANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/error.h"
#include "common/safetensors.h"
#include "proto/msg.h"
#include "proto/run_config.h"

#define FINGERPRINT_MASK ((UINT64_C(1) << 53) - 1)

#define PROVENANCE_FORM "data and numerics are whole numbers from 0 to 2^53 - 1"

enum { PROVENANCE_ENTRIES_MAX = 8 };

struct provenance {
    uint64_t data, data_before, data_since;
    uint64_t numerics, numerics_other;
    uint64_t server_numerics, server_other;
    uint64_t init;
    bool data_told; /* a worker has told `data` in the life of this process; not kept */
};

/* Any hash as a fingerprint. */
uint64_t fingerprint_of(uint64_t hash);

/* Whether what a HELLO tells are fingerprints at all. */
bool provenance_is_told_right(const struct msg *hello);
/* May this HELLO's worker take part? It tells by the scalars `data` and `numerics`, both optional. 0, or why not, with
 * what to do in *text (static). Changes nothing. */
enum reason provenance_check(const struct provenance *p, const struct run_config *c, const struct msg *hello,
                             const char **text);
/* Takes what a HELLO tells that was found to be right; says in the log what it accepts. step: where the run stands. */
void provenance_take(struct provenance *p, const struct msg *hello, uint64_t step);

/* The run has gone back to its start: what its workers told no longer binds the next ones. */
void provenance_forget(struct provenance *p);
/* Takes over from a checkpoint what is not known yet. */
void provenance_adopt(struct provenance *p, const struct provenance *kept);
/* A process with arithmetic `own` takes up what `p`, read from a checkpoint, says of the server before it: ERR_CONFIG
 * when it rounds otherwise and run.numerics does not admit that. Also says in the log what p does not know. */
int provenance_take_server(struct provenance *p, const struct run_config *c, uint64_t own, struct error *e);

/* Entries for what is known; how many. */
size_t provenance_to_metadata(const struct provenance *p, struct metadata_entry out[PROVENANCE_ENTRIES_MAX]);
/* ERR_FORMAT when an entry is there and is no fingerprint. */
int provenance_from_metadata(const struct safetensors *f, struct provenance *out, struct error *e);

#endif
