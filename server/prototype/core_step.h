/* A step: statistics in, a version out. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_STEP_H
#define DECANT_SERVER_PROTOTYPE_CORE_STEP_H

#include "server/prototype/core_state.h"

/* Of a version; a stream has no end: run.steps only says over how many versions beta moves. */
double prototype_core_beta(const struct prototype_core *c, uint64_t version);
/* Decodes statistics into a node of the tree, on the heap. 0, ERR_MEMORY, or ERR_FORMAT with *why. */
int prototype_core_decode(const struct prototype_core *c, const struct msg *m, struct stats_rows **out,
                          enum reason *why, struct error *detail);
void prototype_core_drop_rows(void *rows, void *context); /* such a node */
/* The sum becomes the next version, which is published; it stays the caller's. */
int prototype_core_finish_step(struct prototype_core *c, const struct stats_rows *sum, struct outbox *out);

#endif
