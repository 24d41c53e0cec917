/* The first words on a connection, before the mirror writes: AUTH, SELECT and INFO, each when the one before has been
 * answered well, so that nothing else is said to what is no Redis, or not one for us. Without I/O.
 *
 *   mirror_greeting_begin(&g, &address, needed);
 *   while (mirror_greeting_next(&g, &command)) { send it; verdict = mirror_greeting_take(&g, reply); } */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_GREETING_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_GREETING_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include "proto/redis_address.h"
#include "proto/redis_info.h"
#include "server/prototype/redis_command.h"

enum { GREETING_REPLY_MAX = 262144 /* bytes; INFO has some 7 KB, more with many databases and modules */ };

enum greeting_verdict {
    GREETING_FINE,    /* so far */
    GREETING_REFUSED, /* by an error or by what no Redis says: this connection is over */
    GREETING_UNFIT,   /* so will every other one be */
};

struct mirror_greeting {
    const struct redis_address *address;
    uint64_t needed; /* bytes of Redis' memory */
    unsigned stage;
    bool unjudged;                    /* INFO is not allowed to us: it is taken on trust */
    struct redis_judgement judgement; /* after INFO */
    const char *kind;                 /* of a bad verdict: as in redis_link.h */
    char text[200], advice[192];
};

void mirror_greeting_begin(struct mirror_greeting *g, const struct redis_address *address, uint64_t needed);
/* Builds the next command; false when all has been said. */
bool mirror_greeting_next(struct mirror_greeting *g, struct redis_command *c);
enum greeting_verdict mirror_greeting_take(struct mirror_greeting *g, const redisReply *reply);

#endif
