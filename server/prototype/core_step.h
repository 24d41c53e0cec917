/* A step: statistics in, a version out. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_STEP_H
#define DECANT_SERVER_PROTOTYPE_CORE_STEP_H

#include "server/prototype/core_state.h"

/* Of a version; a stream has no end: run.steps only says over how many versions beta moves. */
double prototype_core_beta(const struct prototype_core *c, uint64_t version);
/* Decodes statistics into a node of the tree, on the heap. Those that are no good are refused, and *rows is NULL. 0
 * or an error. */
int prototype_core_take_rows(struct prototype_core *c, const struct peer *from, const struct msg *m,
                             struct stats_rows **rows, struct outbox *out);
void prototype_core_drop_rows(void *value, void *context); /* such a node */
/* The sum becomes the next version, which is published; it stays the caller's. */
int prototype_core_finish_step(struct prototype_core *c, const struct stats_rows *sum, struct outbox *out);

#endif
