/* What synthetic workers send instead of computing: made once, of the sizes of real contributions, and shared by all
 * (buffers are immutable once they have two owners). */
#ifndef DECANT_TESTS_BENCH_LOAD_MATERIAL_H
#define DECANT_TESTS_BENCH_LOAD_MATERIAL_H

#include "proto/manifest.h"
#include "proto/msg.h"
#include "proto/run_config.h"
#include "worker/session.h"

enum { MATERIAL_STATS = 16 }; /* different slots' statistics, taken in turn */

struct material {
    struct manifest manifest;
    struct buf *gradient, *contribution, *metrics; /* (P) F32, (Q) F32, F64 */
    struct msg stats[MATERIAL_STATS];              /* encoding, tensors and scalars only */
};

/* parameters: P, as one matrix; 0 takes the encoder of the configuration, for 28 x 28 grey images. */
int material_new(const struct run_config *c, uint64_t parameters, struct material *out, struct error *e);
void material_fini(struct material *m);
size_t material_stats_bytes(const struct material *m); /* of one slot's statistics, mean */

void material_initial(void *context, float *params, float *buffers); /* context: the material */
/* The job's results. */
void material_part_a(const struct material *m, struct slot_job *job);
void material_part_b(const struct material *m, struct slot_job *job);

#endif
