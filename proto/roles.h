/* Who may send what, and subscribe to what. Roles come from a server's list of keys (proto/allow_list.h).
 * docs/PROTOCOL.md section 2 has the same table for people. */
#ifndef DECANT_PROTO_ROLES_H
#define DECANT_PROTO_ROLES_H

#include <stdbool.h>
#include "proto/msg.h"
#include "proto/server.h"

enum role {
    ROLE_NONE,   /* a key that is not listed (any more): nothing */
    ROLE_VIEWER, /* looks: HELLO, PING, MIXTURE_GET, without touching the run */
    ROLE_CLIENT, /* a stream client of the prototype server: also STATS there; a viewer elsewhere */
    ROLE_WORKER, /* everything */
    ROLE_END
};

const char *role_name(enum role r); /* "worker" ... */
/* The role of that name; ROLE_NONE when there is none. */
enum role role_parse(const char *name);
/* What a viewer sends says nothing that a server acts upon: no worker and no scalars. */
bool role_may_send(enum role r, enum server to, const struct msg *m);
/* topic: a subscription, which takes every publication whose topic begins with it. Weights are for workers, everything
 * else is for all roles. */
bool role_may_subscribe(enum role r, enum server to, const void *topic, size_t size);

#endif
