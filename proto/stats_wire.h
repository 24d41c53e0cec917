/* Inside proto/ only: what the sum, the writer and the reader of EM statistics share. */
#ifndef DECANT_PROTO_STATS_WIRE_H
#define DECANT_PROTO_STATS_WIRE_H

#include "proto/stats.h"

enum { STATS_NOVEL_MAX = 4096 }; /* candidates in a message: re-seeding takes at most a few dozen */

/* Largest |h_id|. Embeddings have unit length; this only keeps every float32 sum of a step far from overflow. */
#define STATS_UNIT_TOLERANCE 0.01 /* of an embedding's squared length: bfloat16 rounds that much */
/* Responsibilities of an embedding sum to 1, and n to the number of embeddings, within this (relative). */
#define STATS_MASS_TOLERANCE 1e-3

/* Room for R rows, or for V candidates, A assignments and S embeddings, in s, whose K and D are set. 0, or ERR_MEMORY
 * with s empty. */
int stats_reserve_rows(struct stats_rows *s, uint32_t R);
int stats_reserve_extra(struct stats_rows *s, uint32_t V, uint32_t A, uint32_t S);

#endif
