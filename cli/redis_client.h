/* A connection to a Redis for a command that waits for it. Every wait ends at one deadline and every reply is bounded
 * (proto/redis_reader.h), whoever answers there.
 *
 *   redis_client_open(&address, 3000, &c, &e);
 *   redis_client_append(c, "EXISTS decant:%s", run);     // as often as there are replies to be read
 *   redis_client_reply(c, &reply, &e);  ...  freeReplyObject(reply);
 *   redis_client_close(&c); */
#ifndef DECANT_CLI_REDIS_CLIENT_H
#define DECANT_CLI_REDIS_CLIENT_H

#include <hiredis/hiredis.h>
#include <stdarg.h>
#include "common/error.h"
#include "proto/redis_address.h"

struct redis_client;

/* Connected, logged in, and at its database. within_ms: for this and all that follows until redis_client_allow. Looking
 * up a name comes on top: it takes as long as the resolver lets it. ERR_IO, ERR_FORMAT, ERR_MEMORY. */
int redis_client_open(const struct redis_address *a, int within_ms, struct redis_client **out, struct error *e);
/* From now on, within_ms for all that follows. */
void redis_client_allow(struct redis_client *c, int within_ms);
/* As redisCommand: %s and %b are arguments of their own. 0 or ERR_MEMORY. */
int redis_client_append(struct redis_client *c, const char *format, ...);
int redis_client_vappend(struct redis_client *c, const char *format, va_list args);
/* The next reply, to be freed with freeReplyObject; an error reply is a reply. */
int redis_client_reply(struct redis_client *c, redisReply **reply, struct error *e);
void redis_client_close(struct redis_client **out);

#endif
