/* Commands that Redis carries out together, and only for the newest server of the run.
 *
 * A batch is one EVAL: a Lua script that first reads `generation` and `started` of decant:<run> and asks whether
 * decant:<run>:live is there. When a newer server writes there (a higher generation that also started later, or the
 * same generation started later) and keeps the mirror alive, it answers with the error "SUPERSEDED <generation>" and
 * does nothing; else it carries out the commands. So a server that was frozen or cut off while another took its place
 * cannot overwrite a single field, not even with what it had already queued. A run that begins again in a fresh run.out
 * has a lower generation but started later, and is not locked out; where its clock was set back it waits until `live`
 * of the earlier one has expired: a mirror that nobody keeps up is anybody's.
 *
 *   mirror_batch_begin(&batch, run, generation, started);
 *   while (room) mirror_batch_add(&batch, &command);
 *   if (redis_command_end(&batch) == 0) send(batch.wire, batch.wire_size); */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_BATCH_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_BATCH_H

#include "server/prototype/redis_command.h"

/* started: ISO 8601, as in the hash, so that text order is time order. */
void mirror_batch_begin(struct redis_command *batch, const char *run, uint64_t generation, const char *started);
/* Appends a command that is complete but for redis_command_end. */
void mirror_batch_add(struct redis_command *batch, const struct redis_command *command);
/* Is this error reply the script's refusal of an older server? */
bool mirror_batch_superseded(const char *reply);

#endif
