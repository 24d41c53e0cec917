/* What the core publishes: versions, whole or as deltas, and figures. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_PUBLISH_H
#define DECANT_SERVER_PROTOTYPE_CORE_PUBLISH_H

#include "server/prototype/core_state.h"

/* Figures of the newest version; names are those of docs/REDIS.md. */
int prototype_core_publish_step(struct prototype_core *c, struct outbox *out);
/* The full message of the newest version, or of the one before. */
int prototype_core_full_message(struct prototype_core *c, bool newest, struct msg *m);
int prototype_core_publish_version(struct prototype_core *c, struct outbox *out);
/* Before a fold: what is newest becomes the version before. */
void prototype_core_keep_previous(struct prototype_core *c);

#endif
