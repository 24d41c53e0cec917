/* Is somebody at an endpoint, and if not, could a server of this machine be? Found out by connecting, and by
 * binding. */
#ifndef DECANT_CLI_PRESENCE_H
#define DECANT_CLI_PRESENCE_H

#include <stdbool.h>
#include "common/error.h"

enum presence {
    LISTENING, /* somebody does */
    FREE,      /* nobody does, and this machine could */
    ELSEWHERE, /* nobody does, and the address is another machine's */
    UNREACHABLE,
    UNUSABLE, /* not an address, or not allowed here */
};

/* endpoint: as in net.*, as the server writes it: a host name, an address, "*" or an interface. *why: what is wrong,
 * when something is. Waits 2 s at most for each of its addresses. */
enum presence presence_of(const char *endpoint, struct error *why);
/* Whoever listens there greets as ZeroMQ does, which speaks first: not an HTTP server, such as those of metrics.*.
 * Waits a second at most. */
bool presence_greets(const char *endpoint);
/* The same for a server that is about to start on this machine: whether it could listen there is found out by binding
 * alone, which takes no time, and LISTENING means that another process does. Never UNREACHABLE. */
enum presence presence_to_bind(const char *endpoint, struct error *why);

#endif
