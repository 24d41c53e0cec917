/* The core in stream mode (stream.h, ledger.h, docs/PROTOCOL.md section 12); c->stream is there. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_STREAM_H
#define DECANT_SERVER_PROTOTYPE_CORE_STREAM_H

#include "server/prototype/core_state.h"

int prototype_core_on_hello_stream(struct prototype_core *c, uint64_t now_ms, const struct peer *from,
                                   const struct msg *m, struct outbox *out);
int prototype_core_on_contribution(struct prototype_core *c, uint64_t now_ms, struct worker *worker,
                                   const struct peer *from, const struct msg *m, struct outbox *out);
/* A PING's answer gets how its sender stands. */
void prototype_core_on_ping_stream(struct prototype_core *c, uint64_t now_ms, const struct peer *from,
                                   const struct msg *m, struct msg *reply);
/* Versions and checkpoints that time makes due. */
int prototype_core_advance_stream(struct prototype_core *c, uint64_t now_ms, struct outbox *out);

#endif
