/* What the core answers. All of it belongs to the core: core.c and the files beside it. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_REPLY_H
#define DECANT_SERVER_PROTOTYPE_CORE_REPLY_H

#include "server/prototype/core_state.h"

uint64_t prototype_core_version(const struct prototype_core *c); /* the newest */
/* An empty message with the run, the generation, the configuration and the newest version. */
void prototype_core_reply(const struct prototype_core *c, struct msg *m, enum msg_type type);
/* An acknowledgement of m; of statistics, which are counted by what became of them. */
int prototype_core_ack(struct prototype_core *c, const struct peer *from, const struct msg *m, enum ack_code code,
                       struct outbox *out);
int prototype_core_acknowledge(struct prototype_core *c, const struct peer *from, const struct msg *m,
                               enum ack_code code, struct outbox *out);

#endif
